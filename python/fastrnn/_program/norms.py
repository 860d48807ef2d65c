"""Normalisation over all units of a row, of tensors and of a cell's values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .names import Names
from .symbols import Symbol, emit

__all__ = ["layer_norm", "rms_norm"]


def layer_norm(values: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Layer normalisation over the units of each row, for the methods of a `fastrnn.Cell`.

    With mean and variance over all units of all the values::

        y = (value - mean) / sqrt(variance + eps) * weight + bias

    Parameters
    ----------
    values : value or sequence of values
        One quantity [B, H] of the cell, or several that are normalised together: four gates of H
        units as one vector of 4H. Tensors or, while the cell is traced, its symbols.
    weight, bias : like values, optional
        A sequence holds one for each value; a single one serves all.
    eps : float

    Returns
    -------
    value or tuple of values
        As many as there were.

    Raises
    ------
    ValueError
        A sequence of weights or biases has another length than that of values, or values is none.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer Normalization"; ``torch.nn.functional.layer_norm``.
    """
    items = _items(values)
    units = _units(items)
    mean = _div(_row_sum(items), units)
    squares = [_square(item - _stationary(mean)) for item in items]
    scale = _rsqrt(_div(_row_sum(squares), units) + eps)
    return _finished(values, [(item - mean) * scale for item in items], weight, bias)


def rms_norm(values: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalisation by the root of the mean of the squares; parameters as in `layer_norm`.

    With the mean over all units of all the values::

        y = value / sqrt(mean(value^2) + eps) * weight + bias

    References
    ----------
    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; ``torch.nn.functional.rms_norm``.
    """
    items = _items(values)
    scale = _rsqrt(_div(_row_sum([_square(item) for item in items]), _units(items)) + eps)
    return _finished(values, [item * scale for item in items], weight, bias)


def _single(values: Any) -> bool:
    return isinstance(values, (Tensor, Symbol))


def _items(values: Any) -> list[Any]:
    items = [values] if _single(values) else list(values)
    if not items:
        raise ValueError("expected a value or a sequence of values to normalise, got none")
    return items


def _units(items: Sequence[Any]) -> Any:
    """How many numbers are normalised together; for a symbol a sum of ones."""
    if isinstance(items[0], Symbol):
        one = Symbol(items[0].graph, items[0].graph.constant(1))
        return emit("mul", emit("row_sum", one), len(items))
    return items[0].shape[-1] * len(items)


def _row_sum(items: Sequence[Any]) -> Any:
    total = reduce(lambda a, b: a + b, items)
    return emit("row_sum", total) if isinstance(total, Symbol) else total.sum(-1, keepdim=True)


def _stationary(mean: Any) -> Any:
    return emit("stationary", mean) if isinstance(mean, Symbol) else mean


def _div(a: Any, b: Any) -> Any:
    return a / b


def _square(a: Any) -> Any:
    return a * a


def _rsqrt(a: Any) -> Any:
    return torch.rsqrt(a)


def _finished(values: Any, normed: list[Any], weight: Any, bias: Any) -> Any:
    for name, given in (("weight", weight), ("bias", bias)):
        if _single(values) and isinstance(given, (list, tuple)):
            raise ValueError(f"{name}: expected one value, as values is, got a sequence")
    weights, biases = _each(weight, len(normed), "weight"), _each(bias, len(normed), "bias")
    scaled = [
        one if weight is None else one * weight for one, weight in zip(normed, weights, strict=True)
    ]
    moved = [one if b is None else one + b for one, b in zip(scaled, biases, strict=True)]
    return moved[0] if _single(values) else tuple(moved)


def _each(given: Any, count: int, name: str) -> Sequence[Any]:
    """One for each value."""
    if not isinstance(given, (list, tuple, Names)):
        return [given] * count
    items = list(given)
    if len(items) != count:
        raise ValueError(f"{name}: expected one or {count}, as many as values, got {len(items)}")
    return items
