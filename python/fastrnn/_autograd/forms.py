"""The forms that a call may have, as the one in which `vmap.py` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .. import _torch
from .._call import ragged_checks
from .._call.arguments import Arguments, Layout, is_single_step
from .._call.weights import by_direction, flat
from .ragged import Packing, active_steps, packing_of_lengths, packing_of_sizes

__all__ = ["Form"]


class Form:
    """A call as calls of single layers over padded batches [T, B, I], and the way back.

    A single step is a sequence of one; a packed batch gets ``lengths``. What the input holds past
    the end of a sequence is replaced by zeros: derivatives multiply it by zero.
    """

    def __init__(self, layout: Layout, arguments: Arguments) -> None:
        data, hx, cx, batch_sizes, row_index, self.lengths, resets, *_ = arguments
        self.layout, self.states = layout, [hx, cx]
        self.weights, self.masks = arguments.weights, arguments.masks
        self.resets = None if resets is None else resets.to(data.device)
        self.single_step = is_single_step(data, batch_sizes)
        self.packing: Packing | None = None
        self.data: Tensor
        self.rows = None if batch_sizes is None else len(data)
        if batch_sizes is not None:
            _check_packed(data, batch_sizes, row_index, layout.batch)
            self.packing = packing_of_sizes(batch_sizes.to(data.device), row_index, layout.batch)
            self.data, self.lengths = self.packing.pad(data), self.packing.lengths
        elif self.single_step:
            self.data = data[None]
            self.states = [None if state is None else state[None] for state in (hx, cx)]
        else:
            self.data = data.transpose(0, 1) if layout.batch_first else data
            if self.lengths is not None:
                past = ~active_steps(self.lengths, len(self.data))
                self.data = self.data.masked_fill(past[..., None], 0)

    def layer(self, number: int, data: Tensor) -> tuple[Layout, Arguments]:
        """The layout and the tensors of a layer with the input ``data``."""
        spec = self.layout.spec
        own = slice(number * spec.directions, (number + 1) * spec.directions)
        if number and spec.inputs_size:
            data = torch.cat([data, self.data[..., spec.input_size :]], -1)
        hx, cx = (None if state is None else state[own] for state in self.states)
        weights = flat(by_direction(spec, self.weights)[number])
        features = data.shape[-1] - spec.inputs_size
        of_layer = replace(spec, input_size=features, num_layers=1, dropout=0.0)
        layout = Layout(of_layer, self.layout.batch, False, True, len(weights))
        arguments = Arguments(data, hx, cx, None, None, self.lengths, self.resets, weights, ())
        return layout, arguments

    def dropped(self, number: int, y: Tensor) -> Tensor:
        """The output of a layer as the next one sees it."""
        if number >= len(self.masks):
            return y
        mask: Tensor = self.masks[number]
        if mask.dim() == 2:  # of a packed batch, for more rows than there are
            if self.packing is None:
                self.packing = packing_of_lengths(self.lengths, len(self.data))
            mask = self.packing.pad(mask)
        return y * mask

    def as_given(self, y: Tensor, others: Sequence[Tensor]) -> list[Tensor | None]:
        """y, h_n, c_n, h_all and c_all as the caller has them; the last two may be missing."""
        if self.single_step:
            return [y[0], None, others[1].squeeze(0), None, None]  # an empty c_n stays as it is
        if self.packing is not None and self.rows is not None:
            y = self.packing.pack(y, self.rows)
        elif self.layout.batch_first:
            y = y.transpose(0, 1)
        return [y, *others, None, None][:5]


def _check_packed(data: Tensor, batch_sizes: Tensor, row_index: Tensor | None, batch: int) -> None:
    """`ragged_checks.check_packed`, unless a compiler does not know the values yet."""
    if not _torch.has_values(batch_sizes):
        return
    order = None if row_index is None else _torch.unwrapped(row_index)
    with _torch.below_transformations():
        ragged_checks.check_packed(data, _torch.unwrapped(batch_sizes), order, batch)
