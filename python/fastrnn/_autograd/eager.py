"""Where torch's autograd meets the engine. What reaches this module has been checked.

The way of a call: `run` draws the dropout masks and goes through `_Recurrence`, which keeps what
backward needs, if any gradient will be wanted; else it calls the backend at once. A plain call has
a shorter way, ``direct.py``. Whoever has to see the call as one operation of torch's goes through
``operators.py`` instead, which ends in the same backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _torch
from .._call import dropout
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch
from .._call.spec import Outputs, Spec
from .._engine import backend, backends
from .._engine.addresses import check_storage, is_plain
from .._engine.backend import Backend
from . import saved, wrapped

__all__ = ["run"]


def run(
    spec: Spec, arguments: Arguments, *, batch_first: bool = False, states: bool = False
) -> Outputs:
    """A stack of layers over whole sequences; the masks in the arguments are drawn here.

    A single step of one layer has a ``data`` of two dimensions, [B, I], and states without those of
    layers; its h_n is y.
    """
    data, inputs = arguments.data, arguments.inputs()
    batch = Batch.of(spec, arguments, batch_first=batch_first, states=states)
    computes = backends.backend_of(data, spec)
    masks: list[Tensor] = []
    if spec.dropout:
        masks = dropout.draw(spec, batch.rows_of_masks(computes.masks_by_entry), data)
    given = [tensor for tensor in inputs if tensor is not None]
    if not all(map(is_plain, given)):  # torch's own operations know what to do with such tensors
        for tensor in given:
            check_storage(tensor)
        computes = backends.named("reference")
    records = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    if records and not computes.is_differentiable:
        call = _Call(computes, batch, masks)
        outputs = Outputs(*_Recurrence.apply(call, *inputs))  # type: ignore[no-untyped-call]
    else:
        outputs, _ = backend.forward(computes, batch, _arguments(batch, inputs, masks))
    return outputs._replace(h_n=outputs.y) if batch.single_step else outputs


def _arguments(batch: Batch, inputs: Sequence[Tensor | None], masks: Sequence[Tensor]) -> Arguments:
    data, hx, cx, *weights = inputs
    ragged = batch.batch_sizes, batch.row_index, batch.lengths, batch.resets
    return Arguments(data, hx, cx, *ragged, weights, masks)


class _Call(NamedTuple):
    """What a node is made for, besides tensors that may have gradients."""

    backend: Backend
    batch: Batch
    masks: Sequence[Tensor]


class _Recurrence(torch.autograd.Function):
    """The engine's forward and backward as one node of the graph.

    Everything that backward reads goes through ``save_for_backward``, so that a change in place is
    caught, hooks on saved tensors apply, and memory is freed as soon as backward has run. What
    else it takes is in `fastrnn._autograd.saved`.
    """

    @staticmethod
    def forward(ctx: Any, call: _Call, *inputs: Tensor | None) -> Outputs:
        computes, batch, masks = call
        arguments = _arguments(batch, inputs, masks)
        outputs, kept = backend.forward(computes, batch, arguments, keep=True)
        ctx.backend, ctx.batch = computes, batch
        ctx.set_materialize_grads(False)
        ctx.origins = saved.origins_of(inputs)
        unread = computes.unread(batch, ctx.needs_input_grad[1:])
        block, ctx.plan = (None, None) if kept is None else kept
        saved.save(ctx, inputs, unread, [block, *masks])
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_dynamo_compiling():  # compiled autograd; the engine has no graph
            return tuple(_torch.untraced(_Recurrence.backward)(ctx, *d_outputs))
        batch: Batch = ctx.batch
        needed = ctx.needs_input_grad[1:]
        tensors = saved.saved_by(ctx)
        count = len(needed)
        anew = _torch.any_wrapped(d_outputs)
        inputs = saved.recall(ctx, batch, tensors[:count], ctx.origins, anew)
        block, *masks = tensors[count:]
        kept = None if block is None else Kept(block, ctx.plan)
        arguments = _arguments(batch, inputs, masks)
        d = Outputs(*d_outputs)
        return None, *wrapped.gradients(ctx.backend, batch, arguments, kept, d, needed)
