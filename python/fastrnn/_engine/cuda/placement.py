"""Where the rows of a call lie on a GPU, and how its states and masks are ordered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._call.batch import Batch
from .. import cuda
from ..addresses import Place
from .engine import ABSENT

__all__ = ["Placement"]


class Placement:
    """A batch in which rows stay where the caller has them.

    Each knows on the device whether it takes part in a step.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.spec = batch.spec
        self.T, self.B = batch.T, batch.B
        self.directions, self.out = batch.directions, batch.out
        self.single_step, self.has_cell_state = batch.single_step, batch.has_cell_state
        self.states = batch.states
        self.in_order = batch.row_index is None
        """Whether rows are in the order of the batch."""

    def prepared(self, data: Tensor) -> Tensor:
        """The input with zeros where nothing may be read."""
        if self.batch.lengths is None:
            return data
        steps = torch.arange(self.T, device=data.device)
        past = steps[:, None] >= self.batch.lengths
        return data.masked_fill((past.t() if self.batch.batch_first else past)[..., None], 0)

    def sequence(self) -> Any:
        batch = self.batch
        sizes = [] if batch.batch_sizes is None else batch.batch_sizes.tolist()
        lengths = 0 if batch.lengths is None else batch.lengths.data_ptr()
        resets = ABSENT if batch.resets is None else (batch.resets.data_ptr(), self.B, 1)
        return cuda.extension().Sequence(self.T, self.B, sizes, lengths, resets)

    @property
    def is_uniform(self) -> bool:
        """Whether all rows take part in all steps, and nothing is asked of single ones."""
        batch = self.batch
        ragged = batch.batch_sizes, batch.lengths, batch.resets
        return not self.states and all(one is None for one in ragged)

    def span(self, steps: int) -> Any:
        """The sequence of some steps of a uniform batch."""
        return cuda.extension().Sequence(steps, self.B, [], 0, ABSENT)

    def steps_of(self, steps: Tensor, first: int, count: int) -> Tensor:
        """Some steps of a tensor that is laid out as the input of a uniform batch."""
        return steps.narrow(1 if self.batch.batch_first else 0, first, count)

    def is_reversed(self, direction: int) -> bool:
        return direction == 1 or self.spec.variant.reverse

    def like_data(self, rows: Tensor, data: Tensor) -> Tensor:
        return rows.view(*data.shape[:-1], rows.shape[-1])

    def at(self, address: int, width: int, steps: int | None = None) -> tuple[int, int, int]:
        """Where columns lie of rows of ``width`` one after the other, laid out as the input is.

        ``steps``: how many the tensor has, if not all.
        """
        if self.batch.packed or self.single_step:
            return address, 0, width
        if self.batch.batch_first:
            return address, width, (self.T if steps is None else steps) * width
        return address, self.B * width, width

    def at_own(self, steps: Tensor | None) -> tuple[int, int, int]:
        """Where a tensor of all steps lies that has strides of its own."""
        if steps is None:
            return ABSENT
        return Place(steps, steps.data_ptr()).strides(self.batch.batch_first)

    def by_row(self, states: Tensor | None) -> Tensor | None:
        """States [L*D, B, ...] in the order of the rows."""
        if states is None or self.single_step:
            return None if states is None else states[None]
        return states if self.batch.row_index is None else states.index_select(1, self._order)

    def by_entry(self, states: Tensor, into: Tensor) -> None:
        """The inverse of `by_row`, into a tensor of the caller's."""
        into = into[None] if self.single_step else into
        if self.batch.row_index is None:
            into.copy_(states)
        else:
            into.index_copy_(1, self._order, states.to(into.dtype))

    @property
    def _order(self) -> Tensor:
        assert self.batch.row_index is not None
        return self.batch.row_index

    def masked(self, layer: int, y: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """A layer's output, or the gradient of its dropped one, times the mask; rows.

        Masks are drawn by step and batch entry, whatever the layout of the input.
        """
        if not masks:
            return y
        mask = masks[layer]
        if self.batch.batch_first:
            mask = mask.transpose(0, 1)
        return (y.view(mask.shape) * mask).view(y.shape)

    def _packed_places(self, device: torch.device) -> Tensor:
        """Where each packed row lies in [T * B], by step and batch entry."""
        assert self.batch.batch_sizes is not None
        steps = torch.repeat_interleave(torch.arange(self.T, device="cpu"), self.batch.batch_sizes)
        first = torch.cumsum(self.batch.batch_sizes, 0) - self.batch.batch_sizes
        rows = (torch.arange(len(steps), device="cpu") - first[steps]).to(device, non_blocking=True)
        entries = rows if self.batch.row_index is None else self._order[rows]
        return steps.to(device, non_blocking=True) * self.B + entries

    def spread_states(self, rows: Tensor, into: Tensor, data: Tensor) -> None:
        """States of all rows, to [T, B, width] by batch entry."""
        if self.batch.packed:
            places = self._packed_places(data.device)
            into.view(-1, into.shape[-1]).index_copy_(0, places, rows.to(into.dtype))
        else:
            steps = rows.view(*data.shape[:-1], rows.shape[-1])
            into.copy_(steps.transpose(0, 1) if self.batch.batch_first else steps)

    def gathered_states(self, states: Tensor, data: Tensor) -> Tensor:
        """The inverse of `spread_states`, laid out as the input is."""
        if self.batch.packed:
            places = self._packed_places(data.device)
            return states.reshape(-1, states.shape[-1]).index_select(0, places)
        return states.transpose(0, 1) if self.batch.batch_first else states
