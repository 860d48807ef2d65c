"""A call as data: its tensors by name, what else it consists of, and what it returns.

Operators and autograd functions take tensors in one flat order: data, hx, cx, batch_sizes,
row_index, lengths, resets, the weights, the masks. `Arguments` has them by name, and the way from
one to the other is here alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .spec import Outputs, Spec, from_flat, to_flat

__all__ = [
    "ASK",
    "SINGLE",
    "Arguments",
    "Kept",
    "Layout",
    "as_returned",
    "batch_of",
    "is_single_step",
    "present",
    "rows_of",
    "steps_of",
    "taken_apart",
]

SINGLE = 7
"""Tensors of a call before the lists of weights and of masks."""

ASK = -1
"""In the place of an operator's ``batch``: as many as its tensors have."""


class Arguments(NamedTuple):
    """The tensors of a call, as `fastrnn.reference.rnn` describes them; None for what is not.

    Older compilers of torch's trace neither properties nor slices of it, nor ``_replace``.
    """

    data: Any
    hx: Any
    cx: Any
    batch_sizes: Any = None
    row_index: Any = None
    lengths: Any = None
    resets: Any = None
    weights: Sequence[Any] = ()
    masks: Sequence[Any] = ()

    def inputs(self) -> tuple[Any, ...]:
        """Those that may have gradients: data, hx, cx and the weights."""
        return (self.data, self.hx, self.cx, *self.weights)

    def with_inputs(self, inputs: Iterable[Any]) -> Arguments:
        """The same call of other `inputs`."""
        data, hx, cx, *weights = inputs
        return self._with(data, hx, cx, weights, self.masks)

    def with_masks(self, masks: Sequence[Any]) -> Arguments:
        """The same call with other masks."""
        return self._with(self.data, self.hx, self.cx, self.weights, masks)

    def _with(self, data: Any, hx: Any, cx: Any, weights: Any, masks: Any) -> Arguments:
        ragged = self.batch_sizes, self.row_index, self.lengths, self.resets
        return Arguments(data, hx, cx, *ragged, weights, masks)

    @property
    def flat(self) -> tuple[Any, ...]:
        """All tensors in one order."""
        return (*self[:SINGLE], *self.weights, *self.masks)


class Kept(NamedTuple):
    """What forward leaves for backward."""

    block: Tensor
    """Bytes, which autograd saves."""
    plan: Any = None
    """What needs no watching; None: worked out again."""


@dataclass(frozen=True)
class Layout:
    """What a call consists of besides its tensors.

    ``needed`` says for data, hx, cx and the weights which gradients backward is to compute.
    """

    spec: Spec
    batch: int
    batch_first: bool
    states: bool
    num_weights: int
    needed: tuple[bool, ...] = ()

    @property
    def weights_end(self) -> int:
        return SINGLE + self.num_weights

    @property
    def trained(self) -> tuple[int, ...]:
        """Where those tensors stand in the flat order that may have gradients."""
        return (0, 1, 2, *range(SINGLE, self.weights_end))

    def named(self, flat: Sequence[Any]) -> Arguments:
        """The tensors by name, out of the flat order."""
        end = self.weights_end
        return Arguments._make((*flat[:SINGLE], flat[SINGLE:end], flat[end:]))

    def of_operator(self, arguments: Arguments) -> tuple[Any, ...]:
        """The arguments of an operator."""
        *single, weights, masks = arguments
        return (
            *single,
            list(weights),
            list(masks),
            self.batch,
            self.batch_first,
            self.states,
            *to_flat(self.spec),
        )


def taken_apart(of_operator: Sequence[Any]) -> tuple[Layout, Arguments]:
    """The layout and the tensors of an operator's arguments."""
    *single, weights, masks, batch, batch_first, states = of_operator[: SINGLE + 5]
    if isinstance(batch, int) and batch == ASK:
        data, hx, _, batch_sizes, row_index, *_ = single
        batch = batch_of(data, hx, batch_first, batch_sizes, row_index)
    spec = from_flat(of_operator[SINGLE + 5 :])
    layout = Layout(spec, batch, batch_first, states, len(weights))
    # AOTInductor has None for an empty list.
    return layout, Arguments._make((*single, weights, masks or ()))


def present(spec: Spec, states: bool, single_step: bool, of_outputs: Sequence[Any]) -> Outputs:
    """What belongs to the outputs of a call; None for those that it has not.

    h_n of a single step is y, and none of its own.
    """
    y, h_n, c_n, h_all, c_all = of_outputs[:5]
    return Outputs(
        y,
        None if single_step else h_n,
        c_n if spec.has_cell_state else None,
        h_all if states else None,
        c_all if states and spec.has_cell_state else None,
    )


def as_returned(
    y: Any, h_n: Tensor, c_n: Tensor | None, h_all: Tensor | None, c_all: Tensor | None
) -> tuple[Any, ...]:
    """The outputs in torch's form: states are pairs, or h alone where there is no c."""
    final = h_n if c_n is None else (h_n, c_n)
    if h_all is None:
        return y, final
    return y, final, h_all if c_all is None else (h_all, c_all)


def is_single_step(data: Tensor, batch_sizes: Tensor | None) -> bool:
    return batch_sizes is None and data.dim() == 2


def steps_of(data: Tensor, batch_first: bool, batch_sizes: Tensor | None) -> int:
    if batch_sizes is not None:
        return batch_sizes.shape[0]
    return data.shape[1 if batch_first else 0]


def batch_of(
    data: Tensor,
    hx: Any,
    batch_first: bool,
    batch_sizes: Tensor | None,
    row_index: Tensor | None,
) -> int:
    """B, of a packed batch from a shape if any tells it: its sizes are values, not shapes."""
    if batch_sizes is None:
        return data.shape[0 if batch_first or data.dim() == 2 else 1]
    if row_index is not None:
        return row_index.shape[0]
    state = hx[0] if isinstance(hx, (tuple, list)) else hx
    batch: int = int(batch_sizes[0]) if state is None else state.shape[1]
    return batch


def rows_of(data: Tensor) -> int:
    """How many rows there are at the most; with lengths they are a value and not a shape."""
    return data.shape[0] if data.dim() == 2 else data.shape[0] * data.shape[1]
