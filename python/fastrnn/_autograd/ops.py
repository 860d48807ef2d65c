"""Where torch's autograd meets the engine. What reaches this module has been checked.

The way of a call: `run` makes a `Call` of the engine's, which draws the dropout masks, and goes
through `_Recurrence`, which keeps what backward needs, if any gradient will be wanted; else it
calls the engine at once. A plain call has a shorter way, ``direct.py``. Whoever has to see the call
as one operation of torch's goes through ``operators.py`` instead, which ends in a Call as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call.layout import saved_by
from .._call.spec import Outputs, Spec
from .._engine import calls
from .._engine.addresses import check_storage, is_plain
from . import saved, wrapped

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
    inputs = [tensor for tensor in (data, hx, cx, *weights) if tensor is not None]
    if not all(map(is_plain, inputs)):  # torch's own operations know what to do with such tensors
        for tensor in inputs:
            check_storage(tensor)
        return call.by_equations(data, hx, cx, weights, call.masks)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        outputs = _Recurrence.apply(call, data, hx, cx, *weights)  # type: ignore[no-untyped-call]
    else:
        outputs = call.forward(data, hx, cx, weights, None)
    y, h_n, c_n, h_all, c_all = call.named(outputs)
    return y, y if call.single_step else h_n, c_n, h_all, c_all


class _Recurrence(torch.autograd.Function):
    """The engine's forward and backward as one node of the graph.

    Everything that backward reads goes through ``save_for_backward``, so that a change in place is
    caught, hooks on saved tensors apply, and memory is freed as soon as backward has run. What
    else it takes is in `fastrnn._autograd.saved`.
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
        inputs = (data, hx, cx, *weights)
        ctx.origins = saved.origins_of(inputs)
        saved.save(ctx, inputs, call.unread(ctx.needs_input_grad[1:]), [*kept, *call.masks])
        call.masks = []
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        call: calls.Call = ctx.call
        needed = ctx.needs_input_grad[1:]
        tensors = saved_by(ctx)
        count = len(needed)
        inputs = saved.recall(
            ctx, call, tensors[:count], ctx.origins, _torch.any_wrapped(d_outputs)
        )
        return None, *wrapped.gradients(call, inputs, tensors[count:], needed, d_outputs)
