"""Every form of a batch as packed rows, and the way back: what `fastrnn.reference` computes over.

Letters as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .spec import Spec

__all__ = [
    "Beginning",
    "as_rows",
    "beginning",
    "forgetting",
    "forgotten",
    "in_sequence_order",
    "initial_states",
    "like_data",
    "padded",
    "stacked",
]


def as_rows(
    data: Tensor,
    batch_first: bool,
    batch_sizes: Tensor | None,
    lengths: Tensor | None,
    row_index: Tensor | None,
) -> tuple[Tensor, list[int], int]:
    """``data`` as packed rows [N, I] in order of time, the number of rows of each step, and B."""
    if batch_sizes is not None:
        sizes = batch_sizes.tolist()
        return data, sizes, sizes[0]
    steps = data.transpose(0, 1) if batch_first else data
    T, B, _ = steps.shape
    if lengths is None or row_index is None:
        return steps.reshape(-1, data.shape[-1]), [B] * T, B
    ends = lengths.tolist()
    sizes = [sum(end > t for end in ends) for t in range(T)]
    ordered = steps.index_select(1, row_index)
    return torch.cat([step[:n] for step, n in zip(ordered, sizes, strict=True)]), sizes, B


def like_data(rows: Tensor, data: Tensor, batch_first: bool) -> Tensor:
    """The inverse of `as_rows` for the outputs."""
    if data.dim() == 2:
        return rows
    if batch_first:
        return rows.view(data.shape[1], data.shape[0], rows.shape[-1]).transpose(0, 1)
    return rows.view(*data.shape[:2], rows.shape[-1])


def initial_states(
    spec: Spec,
    rows: Tensor,
    batch: int,
    hx: Tensor | None,
    cx: Tensor | None,
    row_index: Tensor | None,
) -> list[Tensor]:
    """h [L*D, B, K] and, for the LSTM, c [L*D, B, H], in the order of the packed rows."""
    count = spec.num_layers * spec.directions
    states = []
    for state, width in zip((hx, cx), spec.widths, strict=False):
        if state is None:
            states.append(rows.new_zeros(count, batch, width))
        else:
            states.append(state if row_index is None else state.index_select(1, row_index))
    return states


class Beginning(NamedTuple):
    """What every unit of h and c starts with, and what a reset goes back to; None for zeros.

    The last ``held`` features of c stay what they are.
    """

    states: tuple[Tensor, ...] | None
    held: int


def beginning(spec: Spec, like: Tensor) -> Beginning:
    """That of a cell, with the dtype and the device of ``like``."""
    if spec.initial is None:
        return Beginning(None, spec.held_size)
    each = torch.cat([like.new_full((spec.hidden_size,), value) for value in spec.initial])
    return Beginning(torch.split(each, list(spec.widths)), spec.held_size)


def padded(steps: Sequence[Tensor], batch: int) -> Tensor:
    """[T, B, F] out of the active rows [n, F] of each step, zero where a row is not active."""
    return torch.stack([pad(step, (0, 0, 0, batch - len(step))) for step in steps])


def stacked(reached: Sequence[tuple[Tensor, ...]], batch: int) -> tuple[Tensor, ...]:
    """h [T, B, K] and, for the LSTM, c [T, B, H], out of the states after each step."""
    return tuple(padded(steps, batch) for steps in zip(*reached, strict=True))


def in_sequence_order(
    states: Sequence[tuple[Tensor, ...]], place: Tensor | None, dim: int
) -> tuple[Any, Any]:
    """(h, c) out of those of every layer and direction; None for what there is not.

    ``place`` [B] is the packed row of each sequence.
    """
    stacked = [torch.stack(state) for state in zip(*states, strict=True)]
    if place is not None:
        stacked = [state.index_select(dim, place) for state in stacked]
    h, c, *_ = (*stacked, None, None)
    return h, c


def forgetting(resets: Tensor, sizes: list[int], reverse: bool) -> Tensor:
    """[T, B] bool, which rows a direction enters each step of with a state of zeros.

    The reverse direction crosses the border before step t when it enters step t - 1. It has no
    border to cross where a row ends.
    """
    if not reverse:
        return resets
    active = [torch.arange(resets.shape[1], device=resets.device) < n for n in sizes]
    crossed = resets & torch.stack(active)
    return torch.cat([crossed[1:], torch.zeros_like(crossed[:1])])


def forgotten(
    state: tuple[Tensor, ...], where: Tensor | None, begin: Beginning
) -> tuple[Tensor, ...]:
    """h, or h and c, as they are but for rows that a reset has sent back to the beginning."""
    if where is None:
        return state
    lost = where[..., None]
    if begin.states is None:
        found = tuple(each.masked_fill(lost, 0) for each in state)
    else:
        pairs = zip(begin.states, state, strict=True)
        found = tuple(torch.where(lost, b, s) for b, s in pairs)
    if not begin.held:
        return found
    h, c = found
    return h, torch.cat([c[..., : -begin.held], state[1][..., -begin.held :]], -1)
