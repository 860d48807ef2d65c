"""Ragged batches in two forms: padded, [T, B, ...], and packed, rows [N, ...] in order of time.

Everything here may be transformed by ``torch.func``: no size depends on a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packing", "active_steps", "packing_of_lengths", "packing_of_sizes"]


@dataclass(frozen=True)
class Packing:
    """Which of the packed rows each step of each sequence is, wherever it is ``active``; [T, B]."""

    row: Tensor
    active: Tensor

    @property
    def lengths(self) -> Tensor:
        """[B]."""
        return self.active.sum(0)

    def pad(self, rows: Tensor) -> Tensor:
        """[T, B, features] out of [N, features], with zeros past the ends."""
        steps = rows.index_select(0, self.row.flatten()).view(*self.row.shape, -1)
        return steps.masked_fill(~self.active[..., None], 0)

    def pack(self, steps: Tensor, count: int) -> Tensor:
        """The inverse of `pad`; ``count`` is N."""
        row = self.row.masked_fill(~self.active, count)  # what is no row comes last
        return steps.flatten(0, 1).index_select(0, row.flatten().argsort()[:count])


def packing_of_sizes(batch_sizes: Tensor, row_index: Tensor | None, batch: int) -> Packing:
    """That of a packed batch, whose row r of a step belongs to sequence ``row_index[r]``."""
    place = torch.arange(batch, device=batch_sizes.device)
    if row_index is not None:
        place = row_index.argsort()
    return _packing(place < batch_sizes[:, None], place)


def packing_of_lengths(lengths: Tensor, steps: int) -> Packing:
    """That of the packed batch which torch would make of a padded one."""
    place = lengths.sort(descending=True).indices.argsort()
    return _packing(active_steps(lengths, steps), place)


def active_steps(lengths: Tensor, steps: int) -> Tensor:
    """[T, B], False past the end of a sequence."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def _packing(active: Tensor, place: Tensor) -> Packing:
    """``place`` [B] is where the sequences stand among the rows of each step."""
    sizes = active.sum(1)
    first = sizes.cumsum(0) - sizes
    return Packing((first[:, None] + place).masked_fill(~active, 0), active)
