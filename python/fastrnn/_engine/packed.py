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
from .addresses import place_new
from .cpu import place_rows, run_forward

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
    held = place_new([weight.contiguous() for weight in weights])
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
        weights=[weight.address for weight in held],
        isa=_core.isa_active(),
    )


class PackedLayers:
    """`fastrnn._engine.backend.Forward` of layers whose weights are packed: nothing is kept."""

    is_differentiable = False
    time_first = True

    def __init__(self, packed: _core.Packed) -> None:
        self._packed = packed

    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
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
        return run_forward(plan, batch, arguments, weights=False), None
