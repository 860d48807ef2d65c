"""What a cell with norms meets, made of what its direction has learned by one node of a graph.

torch's own operations would be a node each, which takes longer than what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _torch
from .._call import precision
from .._call.regularised import Parts
from .._call.weights import Weights
from .._engine import native
from . import operators

__all__ = ["normed"]

_MADE = ("w_ih", "w_hh", "b_ih", "w_ch")
_OF_INPUT, _RECURRENT = ("b_ih", "norm_ih_bias"), ("b_hh", "norm_hh_bias")
"""What is added to a normalised share."""


def normed(parts: Parts, gates: int, weights: Weights, norms: Mapping[str, Tensor]) -> Weights:
    """The weights of a cell that does ``parts``.

    Parameters
    ----------
    parts : Parts
    gates : int
    weights : Weights
        Those of a direction.
    norms : mapping of str to Tensor
        By the names of `norm_sizes`.

    Returns
    -------
    Weights
        The matrices of normalised shares less their mean over all rows, or over those of each gate,
        where ``parts`` says so: what they make of a state has the mean 0. In the place of b_ih what
        is added to both shares, of b_hh zeros, of w_ch all vectors of the cell.
    """
    shares = parts.norm or parts.norm_input
    if not (shares or parts.norm_cell != "none"):
        return weights
    names = [*_centred(parts), *(("b_ih", "b_hh") if shares else ()), "w_ch"]
    there = [name for name in names if getattr(weights, name) is not None]
    own = {name: getattr(weights, name) for name in there}
    own.update(norms)
    peepholes = 0 if weights.w_ch is None else len(weights.w_ch)
    how = _How(parts, gates, weights.w_ih.shape[0], peepholes, tuple(own))
    alone = operators.is_watched() or not torch.is_grad_enabled()
    w_ih, w_hh, shift, vectors = how.made(*own.values()) if alone else _apply(how, *own.values())
    b_ih, b_hh = weights.b_ih, weights.b_hh
    if shares:
        b_ih, b_hh = shift, None if shift is None else torch.zeros_like(shift)
    w_ih, w_hh = (
        one if made is None else made for one, made in ((weights.w_ih, w_ih), (weights.w_hh, w_hh))
    )
    return Weights(w_ih, w_hh, b_ih, b_hh, weights.w_hr, vectors)


class _How(NamedTuple):
    """What is made of what.

    ``rows`` are those of all gates, ``peepholes`` the numbers of w_ch, ``names`` those of what is
    given, in its order.
    """

    parts: Parts
    gates: int
    rows: int
    peepholes: int
    names: tuple[str, ...]

    def made(self, *tensors: Tensor) -> tuple[Any, ...]:
        """By `_MADE`; None where it is not made anew."""
        own: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        names = _centred(self.parts)
        found = dict(zip(names, self._less_means([own[name] for name in names]), strict=True))
        if self.parts.norm or self.parts.norm_input:
            shift, own["shift_n"] = self._shifts(own)
            if self.parts.norm_input:  # biases would be added before the norm
                own["norm_ih_bias"], shift = shift, None
            found["b_ih"] = shift
        learned = [own[name] for name in self._vectors()]
        if learned:
            found["w_ch"] = learned[0] if len(learned) == 1 else precision.joined(learned)
        return tuple(found.get(name) for name in _MADE)

    def gradients(self, d_made: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
        """Those of the tensors that are given, from those of what is made of them."""
        own = dict(zip(_MADE, d_made, strict=True))
        wanted = dict(zip(self.names, needed, strict=True))
        names = [name for name in _centred(self.parts) if wanted[name]]
        found: dict[str, Any] = dict(
            zip(names, self._less_means([own[n] for n in names]), strict=True)
        )
        sizes = self._vectors()
        if sizes:
            found |= zip(sizes, own["w_ch"].split(list(sizes.values())), strict=True)
        shift: Any = found.get("norm_ih_bias") if self.parts.norm_input else own["b_ih"]
        recurrent = shift
        if "shift_n" in sizes:
            n = found["shift_n"]
            recurrent = precision.joined([shift[: -len(n)], n])
        found |= dict.fromkeys(_OF_INPUT, shift) | dict.fromkeys(_RECURRENT, recurrent)
        return [found[name] if wanted[name] else None for name in self.names]

    def _vectors(self) -> dict[str, int]:
        """Names and sizes of what stands in w_ch."""
        units = self.rows // self.gates
        found = {
            name: self.rows if kind == "gate" else units
            for name, kind in self.parts.vectors().items()
        }
        return {"w_ch": self.peepholes, **found} if self.peepholes else found

    def _shifts(self, own: Mapping[str, Any]) -> tuple[Any, Any]:
        """What is added to the normalised shares, and to the recurrent one of n apart.

        Where a gate adds its two shares it is all the same which of them has the biases and betas.
        """
        of_input, recurrent = (
            _sum([own.get(name) for name in names]) for names in (_OF_INPUT, _RECURRENT)
        )
        if not self.parts.shifted or recurrent is None:
            return _sum([of_input, recurrent]), None
        r, z, n = recurrent.chunk(3)
        return _sum([of_input, precision.joined([r, z, torch.zeros_like(n)])]), n

    def _less_means(self, matrices: list[Tensor]) -> list[Tensor]:
        """Less their mean over all rows, or over those of each gate."""
        groups = 1 if self.parts.norm_over == "all" else self.gates
        found = _by_the_engine(matrices, groups) if matrices else None
        return [_less_mean(matrix, groups) for matrix in matrices] if found is None else found


def _by_the_engine(matrices: list[Tensor], groups: int) -> list[Tensor] | None:
    """The same on the CPU; None where somebody has to see operations of torch's."""
    if torch.is_grad_enabled() or operators.is_watched() or matrices[0].is_cuda:
        return None
    tensors = native.tensors()
    if tensors is None:
        return None
    return tensors.centred(matrices, groups, torch.get_num_threads())


def _centred(parts: Parts) -> list[str]:
    """The matrices that get the mean 0."""
    each = (("w_ih", parts.norm_input), ("w_hh", parts.norm))
    return [name for name, on in each if on and parts.centred]


def _less_mean(matrix: Tensor, groups: int) -> Tensor:
    matrix = matrix.contiguous()  # of others torch adds up in an order that its threads have
    if groups == 1:
        return matrix - matrix.mean(0)
    apart = matrix.reshape(groups, -1, matrix.shape[1])  # torch cannot batch its unflatten
    return (apart - apart.mean(1, keepdim=True)).reshape(matrix.shape)


def _sum(terms: Sequence[Any]) -> Any:
    there = [term for term in terms if term is not None]
    return None if not there else there[0] if len(there) == 1 else there[0] + there[1]


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, how: _How, *tensors: Tensor) -> tuple[Any, ...]:
        ctx.how = how
        made = how.made(*tensors)
        needed = dict(zip(how.names, ctx.needs_input_grad[1:], strict=True))
        fixed = [made[_MADE.index(name)] for name in _centred(how.parts) if not needed[name]]
        ctx.mark_non_differentiable(*fixed)
        return made

    @staticmethod
    def backward(ctx: Any, *d_made: Any) -> tuple[Any, ...]:
        return None, *ctx.how.gradients(d_made, ctx.needs_input_grad[1:])


_apply = _torch.apply_untransformed(_Normed)
