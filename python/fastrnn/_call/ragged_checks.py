"""The checks of what makes a batch ragged: packed batches, ``lengths`` and ``resets``.

The engine follows these numbers through memory, so none may pass here that leads out of it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import describe_value, tensor_of

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_packed(
    data: Tensor, batch_sizes: Tensor, sorted_indices: Tensor | None, batch: int | None = None
) -> int:
    """The number of sequences in a packed batch whose indices are safe to follow.

    ``batch`` is what that number has to be, if something else has told it already.

    torch's own packing always makes such batches, but a PackedSequence is a tuple that anyone can
    fill, and the engine follows its numbers through memory.

    Raises
    ------
    RuntimeError
        The parts contradict each other. IndexError, as in torch, where there is not one step.
    """
    if data.dim() != 2:
        raise RuntimeError(f"input must have 2 dimensions, got {data.dim()}, if it is packed")
    _check_index(batch_sizes, "input.batch_sizes")
    sizes: list[int] = batch_sizes.tolist()
    if not sizes:
        raise IndexError("input.batch_sizes: expected the sizes of at least one step, got none")
    if sizes[-1] < 1 or sizes != sorted(sizes, reverse=True) or sum(sizes) != len(data):
        raise RuntimeError(
            f"input.batch_sizes: expected positive sizes that never rise and add up to the "
            f"{len(data)} rows of input.data, got {reprlib.repr(sizes)}"
        )
    if batch is not None and sizes[0] != batch:
        raise RuntimeError(f"input.batch_sizes: expected {batch} sequences, got {sizes[0]}")
    if sorted_indices is not None and data.is_cuda:  # index_select looks at the values
        _check_index(sorted_indices, "input.sorted_indices", data.device)
    elif sorted_indices is not None:
        _check_index(sorted_indices, "input.sorted_indices")
        order = sorted_indices.tolist()
        if sorted(order) != list(range(sizes[0])):
            raise RuntimeError(
                f"input.sorted_indices: expected a permutation of {sizes[0]} sequences, "
                f"got {reprlib.repr(order)}"
            )
    return sizes[0]


def check_lengths(
    lengths: Any, steps: int, batch: int, device: torch.device, *, known: bool = True
) -> Tensor:
    """``lengths`` as a Tensor [B] int64 that is nobody else's, on the CPU or the CUDA ``device``.

    Where their values are not ``known`` yet, they are checked once they are. Values that already
    lie on a GPU are not checked, since the program would have to wait for them: there a length
    below 0 counts as 0 and one above T as T.

    Raises
    ------
    ValueError
        They are not one integer for each sequence, each of them 0 to T.
    RuntimeError
        They lie on the CPU while a CUDA graph is captured.
    """
    try:
        given = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device="cpu")
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"lengths: expected {batch} integers, got {lengths!r}") from None
    if given.dim() != 1 or given.shape[0] != batch:
        raise ValueError(
            f"lengths: expected shape {(batch,)}, one for each sequence, got {tuple(given.shape)}"
        )
    if given.dtype not in INTEGERS and batch > 0:
        raise ValueError(f"lengths: expected integers, got {given.dtype}")
    if given.is_cuda and device.type == "cuda":
        return given.to(device, torch.int64, copy=True, memory_format=torch.contiguous_format)
    checked = given.to("cpu", torch.int64, copy=True)
    if known:
        check_capture("lengths", given.device, device)
    values: list[int] = checked.tolist() if known else []
    if values and (min(values) < 0 or max(values) > steps):
        raise ValueError(
            f"lengths: expected numbers from 0 to the {steps} steps of input, "
            f"got {reprlib.repr(values)}"
        )
    return checked.to(device, non_blocking=True) if device.type == "cuda" else checked


def check_resets(resets: Any, shape: Sequence[int]) -> Tensor:
    """``resets`` if it is a bool Tensor of this shape, that of input without its features.

    Raises
    ------
    ValueError
        It is not.
    """
    flags = tensor_of(resets, "resets", ValueError)
    if flags.dtype is not torch.bool:
        raise ValueError(f"resets: expected torch.bool, got {flags.dtype}; convert it with .bool()")
    if flags.shape != shape:
        raise ValueError(
            f"resets: expected shape {tuple(shape)}, that of input without its features, "
            f"got {tuple(flags.shape)}"
        )
    return flags


def check_capture(name: str, where: torch.device, device: torch.device) -> None:
    """RuntimeError if a CUDA graph that is being captured would have to copy from the CPU.

    A copy from there would be another at each replay, and torch ends the capture at it.
    """
    if where.type != "cuda" and _is_capturing(device):
        raise RuntimeError(
            f"{name}: expected values on {device} while a CUDA graph is captured, got some on "
            f"{where}; copy them there before"
        )


def check_capture_of_states(device: torch.device) -> None:
    """RuntimeError if a CUDA graph is being captured: a packed batch's order lies on the CPU."""
    if _is_capturing(device):
        raise RuntimeError(
            f"return_states: expected False with a PackedSequence on {device} while a CUDA graph "
            f"is captured, since its batch_sizes lie on cpu; give a padded input with lengths"
        )


def _is_capturing(device: torch.device) -> bool:
    if device.type != "cuda" or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.cuda.is_current_stream_capturing())


def check_absent(name: str, value: Any) -> None:
    """Refuse an argument that says again what a PackedSequence says, or cannot be packed with it.

    Raises
    ------
    ValueError
        It is there.
    """
    if value is not None:
        raise ValueError(
            f"{name}: expected None with a PackedSequence, got {describe_value(value)}; "
            f"give a padded input instead, with lengths"
        )


def _check_index(index: Tensor, name: str, device: torch.device | None = None) -> None:
    device = device or torch.device("cpu")
    if index.dtype is not torch.int64 or index.dim() != 1 or index.device != device:
        raise RuntimeError(
            f"{name}: expected a one-dimensional torch.int64 Tensor on {device}, "
            f"got {describe_value(index)} of {index.dtype} on {index.device}"
        )
