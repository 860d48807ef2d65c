"""What one direction of a layer meets in a call with masks and norms: its input and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._autograd.normed import normed
from .._call import precision
from .._call.regularised import Parts, Regularised, parts_of
from .._call.spec import Spec
from .._call.weights import Weights
from . import masks

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

    def parts(self, centred: bool = False) -> Parts | None:
        """What the cell does beside what it does without options; see `parts_of`."""
        return parts_of(self.spec, self.options, self.training, centred)


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
        of_all: Tensor = torch.block_diag(*of_gates)  # type: ignore[no-untyped-call]
        weights = weights.with_matrices(of_all, weights.w_hh)
    if drawn.weight is not None:
        weights = weights.with_matrices(weights.w_ih, weights.w_hh * drawn.weight)
    if parts is not None:
        weights = normed(parts, len(call.spec.gates), weights, own.norms)
    features = data.shape[-1]
    data = precision.joined([data, *of_steps], -1) if of_steps else data
    there = [one for one in weights if one is not None]
    return Met(data, features, there, weights.b_ih is not None)
