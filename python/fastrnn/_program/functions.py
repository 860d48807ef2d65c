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

from .activations import ACTIVATIONS
from .symbols import DTYPE, INSTEAD, Symbol, emit, number, refuse, result

__all__: list[str] = []

_PLAIN = (
    *("neg", "exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh", "sin", "cos", "erf"),
    *("abs", "sign", "reciprocal", "rsqrt", "detach"),
)
"""Operations of one operand that torch has a function and a method of the same name for."""


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
    exponent = number(exponent, "an exponent")
    if abs(exponent) == 0.5:
        return emit("sqrt" if exponent > 0 else "rsqrt", input)
    if not exponent.is_integer() or abs(exponent) > 8:
        refuse(f"** {exponent}", "expected an exponent of 0.5, -0.5 or a whole number up to 8")
    base = emit("reciprocal", input) if exponent < 0 else input
    power = emit("mul", base, ones_like(input)) if exponent else ones_like(input)
    for _ in range(1, int(abs(exponent))):
        power = emit("mul", power, base)
    return power


def full_like(input: Symbol, fill_value: Any) -> Symbol:
    return Symbol(input.graph, input.graph.constant(number(fill_value, "fill_value")))


def ones_like(input: Symbol) -> Symbol:
    return full_like(input, 1)


def zeros_like(input: Symbol) -> Symbol:
    return full_like(input, 0)


def square(input: Symbol) -> Symbol:
    return emit("mul", input, input)


def minimum(input: Any, other: Any) -> Symbol:
    return emit("minimum", input, other)


def maximum(input: Any, other: Any) -> Symbol:
    return emit("maximum", input, other)


def _of_two(name: str) -> Callable[..., Symbol]:
    def extremum(input: Any, other: Any) -> Symbol:
        if not isinstance(other, (Symbol, torch.Tensor)):
            refuse(f"torch.{name} over a dimension")
        return emit(f"{name}imum", input, other)

    return extremum


def exp2(input: Symbol) -> Symbol:
    return emit("exp", emit("mul", input, math.log(2)))


def log2(input: Symbol) -> Symbol:
    return emit("mul", emit("log", input), 1 / math.log(2))


def log10(input: Symbol) -> Symbol:
    return emit("mul", emit("log", input), 1 / math.log(10))


def logaddexp(input: Any, other: Any) -> Symbol:
    apart = emit("where", emit("eq", input, other), 0, emit("sub", input, other))  # not inf - inf
    beyond = emit("softplus", emit("neg", emit("abs", apart)))
    return emit("add", emit("maximum", input, other), beyond)


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Symbol:
    return add(input, mul(tensor1, tensor2), alpha=value)


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Symbol:
    return add(input, div(tensor1, tensor2), alpha=value)


def heaviside(input: Symbol, values: Any) -> Symbol:
    return emit("where", emit("eq", input, 0), values, emit("lt", 0, input))


def clamp(input: Symbol, min: Any = None, max: Any = None) -> Symbol:
    if min is None and max is None:
        refuse("torch.clamp without a limit", "expected min, max or both")
    if isinstance(min, (int, float)) and isinstance(max, (int, float)) and min <= max:
        return emit("clamp", input, min, max)
    if isinstance(min, Symbol) and max is not None:  # torch: no gradient to min unless below max
        min = emit("where", emit("lt", min, max), min, emit("detach", min))
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


def masked_fill(input: Any, mask: Any, value: Any) -> Symbol:
    return where(mask, value, input)


def lerp(input: Any, end: Any, weight: Any) -> Symbol:
    if isinstance(weight, (int, float)) and abs(weight) >= 0.5:  # torch's: exact at 1
        rest = emit("mul", emit("sub", end, input), 1 - weight)
        return emit("sub", end, rest)
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
        return ne(input, *other) if operation == "ne" else emit(operation, input, *other)

    return combined


def isnan(input: Symbol) -> Symbol:
    return ne(input, input)


def isinf(input: Symbol) -> Symbol:
    return eq(emit("abs", input), math.inf)


def isfinite(input: Symbol) -> Symbol:
    return lt(emit("abs", input), math.inf)


def _identity(input: Symbol) -> Symbol:
    return input


def _copy(input: Symbol) -> Symbol:
    return result(input.graph, input.index, input.boolean)


def _of_condition(input: Symbol) -> Symbol:
    if not input.boolean:
        refuse("a dtype of its own", "a value has the dtype of the layer")
    return result(input.graph, input.index)


