"""The equations of `fastrnn.reference` as a backend.

They are plain torch operations: they have derivatives of every kind, run on any device, and on
tensors without memory of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch, reference
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch
from .._call.precision import full_precision
from .._call.spec import Outputs, Spec

__all__ = ["BACKEND", "differentiable_gradients"]

_MARK = 255
"""The last byte of what is kept, in the place of an instruction set."""


class Equations:
    """`Backend`; what a graph of torch's keeps of them is only a mark."""

    computes_half = False
    multiplies_bfloat16 = False
    is_differentiable = True
    time_first = True
    masks_by_entry = False

    def refuses(self, spec: Spec) -> str | None:
        return None

    def kept_bytes(self, spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        return 1

    def unread(self, batch: Batch, needed: tuple[bool, ...]) -> Sequence[int]:
        return ()

    @full_precision()
    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
        outputs = _outputs(batch, arguments)
        if not keep:
            return outputs, None
        return outputs, Kept(arguments.data.new_full((room or 1,), _MARK, dtype=torch.uint8))

    @full_precision()
    def backward(
        self,
        batch: Batch,
        arguments: Arguments,
        kept: Kept,
        d_outputs: Outputs,
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        with _torch.above_autograd():
            inputs = [
                None if tensor is None else tensor.detach().requires_grad_(need)
                for tensor, need in zip(arguments.inputs(), needed, strict=True)
            ]
            outputs = _outputs(batch, arguments.with_inputs(inputs))
        return _pulled_back(outputs, inputs, d_outputs, needed, create_graph=False)


BACKEND = Equations()


@full_precision()
def differentiable_gradients(
    batch: Batch, arguments: Arguments, d_outputs: Outputs, needed: Sequence[bool]
) -> list[Tensor | None]:
    """`Backend.backward` as a function of inputs and ``d_outputs``, for derivatives of it."""
    outputs = _outputs(batch, arguments)
    return _pulled_back(outputs, arguments.inputs(), d_outputs, needed, create_graph=True)


def _pulled_back(
    outputs: Outputs,
    inputs: Sequence[Any],
    d_outputs: Outputs,
    needed: Sequence[bool],
    *,
    create_graph: bool,
) -> list[Tensor | None]:
    reached = [
        (output, gradient)
        for output, gradient in zip(outputs, d_outputs, strict=True)
        if output is not None and gradient is not None and output.requires_grad
    ]
    if not reached:  # as of a state that counts steps
        each = zip(inputs, needed, strict=True)
        return [torch.zeros_like(tensor) if need else None for tensor, need in each]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in reached],
            [tensor for tensor, need in zip(inputs, needed, strict=True) if need],
            [d_output for _, d_output in reached],
            create_graph=create_graph,
            materialize_grads=True,
        )
    )
    return [next(found) if need else None for need in needed]


def _outputs(batch: Batch, arguments: Arguments) -> Outputs:
    data, hx, cx, *_ = arguments
    if batch.single_step:
        data, hx, cx = data[None], *(None if s is None else s[None] for s in (hx, cx))
    outputs = reference.rnn(
        batch.spec,
        data,
        hx,
        cx,
        arguments.weights,
        batch_first=batch.batch_first,
        batch_sizes=batch.batch_sizes,
        row_index=batch.row_index,
        lengths=batch.lengths,
        resets=batch.resets,
        states=batch.states,
        masks=_masks_of_rows(batch, arguments),
    )
    if not batch.single_step:
        return outputs
    c_n = outputs.c_n
    return Outputs(outputs.y[0], None, None if c_n is None else c_n[0], None, None)


def _masks_of_rows(batch: Batch, arguments: Arguments) -> Sequence[Tensor]:
    """Of masks that were drawn for more rows than there are, those of the rows."""
    lengths, masks = batch.lengths, arguments.masks
    if lengths is None or not masks:
        return masks
    if masks[0].dim() == 2:
        return [mask[: batch.rows] for mask in masks]
    lengths, order = torch.sort(lengths, descending=True)
    active = torch.arange(batch.T, device=lengths.device)[:, None] < lengths
    return [mask[:, order][active] for mask in masks]
