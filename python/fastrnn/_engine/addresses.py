"""The one door to memory: a tensor's address is given out here and nowhere else.

The engine follows addresses without a question, so whatever becomes one is looked at in the same
call, forward and backward: is it a tensor whose memory holds the values that it stands for, all of
them, in the dtype, on the device and in the sizes that the call was laid out for?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import _torch
from .._call.batch import Batch, Memory

__all__ = [
    "Place",
    "block_of",
    "check",
    "check_inputs",
    "check_storage",
    "is_plain",
    "place",
    "place_inputs",
    "place_masks",
    "place_new",
    "place_outputs",
    "rows_contiguous",
]

_ALIGNMENT = 8
"""Bytes at a multiple of which every number of a block may lie."""


class Place(NamedTuple):
    """Where a tensor lies, and the tensor, which has to live for as long as its address is used."""

    tensor: Any
    address: int

    def strides(self, batch_first: bool) -> tuple[int, int, int]:
        """Address, elements from step to step, elements from row to row."""
        if self.tensor is None:
            return 0, 0, 0
        if self.tensor.dim() == 2:
            return self.address, 0, self.tensor.stride(0)
        a, b, _ = self.tensor.stride()
        return (self.address, b, a) if batch_first else (self.address, a, b)


_ABSENT = Place(None, 0)


def is_plain(tensor: Tensor) -> bool:
    """Whether a reader of the tensor's memory finds its values there, but for a sign to change.

    Not for a subclass that computes in its own way, such as a DTensor, for a wrapper of
    ``torch.func``'s, for another layout than the strided one, nor for memory that is missing.
    """
    kind = type(tensor)
    if kind is not Tensor and kind is not Parameter and _torch.computes_by_itself(kind):
        return False
    return tensor.layout is torch.strided and _torch.has_storage(tensor) and _fits(tensor)


def _fits(tensor: Tensor) -> bool:
    """Whether there is memory, as much as the sizes and strides say; it may have been resized."""
    return tensor.numel() == 0 or (
        tensor.data_ptr() != 0 and tensor.untyped_storage().nbytes() >= _end(tensor)
    )


def check_storage(tensor: Tensor) -> None:
    """RuntimeError if a tensor's storage is too small for it, which torch finds out at views only.

    Other operations of torch's read on.
    """
    if tensor.layout is not torch.strided or not _torch.has_storage(tensor):
        return
    if tensor.numel() and tensor.untyped_storage().nbytes() < _end(tensor):
        raise RuntimeError(
            f"setStorage: sizes {list(tensor.shape)}, strides {list(tensor.stride())}, storage "
            f"offset {tensor.storage_offset()}, and itemsize {tensor.element_size()} requiring a "
            f"storage size of {_end(tensor)} are out of bounds for storage of size "
            f"{tensor.untyped_storage().nbytes()}"
        )


def _end(tensor: Tensor) -> int:
    """Bytes from the start of the storage to the end of a tensor that has elements."""
    count: int = tensor.numel()
    if not tensor.is_contiguous():
        sizes_and_strides = zip(tensor.shape, tensor.stride(), strict=True)
        count = 1 + sum((size - 1) * stride for size, stride in sizes_and_strides)
    return (int(tensor.storage_offset()) + count) * tensor.element_size()


def place(
    name: str,
    tensor: Tensor | None,
    shape: Sequence[int],
    memory: Memory,
    *,
    rows: bool = False,
) -> Place:
    """Where a tensor lies, or a contiguous copy of it; with ``rows`` if those are not contiguous.

    Raises
    ------
    RuntimeError
        It is another tensor than the call was laid out for.
    """
    if tensor is None:
        return _ABSENT
    check(name, tensor, shape, memory)
    tensor = rows_contiguous(tensor) if rows else tensor.resolve_neg().contiguous()
    return Place(tensor, tensor.data_ptr())


def rows_contiguous(tensor: Tensor) -> Tensor:
    """The engine takes any strides but that of the features."""
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def block_of(name: str, tensor: Tensor, size: int, memory: Memory) -> Place:
    """Where a block of at least ``size`` bytes lies, of whatever shape it is.

    Raises
    ------
    RuntimeError
        It is smaller, or no such block.
    """
    check(name, tensor, tensor.shape, memory)
    if tensor.nbytes < size:
        raise RuntimeError(f"{name}: expected at least {size} bytes, got {tensor.nbytes}")
    tensor = tensor.resolve_neg().contiguous()
    if tensor.data_ptr() % _ALIGNMENT:  # bytes that a hook on saved tensors has put somewhere
        tensor = tensor.clone()
    return Place(tensor, tensor.data_ptr())


def check(name: str, tensor: Tensor, shape: Sequence[int], memory: Memory) -> None:
    """RuntimeError if it is another tensor than the call was laid out for."""
    if _suits(tensor, shape, memory):
        return
    raise RuntimeError(
        f"{name}: expected a strided Tensor of shape {tuple(shape)}, {memory.dtype}, on "
        f"{memory.device} with all of its memory, got a {type(tensor).__name__} of shape "
        f"{tuple(tensor.shape)}, {tensor.dtype}, {tensor.layout}, on {tensor.device}"
    )


def _suits(tensor: Tensor, shape: Sequence[int], memory: Memory) -> bool:
    return (
        tensor.shape == shape
        and tensor.dtype is memory.dtype
        and tensor.device == memory.device
        and is_plain(tensor)
    )


def check_inputs(batch: Batch, tensors: Sequence[Tensor | None]) -> None:
    """RuntimeError if data, hx, cx or a weight is another tensor than it has to be."""
    memory = batch.memory
    for number, (tensor, shape) in enumerate(zip(tensors, batch.input_shapes, strict=True)):
        if tensor is not None and not _suits(tensor, shape, memory):
            check(_name(number), tensor, shape, memory)


def place_inputs(
    batch: Batch, tensors: Sequence[Tensor | None], *, weights: bool = True
) -> list[Place]:
    """Where data, hx, cx and the weights lie, or their gradients; ``weights``: there are some."""
    shapes = batch.input_shapes if weights else batch.input_shapes[:3]
    return [
        place(_name(number), tensor, shape, batch.memory, rows=number == 0)
        for number, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True))
    ]


def place_outputs(batch: Batch, tensors: Sequence[Tensor | None]) -> list[Place]:
    """Where y, h_n, c_n, h_all and c_all lie, or their gradients; h_n may be y."""
    shapes = batch.output_shapes._replace(h_n=batch.state_shapes[0])
    return [
        place("output", tensor, shape or (), batch.memory, rows=number == 0)
        for number, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True))
    ]


def place_new(tensors: Sequence[Tensor | None]) -> list[Place]:
    """Where tensors lie that were made for this very call, and need no look."""
    return [_ABSENT if tensor is None else Place(tensor, tensor.data_ptr()) for tensor in tensors]


def place_masks(batch: Batch, masks: Sequence[Tensor]) -> list[Place]:
    """Where the masks lie; one may be drawn for more rows than there are."""
    if not masks:
        return []
    size = batch.rows * batch.out * batch.memory.dtype.itemsize
    return [block_of("dropout mask", mask, size, batch.memory) for mask in masks]


def _name(number: int) -> str:
    return ("input", "hx", "cx")[number] if number < 3 else f"weights[{number - 3}]"
