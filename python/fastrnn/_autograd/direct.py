"""The short way of plain calls: from torch's tensors to the engine without Python between.

The engine reads them through DLPack's C interface (torch 2.10 or later). A plain call takes less
than half of the time of one through `fastrnn._autograd.eager`. What is not plain is left to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import _core, _torch
from .._call import dropout
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch
from .._call.spec import Outputs, Spec
from .._engine import cpu, memory, native
from .._engine.backend import Backend
from . import saved, wrapped

__all__ = ["Way", "make_direct", "recorder"]

_DTYPES = {native_dtype: dtype for dtype, native_dtype in native.DTYPES.items()}


def make_direct(
    spec: Spec, one_step: bool = False, packed: _core.Packed | None = None
) -> _core.Direct | None:
    """The short way of a layer, or for ``one_step`` of a cell; None where there is none.

    ``packed``: its weights, for calls that bring none and have no gradients.
    """
    if torch.compiler.is_dynamo_compiling():  # a tracer must not see addresses
        return None
    tensors = native.tensors()
    if tensors is None:
        return None
    drops = spec.dropout > 0 and spec.num_layers > 1
    cell, program = native.cell_and_program(spec)
    return _core.Direct(
        cell,
        spec.input_size,
        spec.hidden_size,
        spec.proj_size,
        spec.num_layers,
        spec.directions,
        spec.bias,
        spec.variant.reverse,
        one_step,
        tensors,
        recorder(Way(spec)),
        memory.new_kept,
        partial(dropout.draw, spec) if drops else None,
        program,
        packed,
        getattr(_core.Format, "bfloat16_products" if spec.products == "bfloat16" else "float32"),
    )


class Way:
    """What the node of a call has to know of who has computed it: the engine on the CPU."""

    backend: Backend = cpu.BACKEND

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def unread(self, recorded: Any, needed: tuple[bool, ...]) -> Sequence[int]:
        """Which of x, h_0, c_0 and the weights backward does not read for these gradients."""
        return cpu.unread(self.spec, recorded.steps == 1, needed)

    def dtype(self, recorded: Any) -> torch.dtype:
        """Of the call."""
        return _DTYPES[recorded.plan.dtype]

    def kept(self, block: Any, recorded: Any) -> Kept:
        """What forward has kept, for the long way."""
        return Kept(block, recorded.plan)


class _Recurrence(torch.autograd.Function):
    """A node for what has been computed already.

    What backward reads is saved as in `fastrnn._autograd.eager`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        way: Way,
        recorded: Any,
        outputs: tuple[Tensor, ...],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.way, ctx.recorded = way, recorded
        ctx.set_materialize_grads(False)
        of_call = len(tensors) - 1 - recorded.masks
        needed = ctx.needs_input_grad[3 : 3 + of_call]
        saved.save(ctx, tensors[:of_call], way.unread(recorded, needed), tensors[of_call:])
        if _torch.packs_saved_tensors():
            recorded.forget_origins()
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_dynamo_compiling():  # compiled autograd; the engine has no graph
            return tuple(_torch.untraced(_Recurrence.backward)(ctx, *d_outputs))
        tensors = saved.saved_by(ctx)
        masks = ctx.recorded.masks
        needed = ctx.needs_input_grad[3 : -1 - masks]
        gradients = None
        if not (torch.is_grad_enabled() or _torch.is_transformed()):
            gradients = ctx.recorded.backward(tensors, d_outputs, needed)
        if gradients is None:
            gradients = _the_long_way(ctx, tensors, needed, d_outputs)
        return None, None, None, *gradients, *[None] * masks, None


def recorder(way: Way) -> Callable[..., Any]:
    """Makes outputs part of torch's graph, as the short ways ask for it."""
    return partial(_torch.apply_untransformed(_Recurrence), way)


def _the_long_way(
    ctx: Any,
    tensors: tuple[Any, ...],
    needed: tuple[bool, ...],
    d_outputs: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Gradients by `fastrnn._engine`, which looks into everything and explains every mistake."""
    way, recorded = ctx.way, ctx.recorded
    *given, kept = tensors
    inputs, masks = given[: len(needed)], given[len(needed) :]
    like_data = torch.empty((), dtype=way.dtype(recorded), device=kept.device)
    batch_sizes, row_index, lengths, resets = recorded.ragged
    batch = Batch(
        way.spec,
        like_data.expand(recorded.sizes),
        batch_first=recorded.batch_first,
        batch_sizes=_integers(batch_sizes),
        row_index=_integers(row_index),
        lengths=_integers(lengths),
        resets=resets,
    )
    origins = [None if one is None else saved.Origin(*one) for one in recorded.origins]
    anew = _torch.any_wrapped(d_outputs)
    data, hx, cx, *weights = saved.recall(ctx, batch, inputs, origins, anew)
    of_rows = batch.batch_sizes, batch.row_index, batch.lengths, batch.resets
    arguments = Arguments(data, hx, cx, *of_rows, weights, masks)
    d = _named(batch, d_outputs)
    block = way.kept(kept, recorded)
    return wrapped.gradients(way.backend, batch, arguments, block, d, needed)


def _integers(numbers: list[int] | None) -> Tensor | None:
    return None if numbers is None else torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _named(batch: Batch, of_outputs: Sequence[Any]) -> Outputs:
    """What belongs to the outputs of the short way, which has none of those that there are not."""
    y, *rest = of_outputs
    h_n = None if batch.single_step else rest.pop(0)
    return Outputs(y, h_n, rest[0] if rest else None, None, None)
