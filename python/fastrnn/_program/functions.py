"""Functions of torch on symbols: each by the operations of a program, named as torch names it.

Parameters have torch's names, so that keyword arguments work.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from .symbols import Symbol, emit, refuse

__all__: list[str] = []

_PLAIN = (
    *("neg", "exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh", "sin", "cos", "erf"),
    *("abs", "sign", "reciprocal", "rsqrt", "detach"),
)
"""Operations of one operand that torch has a function and a method of the same name for."""


def _number(value: Any, what: str) -> float:
    if isinstance(value, Symbol) or not isinstance(value, (bool, int, float)):
        refuse(f"{what} of type {type(value).__name__}", "expected a Python number")
    return float(value)


def _arithmetic(operation: str, a: Any, b: Any) -> Symbol:
    if all(isinstance(one, Symbol) and one.boolean for one in (a, b)):
        refuse(f"{operation} of two comparisons", "& and | combine what is true or false")
    return emit(operation, a, b)


def add(input: Any, other: Any, *, alpha: Any = 1) -> Symbol:
    return _arithmetic("add", input, other if alpha == 1 else mul(other, alpha))


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Symbol:
    return _arithmetic("sub", input, other if alpha == 1 else mul(other, alpha))


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Symbol:
    return sub(other, input, alpha=alpha)


def mul(input: Any, other: Any) -> Any:
    symbolic = isinstance(input, Symbol) or isinstance(other, Symbol)
    return emit("mul", input, other) if symbolic else input * other


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Symbol:
    if rounding_mode is not None:
        refuse(f"division with rounding_mode={rounding_mode!r}")
    return _arithmetic("div", input, other)


def pow(input: Any, exponent: Any) -> Symbol:
    if not isinstance(input, Symbol):
        refuse("a number to the power of a value", "exp(value * log(number)) says the same")
    exponent = _number(exponent, "an exponent")
    if abs(exponent) == 0.5:
        return emit("sqrt" if exponent > 0 else "rsqrt", input)
    if not exponent.is_integer() or abs(exponent) > 8:
        refuse(f"** {exponent}", "expected an exponent of 0.5, -0.5 or a whole number up to 8")
    result = emit("mul", input, ones_like(input)) if exponent else ones_like(input)
    for _ in range(1, int(abs(exponent))):
        result = emit("mul", result, input)
    return emit("reciprocal", result) if exponent < 0 else result


def ones_like(input: Symbol) -> Symbol:
    return Symbol(input.graph, input.graph.constant(1))


def zeros_like(input: Symbol) -> Symbol:
    return Symbol(input.graph, input.graph.constant(0))


def square(input: Symbol) -> Symbol:
    return emit("mul", input, input)


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
        cubic = emit("add", input, emit("mul", 0.044715, pow(input, 3)))
        inner = emit("tanh", emit("mul", cubic, math.sqrt(2 / math.pi)))
    else:
        inner = emit("erf", emit("mul", input, math.sqrt(0.5)))
    return emit("mul", half, emit("add", inner, 1))


def softplus(input: Symbol, beta: Any = 1, threshold: Any = 20) -> Symbol:
    _number(threshold, "a threshold")  # torch's way to keep exp finite: beyond it, it is the input
    beta = _number(beta, "beta")
    return emit("div", emit("softplus", emit("mul", input, beta)), beta)


def logsigmoid(input: Symbol) -> Symbol:
    return emit("neg", emit("softplus", emit("neg", input)))


def _negative_part(input: Symbol) -> Symbol:
    """Zero where the input is positive, so that what follows stays finite there."""
    return emit("where", emit("lt", 0, input), 0, input)


def elu(input: Symbol, alpha: Any = 1.0, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    alpha = _number(alpha, "alpha")
    if alpha >= 0:
        return emit("elu", input, alpha)
    negative = emit("mul", emit("expm1", _negative_part(input)), alpha)
    return emit("where", emit("lt", 0, input), input, negative)


def leaky_relu(input: Symbol, negative_slope: Any = 0.01, inplace: bool = False) -> Symbol:
    _not_in_place(inplace)
    return emit("leaky_relu", input, _number(negative_slope, "negative_slope"))


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
    low, high = _number(min_val, "min_val"), _number(max_val, "max_val")
    below = emit("where", emit("le", high, input), high, input)
    return emit("where", emit("le", input, low), low, below)


def minimum(input: Any, other: Any) -> Symbol:
    return emit("minimum", input, other)


def maximum(input: Any, other: Any) -> Symbol:
    return emit("maximum", input, other)


def clamp(input: Symbol, min: Any = None, max: Any = None) -> Symbol:
    if isinstance(min, (int, float)) and isinstance(max, (int, float)) and min <= max:
        return emit("clamp", input, min, max)
    result = input if min is None else emit("clamp_min", input, min)
    return result if max is None else emit("clamp_max", result, max)


def clamp_min(input: Symbol, min: Any) -> Symbol:
    return clamp(input, min=min)


def clamp_max(input: Symbol, max: Any) -> Symbol:
    return clamp(input, max=max)


def where(condition: Any, input: Any = None, other: Any = None) -> Symbol:
    if input is None or other is None:
        refuse("torch.where of a condition alone")
    if not isinstance(condition, Symbol) or not condition.boolean:
        refuse("torch.where", "its condition must be a comparison, as value > 0 is")
    return emit("where", condition, input, other)


def _where_method(self: Any, condition: Any, other: Any) -> Symbol:
    return where(condition, self, other)


def lerp(input: Any, end: Any, weight: Any) -> Symbol:
    return emit("add", input, emit("mul", weight, emit("sub", end, input)))


def lt(input: Any, other: Any) -> Symbol:
    return emit("lt", input, other)


def gt(input: Any, other: Any) -> Symbol:
    return emit("lt", other, input)


def le(input: Any, other: Any) -> Symbol:
    return emit("le", input, other)


def ge(input: Any, other: Any) -> Symbol:
    return emit("le", other, input)


def eq(input: Any, other: Any) -> Symbol:
    return emit("eq", input, other)


def ne(input: Any, other: Any) -> Symbol:
    return emit("one_minus", emit("eq", input, other))


def _of_conditions(operation: str, name: str) -> Callable[..., Symbol]:
    def combined(input: Any, *other: Any) -> Symbol:
        if not all(isinstance(one, Symbol) and one.boolean for one in (input, *other)):
            refuse(name, "expected comparisons, as value > 0 is one")
        return emit(operation, input, *other)

    return combined


def _identity(input: Symbol) -> Symbol:
    return input


def _checked(name: str, function: Callable[..., Symbol]) -> Callable[..., Symbol]:
    """With an error in the words of a cell for arguments that it does not know."""
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Symbol:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            refuse(name, f"{error}, for the parameters {signature.replace(return_annotation='')}")
        return function(*args, **kwargs)

    return checked


def _plain(operation: str) -> Callable[..., Symbol]:
    def plain(input: Symbol) -> Symbol:
        return emit(operation, input)

    return plain


_NAMED: dict[str, Callable[..., Symbol]] = {
    **{name: _plain(name) for name in _PLAIN},
    **{"negative": _plain("neg"), "absolute": _plain("abs"), "positive": _identity},
    **{"add": add, "sub": sub, "subtract": sub, "rsub": rsub, "mul": mul, "multiply": mul},
    **{"div": div, "divide": div, "true_divide": div, "pow": pow, "square": square},
    **{"relu": relu, "silu": silu, "gelu": gelu, "softplus": softplus},
    **{"logsigmoid": logsigmoid, "elu": elu, "leaky_relu": leaky_relu, "softsign": softsign},
    **{"hardsigmoid": hardsigmoid, "hardtanh": hardtanh, "minimum": minimum, "maximum": maximum},
    **{"clamp": clamp, "clip": clamp, "clamp_min": clamp_min, "clamp_max": clamp_max},
    **{"where": where, "lerp": lerp, "lt": lt, "less": lt, "gt": gt, "greater": gt, "le": le},
    **{"less_equal": le, "ge": ge, "greater_equal": ge, "eq": eq, "ne": ne, "not_equal": ne},
    "logical_and": _of_conditions("mul", "torch.logical_and"),
    "logical_or": _of_conditions("maximum", "torch.logical_or"),
    "logical_not": _of_conditions("one_minus", "torch.logical_not"),
    **{"ones_like": ones_like, "zeros_like": zeros_like, "clone": _identity},
}

_FUNCTIONS_ALONE = ("where", "ones_like", "zeros_like", "rsub")
"""Functions of torch's that are no methods of a tensor, or not with the same order of operands."""


