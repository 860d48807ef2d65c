"""Weights that the engine has packed once, and the forward passes of calls that bring none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _core
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch
from .._call.spec import Outputs, Spec
from . import native
from .addresses import place_inputs, place_new
from .cpu import place_rows

__all__ = ["FORMATS", "PackedLayers", "pack"]

FORMATS = {
    "float32": _core.Format.float32,
    "bfloat16": _core.Format.bfloat16,
    "int8": _core.Format.int8,
}
"""By the names that users know."""


def pack(spec: Spec, number_format: str, weights: Sequence[Tensor]) -> _core.Packed:
    """``weights`` of float32, rounded as the format says, packed for the active instruction set."""
    cell, program = native.cell_and_program(spec)
    held = [weight.contiguous() for weight in weights]
    return _core.Packed(
        cell=cell,
        dtype=_core.DType.float32,
        I=spec.input_size,
        H=spec.hidden_size,
        P=spec.proj_size,
        layers=spec.num_layers,
        directions=spec.directions,
        bias=spec.bias,
        reverse=spec.variant.reverse,
        program=program,
        format=FORMATS[number_format],
        weights=[weight.data_ptr() for weight in held],
        isa=_core.isa_active(),
    )


class PackedLayers:
    """`fastrnn._engine.backend.Backend` of layers whose weights are packed: inference alone."""

    computes_half = False
    is_differentiable = False
    masks_by_entry = False

    def __init__(self, packed: _core.Packed) -> None:
        self._packed = packed

    def refuses(self, spec: Spec) -> str | None:
        return None

    def kept_bytes(self, spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        return 0

    def unread(self, batch: Batch, needed: tuple[bool, ...]) -> Sequence[int]:
        return ()

    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
        outputs = batch.new_outputs(arguments.data.new_empty)
        sizes, order, resets = place_rows(batch)
        plan = self._packed.plan(
            T=batch.T,
            B=batch.B,
            states=batch.states,
            threads=torch.get_num_threads(),
            packed=batch.packed,
            batch_sizes=sizes.address,
            row_index=order.address,
            resets=resets.address,
        )
        x, h0, c0 = place_inputs(batch, arguments.inputs, weights=False)
        reached = outputs._replace(h_n=outputs.y) if batch.single_step else outputs
        y, h_n, c_n, h_all, c_all = place_new(reached)
        plan.forward(
            x=x.strides(batch.batch_first),
            y=y.strides(batch.batch_first),
            h0=h0.address,
            c0=c0.address,
            h_n=h_n.address,
            c_n=c_n.address,
            h_all=h_all.address,
            c_all=c_all.address,
            weights=[],
            masks=[],
            saved=0,
        )
        return outputs, None

    def backward(
        self,
        batch: Batch,
        arguments: Arguments,
        kept: Kept,
        d_outputs: Outputs,
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        raise RuntimeError("packed weights have no gradients")
