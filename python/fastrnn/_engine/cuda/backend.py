"""Calls on a GPU as a backend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._call.arguments import Arguments, Kept
from ..._call.batch import Batch
from ..._call.spec import Outputs, Spec
from .. import cuda, native
from ..addresses import check_inputs
from .backward import BackwardPass
from .forward import ForwardPass
from .passes import facts_of
from .placement import Placement

__all__ = ["BACKEND"]


class Cuda:
    """`Backend` that hands addresses to `fastrnn._cuda`."""

    computes_half = True
    multiplies_bfloat16 = False
    is_differentiable = False
    time_first = False
    masks_by_entry = True

    def refuses(self, spec: Spec) -> str | None:
        if not cuda.is_built():
            return f"this build of fastrnn computes on the CPU; {cuda.HOW_TO_BUILD}"
        if spec.program is not None:
            return "the CUDA kernels have torch's own cells, not programs"
        if native.cell_name(spec) is None:
            return (
                f"the CUDA kernels have torch's own cells and reverse=True, not {spec.variant}; "
                f"this layer computes on the CPU"
            )
        return None

    def kept_bytes(self, spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        return facts_of(spec, dtype).pieces.bytes(rows)

    def unread(self, batch: Batch, needed: tuple[bool, ...]) -> Sequence[int]:
        return ()

    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
        check_inputs(batch, arguments.inputs())
        outputs = batch.new_outputs(arguments.data, self.time_first)
        for everything in (outputs.h_all, outputs.c_all):  # past the ends nothing is written
            if everything is not None:
                everything.zero_()
        computing = ForwardPass(Placement(batch), arguments, keep, room)
        computing.run(outputs)
        return outputs, None if computing.block is None else Kept(computing.block)

    def backward(
        self,
        batch: Batch,
        arguments: Arguments,
        kept: Kept,
        d_outputs: Outputs,
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        check_inputs(batch, arguments.inputs())
        gradients = batch.new_gradients(needed)
        BackwardPass(Placement(batch), arguments, kept.block, d_outputs, gradients).run()
        return gradients


BACKEND = Cuda()
