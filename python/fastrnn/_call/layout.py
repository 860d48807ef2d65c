"""The tensors and options of a call in the one order that operators and transformations share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .spec import Spec, from_flat, to_flat

__all__ = [
    "ASK",
    "SINGLE",
    "Layout",
    "as_returned",
    "batch_of",
    "is_single_step",
    "joined",
    "of_present",
    "rows_of",
    "save",
    "save_present",
    "saved_by",
    "steps_of",
    "taken_apart",
]

SINGLE = 7
"""Tensors of a call before the lists of weights and of masks."""

ASK = -1
"""In the place of an operator's ``batch``: as many as its tensors have."""


@dataclass(frozen=True)
class Layout:
    """What a call consists of besides its tensors.

    The tensors of a call always stand in one order: data, hx, cx, batch_sizes, row_index, lengths,
    resets, then ``num_weights`` weights, then masks. ``needed`` says for data, hx, cx and the
    weights which gradients backward is to compute.
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
        """Where those tensors stand that may have gradients."""
        return (0, 1, 2, *range(SINGLE, self.weights_end))

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of an operator."""
        return (
            *tensors[:SINGLE],
            list(tensors[SINGLE : self.weights_end]),
            list(tensors[self.weights_end :]),
            self.batch,
            self.batch_first,
            self.states,
            *to_flat(self.spec),
        )

    def shapes(self, tensors: Sequence[Any]) -> list[tuple[int, ...] | None]:
        """Of y, h_n, c_n, h_all and c_all; None for one that there is not."""
        data, batch_sizes, spec = tensors[0], tensors[3], self.spec
        directions = 2 if spec.bidirectional else 1
        out = spec.proj_size or spec.hidden_size
        count = spec.num_layers * directions
        y = (*data.shape[:-1], directions * out)
        has_cell_state = spec.cell == "lstm"
        if is_single_step(data, batch_sizes):
            c_n = (self.batch, spec.hidden_size)
            return [y, None, c_n if has_cell_state else None, None, None]
        steps = steps_of(data, self.batch_first, batch_sizes)
        widths = (out, spec.hidden_size if has_cell_state else None)
        finals = [None if width is None else (count, self.batch, width) for width in widths]
        everything = [
            None if width is None or not self.states else (count, steps, self.batch, width)
            for width in widths
        ]
        return [y, *finals, *everything]


def of_present(layout: Layout, tensors: Sequence[Any], of_outputs: Sequence[Any]) -> list[Any]:
    """What belongs to an operator's outputs, in five places; None for those that there are not."""
    shapes = layout.shapes(tensors)
    return [
        value if shape is not None else None
        for value, shape in zip(of_outputs, shapes, strict=False)
    ]


def as_returned(
    y: Any, h_n: Tensor, c_n: Tensor | None, h_all: Tensor | None, c_all: Tensor | None
) -> tuple[Any, ...]:
    """The outputs in torch's form: states are pairs, or h alone where there is no c."""
    final = h_n if c_n is None else (h_n, c_n)
    if h_all is None:
        return y, final
    return y, final, h_all if c_all is None else (h_all, c_all)


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """One after the other; no copy of one that is alone."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def taken_apart(arguments: Sequence[Any]) -> tuple[Layout, list[Any]]:
    """The layout and the tensors of an operator's arguments."""
    *single, weights, masks, batch, batch_first, states = arguments[: SINGLE + 5]
    if isinstance(batch, int) and batch == ASK:
        data, hx, _, batch_sizes, row_index, *_ = single
        batch = batch_of(data, hx, batch_first, batch_sizes, row_index)
    spec = from_flat(arguments[SINGLE + 5 :])
    layout = Layout(spec, batch, batch_first, states, len(weights))
    return layout, [*single, *weights, *(masks or ())]  # AOTInductor has None for an empty list


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


def rows_of(tensors: Sequence[Any]) -> int:
    """How many rows there are at the most; with lengths they are a value and not a shape."""
    data: Tensor = tensors[0]
    return data.shape[0] if data.dim() == 2 else data.shape[0] * data.shape[1]


def save(ctx: Any, layout: Layout, tensors: Sequence[Any], kept: Tensor) -> None:
    """Everything that backward will need."""
    ctx.layout = layout
    ctx.set_materialize_grads(False)
    save_present(ctx, (kept, *tensors))


def save_present(ctx: Any, tensors: Sequence[Tensor | None]) -> None:
    """Save for backward what is there, and where: `saved_by` has the rest as None again.

    Whoever draws a graph, as torchviz does, takes a node's ``saved_tensors`` to be tensors.
    """
    present = [tensor for tensor in tensors if tensor is not None]
    everything = len(present) == len(tensors)
    ctx.is_present = None if everything else [tensor is not None for tensor in tensors]
    ctx.save_for_backward(*present)


def saved_by(ctx: Any) -> tuple[Any, ...]:
    """What `save_present` was given."""
    saved: tuple[Any, ...] = ctx.saved_tensors  # unpacked at every access
    if ctx.is_present is None:
        return saved
    present = iter(saved)
    return tuple([next(present) if there else None for there in ctx.is_present])
