"""What a cell with norms meets, made of what its direction has learned by one node of a graph.

torch's own operations would be a node each, which takes longer than what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _core, _torch
from .._call import precision
from .._call.regularised import Parts
from .._call.weights import Weights
from .._engine import native
from . import operators

__all__ = ["Making", "making", "normed"]

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
    own = {name: one for name, one in zip(Weights._fields, weights, strict=True) if one is not None}
    peepholes = 0 if weights.w_ch is None else len(weights.w_ch)
    traced = torch.compiler.is_dynamo_compiling()
    how = (making.__wrapped__ if traced else making)(
        parts, gates, weights.w_ih.shape[0], peepholes, (*own, *norms)
    )
    own.update(norms)
    return weights if how is None else how.weights(own)


@lru_cache(maxsize=256)
def making(
    parts: Parts, gates: int, rows: int, peepholes: int, names: tuple[str, ...]
) -> Making | None:
    """How the weights of a cell that does ``parts`` are made; None if they are the layer's own.

    ``rows`` are those of all gates, ``peepholes`` the numbers of w_ch, ``names`` those of what a
    direction has.
    """
    if not (parts.norm or parts.norm_input or parts.norm_cell != "none"):
        return None
    return Making(parts, gates, rows, peepholes, names)


class Making:
    """What is made of what; see `making`."""

    def __init__(
        self, parts: Parts, gates: int, rows: int, peepholes: int, names: tuple[str, ...]
    ) -> None:
        self.groups = 1 if parts.norm_over == "all" else gates
        self.centred = _centred(parts)
        self.vectors = _vectors(parts, rows, gates, peepholes, names)
        self.d_vectors = _gradients(self.vectors)
        self.names = (*self.centred, *self.d_vectors)
        shares = parts.norm or parts.norm_input
        self.bias = "b_ih" in (self.vectors if shares else names)
        self._fixed = [name for name in Weights._fields if name not in self.vectors]
        if shares:
            self._fixed = [name for name in self._fixed if name not in ("b_ih", "b_hh")]

    def weights(self, own: Mapping[str, Tensor]) -> Weights:
        """Those of the cell, of what a direction has, by name."""
        given = [own[name] for name in self.names]
        alone = operators.is_watched() or not torch.is_grad_enabled()
        made = self.made(*given) if alone else _apply(self, *given)
        found: dict[str, Any] = {name: own.get(name) for name in self._fixed}
        found.update((name, one) for name, one in zip(_MADE, made, strict=True) if one is not None)
        if "b_ih" in self.vectors:
            found["b_hh"] = torch.zeros_like(found["b_ih"])
        return Weights(*map(found.get, Weights._fields))

    def made(self, *tensors: Tensor) -> tuple[Any, ...]:
        """By `_MADE`; None where it is not made anew."""
        own: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        found = dict(
            zip(self.centred, self._less_means([own[name] for name in self.centred]), strict=True)
        )
        for name, joined in self.vectors.items():
            found[name] = joined.of(own)
        return tuple(found.get(name) for name in _MADE)

    def gradients(self, d_made: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
        """Those of the tensors that are given, from those of what is made of them."""
        own = dict(zip(_MADE, d_made, strict=True))
        wanted = [name for name, need in zip(self.names, needed, strict=True) if need]
        matrices = [name for name in self.centred if name in wanted]
        found: dict[str, Any] = dict(
            zip(matrices, self._less_means([own[name] for name in matrices]), strict=True)
        )
        for name, joined in self.d_vectors.items():
            if name in wanted:
                found[name] = joined.of(own)
        return [found.get(name) for name in self.names]

    def _less_means(self, matrices: list[Tensor]) -> list[Tensor]:
        """Less their mean over all rows, or over those of each gate."""
        if not matrices:
            return []
        tensors = _engine_for(matrices[0])
        found = None
        if tensors is not None:
            found = tensors.centred(matrices, self.groups, torch.get_num_threads())
        return [_less_mean(one, self.groups) for one in matrices] if found is None else found


def _engine_for(tensor: Tensor) -> _core.Tensors | None:
    """Who makes it on the CPU; None where somebody has to see operations of torch's."""
    if torch.is_grad_enabled() or operators.is_watched() or tensor.is_cuda:
        return None
    return native.tensors()


def _centred(parts: Parts) -> tuple[str, ...]:
    """The matrices that get the mean 0."""
    each = (("w_ih", parts.norm_input), ("w_hh", parts.norm))
    return tuple(name for name, on in each if on and parts.centred)


def _less_mean(matrix: Tensor, groups: int) -> Tensor:
    matrix = matrix.contiguous()  # of others torch adds up in an order that its threads have
    if groups == 1:
        return matrix - matrix.mean(0)
    apart = matrix.reshape(groups, -1, matrix.shape[1])  # torch cannot batch its unflatten
    return (apart - apart.mean(1, keepdim=True)).reshape(matrix.shape)