def to(input: Symbol, other: Any) -> Symbol:
    """The dtype of another value is that of this one, if this is no comparison."""
    if isinstance(other, Symbol) or other is DTYPE:
        return result(input.graph, input.index)
    return _of_condition(input)


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
    **ACTIVATIONS,
    **{"minimum": minimum, "maximum": maximum, "min": _of_two("min"), "max": _of_two("max")},
    **{"exp2": exp2, "log2": log2, "log10": log10, "logaddexp": logaddexp},
    **{"addcmul": addcmul, "addcdiv": addcdiv, "sgn": _plain("sign"), "heaviside": heaviside},
    **{"clamp": clamp, "clip": clamp, "clamp_min": clamp_min, "clamp_max": clamp_max},
    **{"where": where, "lerp": lerp, "lt": lt, "less": lt, "gt": gt, "greater": gt, "le": le},
    **{"less_equal": le, "ge": ge, "greater_equal": ge, "eq": eq, "ne": ne, "not_equal": ne},
    "logical_and": _of_conditions("mul", "torch.logical_and"),
    "logical_or": _of_conditions("maximum", "torch.logical_or"),
    "logical_not": _of_conditions("one_minus", "torch.logical_not"),
    "logical_xor": _of_conditions("ne", "torch.logical_xor"),
    **{"isnan": isnan, "isinf": isinf, "isfinite": isfinite, "masked_fill": masked_fill},
    **{"ones_like": ones_like, "zeros_like": zeros_like, "full_like": full_like},
    **{"clone": _copy, "to": to, "type_as": to, "float": _of_condition, "double": _of_condition},
}


def _of_numbers(name: str) -> Callable[..., Symbol]:
    """The function, which torch has of numbers alone."""
    function = _NAMED[name]

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Symbol:
        if any(isinstance(one, Symbol) and one.boolean for one in (*args, *kwargs.values())):
            refuse(f"{name} of a comparison", "~ turns one round, .float() makes numbers of it")
        return function(*args, **kwargs)

    return checked


_OF_NUMBERS = ("neg", "negative", "abs", "absolute", "positive", "sub", "subtract", "rsub", "lerp")
_NAMED |= {name: _of_numbers(name) for name in (*_OF_NUMBERS, *ACTIVATIONS)}

_SPECIAL = {"expit": "sigmoid"} | {name: name for name in ("exp2", "expm1", "log1p", "erf")}
"""Functions of torch.special and what they are called in torch."""

_FUNCTIONS_ALONE = ("where", "ones_like", "zeros_like", "full_like", "rsub")
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
    for name, plain in _SPECIAL.items():
        function = _checked(f"torch.special.{name}", _NAMED[plain])
        Symbol.functions[getattr(torch.special, name)] = function
    Symbol.methods["where"] = _checked("Tensor.where", _where_method)


def _operators() -> dict[str, Callable[..., Any]]:
    """Python's operators, those with the tensor on the right side too."""
    both: dict[str, Callable[..., Any]] = {"add": add, "sub": _NAMED["sub"], "mul": mul}
    both["truediv"] = div
    both |= {"and": _NAMED["logical_and"], "or": _NAMED["logical_or"], "pow": pow}
    both["xor"] = _NAMED["logical_xor"]
    operators: dict[str, Callable[..., Any]] = {
        "neg": _NAMED["neg"],
        "pos": _NAMED["positive"],
        "abs": _NAMED["abs"],
        "invert": _NAMED["logical_not"],
        **{"lt": lt, "le": le, "gt": gt, "ge": ge, "eq": eq, "ne": ne},
        **both,
    }
    for name, function in both.items():
        operators[f"r{name}"] = lambda a, b, function=function: function(b, a)
        operators[f"i{name}"] = lambda a, b, function=function: a.become(function(a, b))
    return operators


def _refused(what: str, why: str = "") -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        refuse(what, why)

    return refused


_OF_NUMPY = {name: name for name in ("add", "subtract", "multiply", "divide", "less", "greater")}
_OF_NUMPY |= {name: name for name in ("less_equal", "greater_equal", "not_equal")}
_OF_NUMPY |= {"equal": "eq", "power": "pow"}
"""Python's operators with a number of NumPy on the left, and what torch calls them."""


def _ufunc(self: Symbol, ufunc: Any, method: str, *operands: Any, **keywords: Any) -> Symbol:
    if method != "__call__" or keywords or ufunc.__name__ not in _OF_NUMPY:
        refuse(f"numpy.{ufunc.__name__}", "expected a function of torch's")
    return _NAMED[_OF_NUMPY[ufunc.__name__]](*operands)


_SIGNS = {
    **{"matmul": "@", "mod": "%", "floordiv": "//", "divmod": "divmod()"},
    **{"lshift": "<<", "rshift": ">>"},
}
"""Operators that a tensor has and a program has not."""


def _complete() -> None:
    for name, function in _operators().items():
        setattr(Symbol, f"__{name}__", function)
    control = "Python cannot look at a value, which every unit of every row has its own of"
    for name in ("float", "int", "len", "iter", "index", "complex", "round", "contains", "array"):
        setattr(Symbol, f"__{name}__", _refused(f"{name}()", control))
    Symbol.__array_ufunc__ = _ufunc  # type: ignore[attr-defined]
    for signs in (_SIGNS, {f"r{name}": sign for name, sign in _SIGNS.items()}):
        for name, sign in signs.items():
            why = INSTEAD.get(name.removeprefix("r"), "")
            setattr(Symbol, f"__{name}__", _refused(f"a value with {sign}", why))
    for name, sign in (("getitem", "[]"), ("setitem", "[] ="), ("delitem", "[]")):
        setattr(Symbol, f"__{name}__", _refused(f"a value with {sign}"))


_register()
_complete()
