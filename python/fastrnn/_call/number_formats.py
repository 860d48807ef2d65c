"""The numbers of frozen weights: how a format keeps them, and what they stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "MOST_OF_INT8",
    "NUMBER_FORMATS",
    "check_format",
    "restored",
    "rounded",
    "scale_name",
]

NUMBER_FORMATS = ("float32", "bfloat16", "int8")

_MOST = 127
_SMALLEST = 2.0**-100
"""Rows of int8 with nothing larger are zeros, as in the engine (isa/formats-inl.h)."""


MOST_OF_INT8 = (2**31 - 1) // _MOST**2
"""Products whose sum the engine has room for."""


def check_format(number_format: Any) -> None:
    """ValueError for a name that is none."""
    if number_format not in NUMBER_FORMATS:
        names = ", ".join(map(repr, NUMBER_FORMATS))
        raise ValueError(f"weights: expected one of {names}, got {number_format!r}")


def scale_name(name: str) -> str:
    """What the scales of a matrix are called."""
    return f"{name}_scale"


def rounded(name: str, weight: Tensor, number_format: str) -> dict[str, Tensor]:
    """A weight of float32 as a format keeps it, by name.

    Biases and other vectors stay as they are; so does every matrix in "float32". In "int8" each row
    has a scale: its largest magnitude is 127 of them.
    """
    if weight.dim() < 2 or number_format == "float32":
        return {name: weight}
    if number_format == "bfloat16":
        return {name: weight.to(torch.bfloat16)}
    scale = weight.abs().amax(-1) / _MOST
    scale = torch.where(scale < _SMALLEST / _MOST, torch.zeros_like(scale), scale)
    divisor = torch.where(scale > 0, scale, torch.full_like(scale, torch.inf))
    return {
        name: (weight / divisor[..., None]).round().to(torch.int8),
        scale_name(name): scale,
    }


def restored(name: str, kept: dict[str, Any]) -> Tensor:
    """The weight that these numbers stand for, in float32."""
    weight: Tensor = kept[name]
    scale: Tensor | None = kept.get(scale_name(name))
    return weight.float() if scale is None else weight.float() * scale[..., None]