class _Piece(NamedTuple):
    """The elements ``begin`` .. ``end`` of some vectors, added up in this order."""

    names: tuple[str, ...]
    begin: int
    end: int


class _Joined:
    """A vector put together from pieces, one after the other, of vectors of these sizes."""

    def __init__(self, pieces: Sequence[_Piece], sizes: Mapping[str, int]) -> None:
        self.pieces = pieces
        self.names = list(dict.fromkeys(name for piece in pieces for name in piece.names))
        self.sizes = [sizes[name] for name in self.names]
        self.size = sum(piece.end - piece.begin for piece in pieces)
        self._sums: Any = None

    def of(self, own: Mapping[str, Any]) -> Tensor:
        vectors = [own[name] for name in self.names]
        found: Tensor | None = self._by_the_engine(vectors)
        if found is not None:
            return found
        for name, size, vector in zip(self.names, self.sizes, vectors, strict=True):
            if vector.shape != (size,):
                raise RuntimeError(f"{name}: expected shape ({size},), got {tuple(vector.shape)}")
        return precision.joined([_sum(piece, own, vectors[0]) for piece in self.pieces])

    def _by_the_engine(self, vectors: list[Tensor]) -> Any:
        """The same on the CPU; None where somebody has to see operations of torch's."""
        tensors = _engine_for(vectors[0])
        if tensors is None:
            return None
        if self._sums is None:
            places = {name: place for place, name in enumerate(self.names)}
            self._sums = _core.Sums(
                [([places[name] for name in names], b, e) for names, b, e in self.pieces],
                self.sizes,
            )
        return self._sums.of(tensors, vectors)


def _sum(piece: _Piece, own: Mapping[str, Any], like: Tensor) -> Tensor:
    terms = [own[name][piece.begin : piece.end] for name in piece.names]
    if not terms:
        return like.new_zeros(piece.end - piece.begin)
    total: Tensor = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _vectors(
    parts: Parts, rows: int, gates: int, peepholes: int, names: Sequence[str]
) -> dict[str, _Joined]:
    """b_ih, which has what is added to the normalised shares, and w_ch, as far as they are made.

    Where a gate adds its two shares it is all the same which of them has the biases and betas; the
    gate n of a GRU does not.
    """
    of_input, recurrent = (
        tuple(name for name in both if name in names) for both in (_OF_INPUT, _RECURRENT)
    )
    units = rows // gates
    apart = parts.shifted and bool(recurrent)
    shift = [_Piece(of_input + recurrent, 0, rows)]
    if apart:
        n = rows - units
        shift = [_Piece(of_input + recurrent, 0, n), _Piece(of_input, n, rows)]
    pieces = [_Piece(("w_ch",), 0, peepholes)] if peepholes else []
    for name, kind in parts.vectors().items():
        if name == "norm_ih_bias":  # biases would be added before the norm
            pieces += shift
        elif name == "shift_n":
            pieces.append(_Piece(recurrent, rows - units, rows))
        else:
            pieces.append(_Piece((name,), 0, rows if kind == "gate" else units))
    sizes = {piece.names[0]: piece.end for piece in pieces if piece.names}
    sizes.update(dict.fromkeys((*of_input, *recurrent), rows))
    found = {}
    if parts.norm and not parts.norm_input and (of_input or recurrent):
        found["b_ih"] = _Joined(shift, sizes)
    if pieces:
        found["w_ch"] = _Joined(pieces, sizes)
    return found


def _gradients(made: Mapping[str, _Joined]) -> dict[str, _Joined]:
    """Of the vectors that something is made of: each is in pieces of those of what is made."""
    found: dict[str, list[tuple[int, _Piece]]] = {}
    for of, joined in made.items():
        at = 0
        for piece in joined.pieces:
            end = at + piece.end - piece.begin
            for name in piece.names:
                found.setdefault(name, []).append((piece.begin, _Piece((of,), at, end)))
            at = end
    sizes = {name: joined.size for name, joined in made.items()}
    return {
        name: _Joined([piece for _, piece in sorted(each)], sizes) for name, each in found.items()
    }


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, how: Making, *tensors: Tensor) -> tuple[Any, ...]:
        ctx.how = how
        made = how.made(*tensors)
        needed = dict(zip(how.names, ctx.needs_input_grad[1:], strict=True))
        fixed = [made[_MADE.index(name)] for name in how.centred if not needed[name]]
        ctx.mark_non_differentiable(*fixed)
        return made

    @staticmethod
    def backward(ctx: Any, *d_made: Any) -> tuple[Any, ...]:
        return None, *ctx.how.gradients(d_made, ctx.needs_input_grad[1:])


_apply = _torch.apply_untransformed(_Normed)