def _register() -> None:
    for name, function in _NAMED.items():
        for home, prefix in ((torch, "torch"), (torch.nn.functional, "torch.nn.functional")):
            if hasattr(home, name):
                known = getattr(home, name)
                Symbol.functions[known] = _checked(f"{prefix}.{name}", function)
        if hasattr(torch.Tensor, name) and name not in _FUNCTIONS_ALONE:
            method = _checked(f"Tensor.{name}", function)
            Symbol.methods[name] = Symbol.functions[getattr(torch.Tensor, name)] = method
    Symbol.methods["where"] = _checked("Tensor.where", _where_method)


def _operators() -> dict[str, Callable[..., Any]]:
    """Python's operators, those with the tensor on the right side too."""
    both: dict[str, Callable[..., Any]] = {"add": add, "sub": sub, "mul": mul, "truediv": div}
    both |= {"and": _NAMED["logical_and"], "or": _NAMED["logical_or"], "pow": pow}
    operators: dict[str, Callable[..., Any]] = {
        "neg": _NAMED["neg"],
        "pos": _identity,
        "abs": _NAMED["abs"],
        "invert": _NAMED["logical_not"],
        **{"lt": lt, "le": le, "gt": gt, "ge": ge, "eq": eq, "ne": ne},
        **both,
    }
    for name, function in both.items():
        operators[f"r{name}"] = lambda a, b, function=function: function(b, a)
    return operators


def _refused(what: str, why: str = "") -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        refuse(what, why)

    return refused


def _complete() -> None:
    for name, function in _operators().items():
        setattr(Symbol, f"__{name}__", function)
    control = "Python cannot look at a value, which every unit of every row has its own of"
    for name in ("float", "int", "len", "iter", "index", "complex", "round", "contains", "array"):
        setattr(Symbol, f"__{name}__", _refused(f"{name}()", control))
    for name, sign in (("getitem", "[]"), ("setitem", "[] ="), ("matmul", "@"), ("mod", "%")):
        setattr(Symbol, f"__{name}__", _refused(f"a value with {sign}"))
    for name, sign in (("rmatmul", "@"), ("floordiv", "//"), ("rfloordiv", "//"), ("xor", "^")):
        setattr(Symbol, f"__{name}__", _refused(f"a value with {sign}"))


_register()
_complete()
