"""The per-step inputs of a program, which go with the input as features behind its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from . import precision
from .checks import check_features, other_dtype, tensor_of

__all__ = ["appended", "check_names"]


def check_names(names: Sequence[str], given: Mapping[str, Any], function: str) -> None:
    """TypeError, in Python's words, if other inputs were given than the cell names."""
    for name in given:
        if name not in names:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    missing = [repr(name) for name in names if name not in given]
    if not missing:
        return
    *others, last = missing
    listed = f"{', '.join(others)} and {last}" if others else last
    plural = "s" if others else ""
    raise TypeError(
        f"{function}() missing {len(missing)} required keyword-only argument{plural}: {listed}"
    )


def appended(
    input: Any, input_size: int, hidden_size: int, inputs: Mapping[str, Any]
) -> tuple[Any, tuple[bool, ...]]:
    """The input with its per-step ``inputs`` behind its features, and which have one for each unit.

    Each is shaped as the input without its features, or has H numbers there.

    Raises
    ------
    RuntimeError
        A shape, dtype or device is another than the input asks for.
    TypeError
        One is no Tensor, or no PackedSequence where the input is one.
    """
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else input
    check_features(data, input_size)
    columns, per_unit = [data], []
    for name, value in inputs.items():
        if packed:
            value = _data_of(name, value, input)
        column = _checked(name, tensor_of(value, name, TypeError), data, hidden_size)
        per_unit.append(column.dim() == data.dim())
        columns.append(column if per_unit[-1] else column.unsqueeze(-1))
    joined = precision.joined(columns, -1)
    return PackedSequence(joined, *input[1:]) if packed else joined, tuple(per_unit)


def _data_of(name: str, value: Any, input: PackedSequence) -> Any:
    if not isinstance(value, PackedSequence):
        raise TypeError(
            f"{name}: expected a PackedSequence as input is one, got {type(value).__name__}"
        )
    ours, theirs = input[1:3], value[1:3]
    if _torch.has_values(input.batch_sizes) and not all(map(_same, ours, theirs)):
        raise RuntimeError(f"{name}: expected the lengths and the order of the packed input")
    return value.data


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a, b)


def _checked(name: str, value: Tensor, data: Tensor, hidden_size: int) -> Tensor:
    shape = tuple(data.shape[:-1])
    if value.shape != shape and value.shape != (*shape, hidden_size):
        raise RuntimeError(
            f"{name}: expected shape {shape}, that of input without its features, or "
            f"{(*shape, hidden_size)}, got {tuple(value.shape)}"
        )
    if value.device != data.device:
        raise RuntimeError(
            f"{name}: expected a Tensor on {data.device}, as input is, got one on {value.device}"
        )
    if not (value.is_floating_point() or value.is_complex()):
        return value.to(data.dtype)
    lowers = value.is_floating_point() and _torch.is_any_autocast_enabled()
    if value.dtype is not data.dtype and not lowers:
        raise RuntimeError(other_dtype(value, name, data.dtype))
    return value
