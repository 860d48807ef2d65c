"""The short way of plain calls: from torch's tensors to the engine without Python between.

The engine reads them through DLPack's C interface (torch 2.10 or later). A plain call takes less
than half of the time of one through `fastrnn.ops`. What is not plain is left to that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import _core, _torch, native, wrapped
from .calls import Call
from .layout import save_present, saved_by
from .spec import Spec

__all__ = ["make_direct"]


def make_direct(spec: Spec, one_step: bool = False) -> Callable[..., Any] | None:
    """The short way of a layer, or for ``one_step`` of a cell; None where there is none."""
    if torch.compiler.is_dynamo_compiling():  # a tracer must not see addresses
        return None
    exchange_api = _torch.dlpack_exchange_api()
    if exchange_api is None or (spec.dropout and spec.num_layers > 1):
        return None
    cell, variant = native.cell_and_variant(spec)
    direct = _core.Direct(
        cell,
        spec.input_size,
        spec.hidden_size,
        spec.proj_size,
        spec.num_layers,
        2 if spec.bidirectional else 1,
        spec.bias,
        variant,
        one_step,
        _core.Tensors(
            exchange_api,
            (Tensor, torch.nn.Parameter),
            _torch.empty_strided_on_cpu,
            (torch.float32, torch.float64),
        ),
        partial(_torch.apply_untransformed(_Recurrence), spec),
    )
    return direct.call


class _Recurrence(torch.autograd.Function):
    """A node for what the engine has computed already.

    Everything that backward reads goes through ``save_for_backward``, as in `fastrnn.ops`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        spec: Spec,
        recorded: _core.Recorded,
        outputs: tuple[Tensor, ...],
        *saved: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.spec, ctx.recorded = spec, recorded
        ctx.set_materialize_grads(False)
        save_present(ctx, saved)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = saved_by(ctx)
        needed = ctx.needs_input_grad[3:-1]
        gradients = None
        if not (torch.is_grad_enabled() or _torch.is_transformed()):
            gradients = ctx.recorded.backward(saved, d_outputs, needed)
        if gradients is None:
            *inputs, kept = saved
            call = Call(ctx.spec, inputs[0], ctx.recorded.batch_first)
            call.plan = ctx.recorded.plan
            gradients = wrapped.gradients(call, inputs, [kept], needed, d_outputs)
        return None, None, None, *gradients, None
