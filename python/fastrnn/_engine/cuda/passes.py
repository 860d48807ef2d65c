"""What both passes have: the weights by name, and where that lies which backward needs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Spec
from ..._call.weights import each_direction
from .. import cuda
from .engine import CellLayout, layout_of, precision_of, shape_of, stream_of, sum_dtype
from .placement import Placement

__all__ = ["Pass", "Pieces", "facts_of"]


class Pieces:
    """What forward leaves for backward: tensors of rows, pieces of one block of bytes.

    For each direction of each layer ``gates`` [rows, G*H] and, where the cell has them, ``extra``
    [rows, H], ``cell`` [rows, H] and ``raw`` [rows, H]; for each layer ``outputs`` [rows, D*K].
    """

    ROWS = 16  # pieces have room for a multiple of so many rows, which aligns them

    def __init__(self, spec: Spec, dtype: torch.dtype, layout: CellLayout) -> None:
        sums, H = sum_dtype(dtype), spec.hidden_size
        widths: dict[tuple[str, int], tuple[int, torch.dtype]] = {}
        for index in range(spec.num_layers * spec.directions):
            widths["gates", index] = layout.gates * H, sums
            if layout.slots > layout.gates:
                widths["extra", index] = H, sums
            if spec.has_cell_state:
                widths["cell", index] = H, sums
            if spec.proj_size:
                widths["raw", index] = H, dtype
        for layer in range(spec.num_layers):
            widths["outputs", layer] = spec.directions * spec.out, dtype
        self.widths = widths
        self.offsets: dict[tuple[str, int], int] = {}
        self.row_bytes = 0
        """Of all pieces; an offset is the same of those before one."""
        for key, (width, of) in widths.items():
            self.offsets[key] = self.row_bytes
            self.row_bytes += width * of.itemsize

    def room(self, rows: int) -> int:
        """The rows that a piece of so many has room for."""
        return (rows + self.ROWS - 1) // self.ROWS * self.ROWS

    def bytes(self, rows: int) -> int:
        """Of a block of all pieces."""
        return self.room(rows) * self.row_bytes


class Block:
    """The pieces of one call as they lie in a block of bytes."""

    def __init__(self, pieces: Pieces, memory: Tensor, rows: int) -> None:
        self.pieces, self.memory, self.rows = pieces, memory, rows
        self.room, self.address = pieces.room(rows), memory.data_ptr()
        self.typed: dict[torch.dtype, Tensor] = {}

    def address_of(self, name: str, index: int) -> int:
        """Where a piece lies; 0 for one that there is not."""
        offset = self.pieces.offsets.get((name, index))
        return 0 if offset is None else self.address + self.room * offset

    def piece(self, name: str, index: int) -> Tensor:
        """A piece as a tensor, for torch."""
        width, dtype = self.pieces.widths[name, index]
        whole = self.typed.get(dtype)
        if whole is None:
            whole = self.typed[dtype] = self.memory.view(dtype)
        first = self.room * self.pieces.offsets[name, index] // dtype.itemsize
        size = self.rows, width
        return whole.as_strided(size, (width, 1), whole.storage_offset() + first)


class Facts(NamedTuple):
    """What all calls of a spec and a dtype have in common."""

    layout: CellLayout
    shape: Any
    """The extension's."""
    sums: torch.dtype
    pieces: Pieces


def facts_of(spec: Spec, dtype: torch.dtype) -> Facts:
    return _facts(cuda.extension(), spec, dtype)


@lru_cache(maxsize=1024)
def _facts(extension: Any, spec: Spec, dtype: torch.dtype) -> Facts:
    layout = layout_of(extension, spec)
    shape = shape_of(extension, spec)
    return Facts(layout, shape, sum_dtype(dtype), Pieces(spec, dtype, layout))


class Pass:
    """One call in one direction of differentiation, and the tensors that it has throughout."""

    def __init__(self, placement: Placement, arguments: Arguments) -> None:
        self.placement, self.spec = placement, placement.spec
        self.masks = arguments.masks
        self.data = data = placement.prepared(arguments.data.resolve_neg())
        self.rows = data.numel() // max(1, self.spec.input_size)
        self.out, self.item = self.spec.out, data.element_size()
        self.weights = each_direction(self.spec, [_contiguous(w) for w in arguments.weights])
        self.engine = cuda.extension()
        self.precision, self.stream = precision_of(data.dtype), stream_of(data)
        self.sequence = placement.sequence()
        self.layout, self.shape, self.sums, self.pieces = facts_of(self.spec, data.dtype)

    def ordered(self, state: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """A state in the order of the rows, one direction after another without gaps."""
        by_row = self.placement.by_row(state)
        return None if by_row is None else _contiguous(by_row.to(dtype))

    def running(self, wanted: Tensor | None, width: int, dtype: torch.dtype) -> Tensor:
        """Room for states, or their gradients, in the order of the rows: `wanted` if it is that.

        [L*D, B, width] if the caller wants them at the end, else those of one layer.
        """
        if wanted is not None and wanted.dtype == dtype and self.placement.in_order:
            return wanted
        directions = self.placement.directions
        count = directions if wanted is None else self.spec.num_layers * directions
        return self.data.new_empty((count, self.placement.B, width), dtype=dtype)

    def deliver(self, running: Tensor | None, wanted: Tensor | None) -> None:
        """What has been left in the room that `running` gave, to the caller."""
        if wanted is not None and running is not None and running is not wanted:
            self.placement.by_entry(running, wanted)

    def input_rows(self) -> Tensor:
        return self.data.reshape(-1, self.spec.input_size)


def address(tensor: Tensor | None, index: int = 0) -> int:
    """Of a contiguous tensor, or of one of those that it consists of; 0 if there is none."""
    if tensor is None:
        return 0
    if index == 0:
        return tensor.data_ptr()
    return tensor.data_ptr() + index * tensor.stride(0) * tensor.element_size()


def _contiguous(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return tensor.resolve_neg().contiguous()
