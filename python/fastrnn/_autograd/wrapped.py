"""Backward of a plain call, for gradients of its outputs that a transformation has wrapped.

``is_grads_batched=True`` and ``jacobian(vectorize=True)`` pull back many samples at once through a
graph that was recorded for one, and so does ``torch.func`` around ``torch.autograd.grad``. What
they hand to backward has no memory that the engine could read. The call is then computed anew, as
the operator that ``torch.func`` knows how to transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .. import _torch
from .._call.arguments import Arguments, Kept, Layout
from .._call.batch import Batch
from .._call.spec import Outputs
from .._engine import backend
from .._engine.backend import Backend
from .._engine.equations import differentiable_gradients

__all__ = ["gradients", "pulled_back"]

_vjp: Any = torch.func.vjp  # its annotation does not know what it returns


def gradients(
    computes: Backend,
    batch: Batch,
    arguments: Arguments,
    kept: Kept | None,
    d_outputs: Outputs,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Those of data, hx, cx and the weights, whatever ``d_outputs`` are wrapped in."""
    if _torch.any_wrapped(d_outputs):
        found = iter(_anew(batch, arguments, d_outputs, needed))
        return [next(found) if need else None for need in needed]
    if torch.is_grad_enabled():
        return differentiable_gradients(batch, arguments, d_outputs, needed)
    return backend.backward(computes, batch, arguments, kept, d_outputs, needed)


def _anew(
    batch: Batch, arguments: Arguments, d_outputs: Outputs, needed: Sequence[bool]
) -> Sequence[Tensor]:
    masks = arguments.masks
    if batch.lengths is not None and masks and masks[0].dim() == 2:
        # The operator's are for every row that there might be.
        missing = batch.T * batch.B - batch.rows
        masks = [pad(mask, (0, 0, 0, missing)) for mask in masks]
        arguments = arguments.with_masks(masks)
    return pulled_back(replace(batch.layout, needed=tuple(needed)), arguments, d_outputs)


def pulled_back(
    layout: Layout, arguments: Arguments, d_outputs: Sequence[Tensor | None]
) -> Sequence[Tensor]:
    """The gradients that the layout needs, out of those of y, h_n, c_n, h_all and c_all."""
    wanted = [place for place, need in enumerate(layout.needed) if need]
    reached = {place: d for place, d in enumerate(d_outputs) if d is not None}

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        everything = list(arguments.inputs())
        for place, tensor in zip(wanted, inputs, strict=True):
            everything[place] = tensor
        call = layout.of_operator(arguments.with_inputs(everything))
        found = torch.ops.fastrnn.recurrence(*call)
        return tuple(found[place] for place in reached)

    def pull_back(*d_reached: Tensor) -> tuple[Tensor, ...]:
        _, of_reached = _vjp(outputs, *(arguments.inputs()[place] for place in wanted))
        pulled: tuple[Tensor, ...] = of_reached(d_reached)
        return pulled

    return _torch.with_functional_vmap(pull_back, list(reached.values()))
