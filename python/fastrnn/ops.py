"""Where torch's autograd meets the engine. What reaches this module has been checked.

The way of a call: `run` makes a `fastrnn.calls.Call`, which draws the dropout masks, and goes
through `_Recurrence`, which keeps what backward needs, if any gradient will be wanted; else it
calls the engine at once. A plain call has a shorter way, `fastrnn.direct`. Whoever has to see the
call as one operation of torch's goes through `fastrnn.operators` instead, which ends in a Call as
well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import calls, wrapped
from .layout import save_present, saved_by
from .spec import Outputs, Spec

__all__ = ["run"]


def run(
    spec: Spec,
    data: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    weights: Sequence[Tensor],
    *,
    batch_first: bool = False,
    batch_sizes: Tensor | None = None,
    row_index: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    states: bool = False,
) -> Outputs:
    """A stack of layers over whole sequences; parameters and results as in `reference.rnn`.

    A single step of one layer has a ``data`` of two dimensions, [B, I], and states without those of
    layers; its h_n is y.
    """
    call = calls.call_type(data)(
        spec, data, batch_first, batch_sizes, row_index, lengths, resets, states
    )
    if not (_has_memory(data) and _has_memory(weights[1])):
        return call.by_equations(data, hx, cx, weights, call.masks)
    if torch.is_grad_enabled() and _any_requires_grad(data, hx, cx, weights):
        outputs = _Recurrence.apply(call, data, hx, cx, *weights)  # type: ignore[no-untyped-call]
    else:
        outputs = call.forward(data, hx, cx, weights, None)
    y, h_n, c_n, h_all, c_all = call.named(outputs)
    return y, y if call.single_step else h_n, c_n, h_all, c_all


def _has_memory(tensor: Tensor) -> bool:
    """False for a fake tensor, or one that is zero by decree."""
    return tensor.data_ptr() != 0 or tensor.numel() == 0


def _any_requires_grad(
    data: Tensor, hx: Tensor | None, cx: Tensor | None, weights: Sequence[Tensor]
) -> bool:
    if data.requires_grad or any(w.requires_grad for w in weights):
        return True
    return (hx is not None and hx.requires_grad) or (cx is not None and cx.requires_grad)


class _Recurrence(torch.autograd.Function):
    """The engine's forward and backward as one node of the graph.

    Everything that backward reads goes through ``save_for_backward``, so that a change in place is
    caught, hooks on saved tensors apply, and memory is freed as soon as backward has run.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: calls.Call,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        kept: list[Tensor] = []
        outputs = call.forward(data, hx, cx, weights, kept)
        ctx.call = call
        ctx.set_materialize_grads(False)
        save_present(ctx, (data, hx, cx, *weights, *kept, *call.masks))
        call.masks = []
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        call: calls.Call = ctx.call
        needed = ctx.needs_input_grad[1:]
        saved = saved_by(ctx)
        inputs, kept = saved[: len(needed)], saved[len(needed) :]
        return None, *wrapped.gradients(call, inputs, kept, needed, d_outputs)
