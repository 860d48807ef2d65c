"""The extension in torch's terms: precisions, streams, cells; and products of two precisions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import _torch
from ..._call.spec import Spec
from .. import cuda, native

__all__ = [
    "ABSENT",
    "CellLayout",
    "handle_of_stream",
    "layout_of",
    "multiply",
    "precision_of",
    "shape_of",
    "stream_of",
    "sum_dtype",
    "uses_tf32",
]

ABSENT = (0, 0, 0)
"""The address of a tensor of all steps that there is not."""


def uses_tf32() -> bool:
    """Whether torch lets its own recurrent layers round float32 to TF32 in products."""
    return _torch.rnn_fp32_precision() == "tf32"


def precision_of(dtype: torch.dtype) -> Any:
    if dtype == torch.float32 and uses_tf32():
        return cuda.extension().Precision.tf32
    return getattr(cuda.extension().Precision, str(dtype).removeprefix("torch."))


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums and cell states are kept in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def handle_of_stream(device: int) -> int:
    """Of the caller's current stream on a GPU, by its number."""
    return _torch.raw_stream(device)


def stream_of(data: Tensor) -> Any:
    device = data.get_device()
    return cuda.extension().Stream(device, handle_of_stream(device))


def _cell_of(extension: Any, spec: Spec) -> Any:
    """The extension's cell, of a spec that has kernels."""
    name = native.cell_name(spec)
    assert name is not None
    return getattr(extension.Cell, name)


def shape_of(extension: Any, spec: Spec) -> Any:
    """The extension's shape of a layer."""
    cell = _cell_of(extension, spec)
    return extension.LayerShape(cell, spec.hidden_size, spec.proj_size, spec.variant.reverse)


class CellLayout(NamedTuple):
    """What the tensors of a cell look like: numbers of blocks of H columns."""

    gates: int
    slots: int
    input_slot: int
    hidden_slot: int
    gate_of_slot: tuple[int, ...]


def layout_of(extension: Any, spec: Spec) -> CellLayout:
    found = extension.cell_layout(_cell_of(extension, spec))
    slots = found.gates, found.slots, found.input_slot, found.hidden_slot
    return CellLayout(*slots, tuple(found.gate_of_slot))


def multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """``out = a @ b``, where ``out`` may be float32 and the operands of 16 bits."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    elif a.is_cuda and hasattr(torch.ops.aten.mm, "dtype_out"):  # torch 2.8 or later
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    elif a.is_cuda:
        out.copy_(torch.mm(a, b))
    else:
        torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)
