"""What one direction of a layer meets in a call with masks and norms: its input and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._autograd.centred import centred
from .._call import masks
from .._call.regularised import Parts, Regularised, parts_of
from .._call.spec import Spec
from .._call.weights import Weights

__all__ = ["Call", "Direction", "Met", "met"]


class Direction(NamedTuple):
    """What a direction of a layer has learned: weights, and norms by the names of `norm_sizes`."""

    weights: Weights
    norms: Mapping[str, Tensor] = {}


class Call(NamedTuple):
    """What the layers of a stack have in common; ``spec`` describes it without ``options``."""

    spec: Spec
    options: Regularised
    training: bool
    batch_first: bool = False
    lengths: Any = None
    resets: Any = None
    states: bool = False
    centred: bool = False

    @property
    def parts(self) -> Parts | None:
        """What the cell does beside what it does without options."""
        return parts_of(self.spec, self.options, self.training, self.centred)


class Met(NamedTuple):
    """The arguments of a call of one direction.

    ``data`` has the features that meet ``w_ih`` and behind them what every step has of its own.
    """

    data: Tensor
    features: int
    weights: list[Tensor]
    bias: bool


def met(
    call: Call,
    parts: Parts | None,
    own: Direction,
    drawn: masks.OfDirection,
    data: Tensor,
    inputs: int,
    of_steps: Sequence[Tensor],
) -> Met:
    """What a direction meets.

    Parameters
    ----------
    call : Call
    parts : Parts, optional
        What its cell does.
    own : Direction
    drawn : masks.OfDirection
        Its masks; those that every step has its own of are ``of_steps``.
    data : Tensor [..., I]
        The input, masked; with separate masks of gates, one for each side by side.
    inputs : int
        How many masks the input has.
    of_steps : sequence of Tensor [..., H]
    """
    weights = own.weights
    if inputs > 1:  # each gate meets its own input
        of_gates = weights.w_ih.chunk(inputs)
        weights = weights._replace(w_ih=torch.block_diag(*of_gates))  # type: ignore[no-untyped-call]
    if drawn.weight is not None:
        weights = weights._replace(w_hh=weights.w_hh * drawn.weight)
    if parts is not None:
        weights = _with_norms(call, parts, own._replace(weights=weights))
    features = data.shape[-1]
    data = torch.cat([data, *of_steps], -1) if of_steps else data
    there = [one for one in weights if one is not None]
    return Met(data, features, there, weights.b_ih is not None)


def _with_norms(call: Call, parts: Parts, own: Direction) -> Weights:
    """The weights of a cell that does ``parts``, with all that it has learned as its vectors."""
    weights, vectors = own.weights, dict(own.norms)
    if parts.centred:
        groups = 1 if parts.norm_over == "all" else len(call.spec.gates)
        names = [n for n, own in (("w_ih", parts.norm_input), ("w_hh", parts.norm)) if own]
        found = centred([getattr(weights, name) for name in names], groups)
        weights = weights._replace(**dict(zip(names, found, strict=True)))
    if call.options.layer_norm:
        shift, shift_n = _shifts(parts, own)
        if shift_n is not None:
            vectors["shift_n"] = shift_n
        if parts.norm_input and shift is not None:  # biases would be added before the norm
            vectors["norm_ih_bias"], shift = shift, None
        nothing = None if shift is None else torch.zeros_like(shift)
        weights = weights._replace(b_ih=shift, b_hh=nothing)
    learned = [] if weights.w_ch is None else [weights.w_ch]
    learned += [vectors[name] for name in parts.vectors()]
    if not learned:
        return weights
    return weights._replace(w_ch=learned[0] if len(learned) == 1 else torch.cat(learned))


def _shifts(parts: Parts, own: Direction) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the normalised shares: to that of the input, and to the recurrent one of n.

    Where a gate adds its two shares it is all the same which of them has the biases and betas.
    """
    of_input = _sum([own.norms.get("norm_ih_bias"), own.weights.b_ih])
    recurrent = _sum([own.norms.get("norm_hh_bias"), own.weights.b_hh])
    if not parts.shifted or recurrent is None:
        return _sum([of_input, recurrent]), None
    r, z, n = recurrent.chunk(3)
    return _sum([of_input, torch.cat([r, z, torch.zeros_like(n)])]), n


def _sum(terms: Sequence[Tensor | None]) -> Tensor | None:
    there = [term for term in terms if term is not None]
    return None if not there else there[0] if len(there) == 1 else there[0] + there[1]
