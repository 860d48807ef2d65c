"""Backward of a plain call, for gradients of its outputs that a transformation has wrapped.

``is_grads_batched=True`` and ``jacobian(vectorize=True)`` pull back many samples at once through a
graph that was recorded for one, and so does ``torch.func`` around ``torch.autograd.grad``. What
they hand to backward has no memory that the engine could read. The call is then computed anew, as
the operator that ``torch.func`` knows how to transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .. import _torch
from .._call.layout import Layout
from .._engine.calls import Call

__all__ = ["gradients", "pulled_back"]

_vjp: Any = torch.func.vjp  # its annotation does not know what it returns


def gradients(
    call: Call,
    inputs: Sequence[Any],
    kept: Sequence[Tensor],
    needed: Sequence[bool],
    d_outputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """`Call.gradients`, whatever ``d_outputs`` are wrapped in."""
    if not _torch.any_wrapped(d_outputs):
        return call.gradients(inputs, kept, needed, d_outputs)
    data, hx, cx, *weights = inputs
    ragged = (call.batch_sizes, call.row_index) if call.packed else (None, None)
    masks = kept[1:]
    if call.lengths is not None:  # the operator's are for every row that there might be
        masks = [pad(mask, (0, 0, 0, call.T * call.B - len(mask))) for mask in masks]
    tensors = (data, hx, cx, *ragged, call.lengths, call.resets, *weights, *masks)
    layout = Layout(call.spec, call.B, call.batch_first, call.states, len(weights), tuple(needed))
    found = iter(pulled_back(layout, tensors, call.named(d_outputs)))
    return [next(found) if need else None for need in needed]


def pulled_back(
    layout: Layout, tensors: Sequence[Any], d_outputs: Sequence[Tensor | None]
) -> Sequence[Tensor]:
    """The gradients that the layout needs, out of those of y, h_n, c_n, h_all and c_all."""
    wanted = [place for place, need in zip(layout.trained, layout.needed, strict=True) if need]
    reached = {place: d for place, d in enumerate(d_outputs) if d is not None}

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        everything = list(tensors)
        for place, tensor in zip(wanted, inputs, strict=True):
            everything[place] = tensor
        found = torch.ops.fastrnn.recurrence(*layout.arguments(everything))
        return tuple(found[place] for place in reached)

    def pull_back(*d_reached: Tensor) -> tuple[Tensor, ...]:
        _, of_reached = _vjp(outputs, *(tensors[place] for place in wanted))
        pulled: tuple[Tensor, ...] = of_reached(d_reached)
        return pulled

    return _torch.with_functional_vmap(pull_back, list(reached.values()))
