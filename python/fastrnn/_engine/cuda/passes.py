"""What both passes have: the weights by name, and where that lies which backward needs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Spec
from ..._call.weights import each_direction
from .. import cuda
from .engine import layout_of, precision_of, stream_of, sum_dtype
from .placement import Placement

__all__ = ["Pass", "Pieces"]


class Pieces:
    """What forward leaves for backward: tensors of rows, pieces of one block of bytes.

    For each direction of each layer ``gates`` [rows, G*H] and, where the cell has them, ``extra``
    [rows, H], ``cell`` [rows, H] and ``raw`` [rows, H]; for each layer ``outputs`` [rows, D*K].
    """

    ROWS = 16  # pieces have room for a multiple of so many rows, which aligns them

    def __init__(self, spec: Spec, dtype: torch.dtype, rows: int) -> None:
        self.rows = rows
        self.room = (rows + self.ROWS - 1) // self.ROWS * self.ROWS
        sums, H = sum_dtype(dtype), spec.hidden_size
        layout = layout_of(spec)
        self.pieces: dict[tuple[str, int], tuple[int, torch.dtype]] = {}
        for index in range(spec.num_layers * spec.directions):
            self.pieces["gates", index] = layout.gates * H, sums
            if layout.slots > layout.gates:
                self.pieces["extra", index] = H, sums
            if spec.has_cell_state:
                self.pieces["cell", index] = H, sums
            if spec.proj_size:
                self.pieces["raw", index] = H, dtype
        for layer in range(spec.num_layers):
            self.pieces["outputs", layer] = spec.directions * spec.out, dtype

    @property
    def bytes(self) -> int:
        return sum(self.room * width * dtype.itemsize for width, dtype in self.pieces.values())

    def in_block(self, block: Tensor) -> dict[tuple[str, int], Tensor]:
        """The pieces as they lie in a block of `bytes` bytes."""
        found, at = {}, 0
        typed: dict[torch.dtype, Tensor] = {}
        for key, (width, dtype) in self.pieces.items():
            whole = typed.get(dtype)
            if whole is None:
                whole = typed[dtype] = block.view(dtype)
            first = whole.storage_offset() + at // dtype.itemsize
            found[key] = whole.as_strided((self.rows, width), (width, 1), first)
            at += self.room * width * dtype.itemsize
        return found


class Pass:
    """One call in one direction of differentiation, and the tensors that it has throughout."""

    def __init__(self, placement: Placement, arguments: Arguments) -> None:
        self.placement, self.spec = placement, placement.spec
        self.masks = arguments.masks
        self.data = data = placement.prepared(arguments.data.resolve_neg())
        self.out = self.spec.out
        self.weights = each_direction(
            self.spec,
            [
                w if w.is_contiguous() and not w.is_neg() else w.resolve_neg().contiguous()
                for w in arguments.weights
            ],
        )
        self.engine = cuda.extension()
        self.layout = layout_of(self.spec)
        self.precision, self.stream = precision_of(data.dtype), stream_of(data)
        self.sequence, self.shape = placement.sequence(), placement.layer_shape()
        self.sums = sum_dtype(data.dtype)
        self.kept = Pieces(self.spec, data.dtype, data.shape[:-1].numel())

    def address(self, tensor: Tensor | None) -> int:
        return 0 if tensor is None else tensor.data_ptr()

    def input_rows(self) -> Tensor:
        return self.data.reshape(-1, self.spec.input_size)
