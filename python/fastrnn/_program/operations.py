"""What a program can compute of a unit, operation by operation: on tensors and on numbers.

The names are the engine's instructions; those that it has not are lowered to some that it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["COMMUTATIVE", "OPERATIONS", "SOURCES", "Operation", "folded"]

SOURCES = ("x", "u", "s", "p", "e", "constant")
"""Of a gate: the input's share and the recurrent one; a state, a vector, a per-step input."""

COMMUTATIVE = {"add", "mul", "eq"}


class Operation(NamedTuple):
    """How many operands it has, its value for tensors of one dtype, and for Python's numbers."""

    operands: int
    tensors: Callable[..., Tensor]
    numbers: Callable[..., float] | None


def _number(comparison: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: comparison(a, b).to(torch.promote_types(a.dtype, b.dtype))


def _softplus(a: Tensor) -> Tensor:
    """To full precision, with a threshold beyond which nothing of the exponential is left."""
    return torch.nn.functional.softplus(a, threshold=40)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition != 0, a, b)


def _elu(a: Tensor, alpha: Tensor) -> Tensor:
    negative = torch.where(a > 0, torch.zeros_like(a), a)  # whose exponential is finite
    return torch.where(a > 0, a, alpha * torch.expm1(negative))


def _leaky_relu(a: Tensor, slope: Tensor) -> Tensor:
    return torch.where(a > 0, a, slope * a)


def _same(a: Any) -> Any:
    return a


OPERATIONS = {
    "neg": Operation(1, torch.neg, lambda a: -a),
    "exp": Operation(1, torch.exp, math.exp),
    "expm1": Operation(1, torch.expm1, math.expm1),
    "log": Operation(1, torch.log, math.log),
    "log1p": Operation(1, torch.log1p, math.log1p),
    "sqrt": Operation(1, torch.sqrt, math.sqrt),
    "sigmoid": Operation(1, torch.sigmoid, lambda a: 1 / (1 + math.exp(-a))),
    "tanh": Operation(1, torch.tanh, math.tanh),
    "softplus": Operation(1, _softplus, lambda a: max(a, 0.0) + math.log1p(math.exp(-abs(a)))),
    "sin": Operation(1, torch.sin, math.sin),
    "cos": Operation(1, torch.cos, math.cos),
    "erf": Operation(1, torch.erf, math.erf),
    "abs": Operation(1, torch.abs, abs),
    "sign": Operation(1, torch.sign, lambda a: float((a > 0) - (a < 0))),
    "relu": Operation(1, torch.relu, lambda a: max(a, 0.0)),
    "reciprocal": Operation(1, torch.reciprocal, lambda a: 1 / a),
    "rsqrt": Operation(1, torch.rsqrt, lambda a: 1 / math.sqrt(a)),
    "one_minus": Operation(1, lambda a: 1 - a, lambda a: 1 - a),
    "add": Operation(2, torch.add, lambda a, b: a + b),
    "sub": Operation(2, torch.sub, lambda a, b: a - b),
    "mul": Operation(2, torch.mul, lambda a, b: a * b),
    "div": Operation(2, torch.div, lambda a, b: a / b),
    "minimum": Operation(2, torch.minimum, min),
    "maximum": Operation(2, torch.maximum, max),
    "lt": Operation(2, _number(torch.lt), lambda a, b: float(a < b)),
    "le": Operation(2, _number(torch.le), lambda a, b: float(a <= b)),
    "eq": Operation(2, _number(torch.eq), lambda a, b: float(a == b)),
    "where": Operation(3, _where, lambda condition, a, b: a if condition else b),
    # Of one value and constants: alpha is not negative, and a slope is any number.
    "elu": Operation(2, _elu, lambda a, alpha: a if a > 0 else alpha * math.expm1(a)),
    "leaky_relu": Operation(2, _leaky_relu, lambda a, slope: a if a > 0 else slope * a),
    "clamp": Operation(3, torch.clamp, lambda a, low, high: min(max(a, low), high)),
    # As maximum and minimum, but at the limit all of the gradient is the first operand's.
    "clamp_min": Operation(2, lambda a, b: torch.clamp(a, min=b), max),
    "clamp_max": Operation(2, lambda a, b: torch.clamp(a, max=b), min),
    # Of a gradient and a value: what flows on through the function that has given the value.
    "d_sigmoid": Operation(2, lambda g, y: g * y * (1 - y), lambda g, y: g * y * (1 - y)),
    "d_tanh": Operation(2, lambda g, y: g * (1 - y * y), lambda g, y: g * (1 - y * y)),
    "d_relu": Operation(
        2,
        lambda g, y: torch.where(y <= 0, torch.zeros_like(g), g),
        lambda g, y: 0.0 if y <= 0 else g,
    ),
    # The sum over all units of the row, the same for each of them. `tensors.py` knows how many.
    "row_sum": Operation(1, _same, None),
    # Its own operand, which backward may take for a constant: what reads it has there derivatives
    # that add up to zero over the row, as those of a variance by the mean.
    "stationary": Operation(1, _same, _same),
    # Its own operand, to which no gradient flows.
    "detach": Operation(1, torch.detach, _same),
}


def folded(name: str, numbers: list[float]) -> float | None:
    """The value of an operation of constants; None where the program has to compute it."""
    function = OPERATIONS[name].numbers
    if function is None or any(math.isnan(number) for number in numbers):
        return None
    try:
        return float(function(*numbers))
    except (ArithmeticError, ValueError):
        return None
