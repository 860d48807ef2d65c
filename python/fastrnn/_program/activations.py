"""Activations of torch's on symbols, most of several operations; parameters have torch's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .symbols import Symbol, emit, number, refuse

__all__ = ["ACTIVATIONS"]


def relu(input: Symbol, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    return emit("relu", input)


def _not_in_place(inplace: bool) -> None:
    if inplace:
        refuse("inplace=True", "values do not change")


def silu(input: Symbol, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    return emit("mul", input, emit("sigmoid", input))


def gelu(input: Symbol, approximate: str = "none") -> Symbol:
    half = emit("mul", input, 0.5)
    if approximate == "tanh":
        cube = emit("mul", emit("mul", input, input), input)
        cubic = emit("add", input, emit("mul", 0.044715, cube))
        inner = emit("tanh", emit("mul", cubic, math.sqrt(2 / math.pi)))
    else:
        inner = emit("erf", emit("mul", input, math.sqrt(0.5)))
    return emit("mul", half, emit("add", inner, 1))


def softplus(input: Symbol, beta: Any = 1, threshold: Any = 20) -> Symbol:
    """To full precision with torch's threshold, which is there to keep its exp finite."""
    beta, threshold = number(beta, "beta"), number(threshold, "a threshold")
    inner = emit("mul", input, beta)
    result = emit("div", emit("softplus", inner), beta)
    return result if threshold == 20 else emit("where", emit("lt", threshold, inner), input, result)


def logsigmoid(input: Symbol) -> Symbol:
    return emit("neg", emit("softplus", emit("neg", input)))


def _negative_part(input: Symbol) -> Symbol:
    """Zero where the input is positive, so that what follows stays finite there."""
    return emit("where", emit("lt", 0, input), 0, input)


def elu(input: Symbol, alpha: Any = 1.0, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    alpha = number(alpha, "alpha")
    if alpha >= 0:
        return emit("elu", input, alpha)
    negative = emit("mul", emit("expm1", _negative_part(input)), alpha)
    return emit("where", emit("lt", 0, input), input, negative)


def selu(input: Symbol, inplace: bool = False) -> Symbol:
    return emit("mul", elu(input, 1.6732632423543772, inplace), 1.0507009873554805)


def celu(input: Symbol, alpha: Any = 1.0, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    alpha = number(alpha, "alpha")
    negative = emit("expm1", emit("div", _negative_part(input), alpha))
    return emit("where", emit("lt", 0, input), input, emit("mul", negative, alpha))


def leaky_relu(input: Symbol, negative_slope: Any = 0.01, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    return emit("leaky_relu", input, number(negative_slope, "negative_slope"))


def softsign(input: Symbol) -> Symbol:
    return emit("div", input, emit("add", emit("abs", input), 1))


def hardsigmoid(input: Symbol, inplace: bool = False) -> Symbol:
    """Its gradient at -3 and 3 is zero, as torch's."""
    _not_in_place(inplace)
    line = emit("add", emit("mul", input, 1 / 6), 0.5)
    above = emit("where", emit("le", 3, input), 1, line)
    return emit("where", emit("le", input, -3), 0, above)


def hardtanh(
    input: Symbol, min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False
) -> Symbol:
    """Its gradient at the limits is zero, as torch's."""
    _not_in_place(inplace)
    low, high = number(min_val, "min_val"), number(max_val, "max_val")
    below = emit("where", emit("le", high, input), high, input)
    return emit("where", emit("le", input, low), low, below)


def relu6(input: Symbol, inplace: bool = False) -> Symbol:
    return hardtanh(input, 0, 6, inplace)


def hardswish(input: Symbol, inplace: bool = False) -> Symbol:
    return emit("mul", input, hardsigmoid(input, inplace))


def mish(input: Symbol, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    return emit("mul", input, emit("tanh", emit("softplus", input)))


def tanhshrink(input: Symbol) -> Symbol:
    return emit("sub", input, emit("tanh", input))


def hardshrink(input: Symbol, lambd: Any = 0.5) -> Symbol:
    return emit("where", emit("le", emit("abs", input), number(lambd, "lambd")), 0, input)


def softshrink(input: Symbol, lambd: Any = 0.5) -> Symbol:
    """Its gradient at the limits is zero, as torch's."""
    lambd = number(lambd, "lambd")
    nearer = emit(
        "where", emit("lt", 0, input), emit("sub", input, lambd), emit("add", input, lambd)
    )
    return emit("where", emit("le", emit("abs", input), lambd), 0, nearer)


def threshold(input: Symbol, threshold: Any, value: Any, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    below = emit("le", input, number(threshold, "a threshold"))
    return emit("where", below, number(value, "a value"), input)


ACTIVATIONS: dict[str, Callable[..., Symbol]] = {
    **{"relu": relu, "silu": silu, "gelu": gelu, "softplus": softplus, "logsigmoid": logsigmoid},
    **{"elu": elu, "selu": selu, "celu": celu, "leaky_relu": leaky_relu, "softsign": softsign},
    **{"hardsigmoid": hardsigmoid, "hardtanh": hardtanh, "relu6": relu6, "hardswish": hardswish},
    **{"mish": mish, "tanhshrink": tanhshrink, "hardshrink": hardshrink, "softshrink": softshrink},
    "threshold": threshold,
}
