"""A value that a cell computes, before there are numbers: what its methods get when traced."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any, ClassVar, NoReturn

import numpy
import torch

from .graph import Graph
from .names import line_of_the_user

__all__ = ["ALLOWED", "DTYPE", "INSTEAD", "Symbol", "emit", "lift", "number", "refuse", "result"]

ALLOWED = (
    "+ - * / and comparisons, ** of a whole number, 0.5 or -0.5; exp exp2 expm1 log log2 log10 "
    "log1p sqrt rsqrt sigmoid tanh relu relu6 silu mish gelu softplus logsigmoid elu selu celu "
    "leaky_relu softsign hardsigmoid hardswish hardtanh tanhshrink hardshrink softshrink threshold "
    "erf abs sign minimum maximum clamp where masked_fill heaviside isnan isinf isfinite sin "
    "cos lerp addcmul addcdiv logaddexp square reciprocal detach ones_like zeros_like full_like of "
    "torch, of torch.nn.functional or as methods; Python numbers; fastrnn.layer_norm, "
    "fastrnn.rms_norm"
)
_APPLY: Any = torch.autograd.Function.apply
_NUMBERS = (bool, int, float, numpy.integer, numpy.floating, numpy.bool_)


INSTEAD = {
    **dict.fromkeys(
        ("linear", "matmul", "mm", "addmm", "bilinear", "einsum"),
        "products with matrices are gates, and late ones of what operand returns",
    ),
    **dict.fromkeys(
        ("layer_norm", "rms_norm"), "expected fastrnn.layer_norm or fastrnn.rms_norm, of all units"
    ),
    **dict.fromkeys(
        ("dropout", "rand_like", "randn_like", "bernoulli"),
        "a program draws nothing: what is random is an input of the step or a held state",
    ),
}
"""What to do in the place of functions that a cell might be written with, by name."""


def refuse(what: str, why: str = "") -> NoReturn:
    """Raise the error of what a cell may not do."""
    reason = why or "not an operation that a cell may use on its values"
    raise TypeError(f"{what} ({line_of_the_user()}): {reason}; allowed are {ALLOWED}")


class _Dtype:
    """The dtype of every value, which is the layer's, whatever that is."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> NoReturn:
        refuse("Tensor.dtype ==", "a program serves layers of any dtype")


DTYPE = _Dtype()


class Symbol:
    """A node of a graph with the face of a tensor: torch's functions, methods and operators.

    ``boolean`` says that a tensor in its place would hold True and False, and ``given`` that the
    cell has got it and not computed it.
    """

    __slots__ = ("boolean", "given", "graph", "index")
    functions: ClassVar[dict[Any, Callable[..., Any]]] = {}
    """What computes a function of torch's: `functions.py` fills it, and ``methods``."""
    methods: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(
        self, graph: Graph, index: int, boolean: bool = False, given: bool = False
    ) -> None:
        self.graph, self.index, self.boolean, self.given = graph, index, boolean, given

    def become(self, other: Symbol) -> Symbol:
        """What += does: every name of this value has the other from now on, as of a tensor."""
        if self.given:
            refuse("a change in place", "what a cell is given stays as it is")
        self.index, self.boolean = other.index, other.boolean
        return self

    @classmethod
    def __torch_function__(
        cls,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function not in cls.functions:
            name = torch.overrides.resolve_name(function) or getattr(function, "__name__", "?")
            refuse(name, INSTEAD.get(name.rpartition(".")[2], ""))
        return cls.functions[function](*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "dtype":
            return DTYPE
        if name not in self.methods:
            refuse(f"Tensor.{name}", INSTEAD.get(name, ""))
        return partial(self.methods[name], self)

    def __repr__(self) -> str:
        return f"a value of a cell: {self.graph[self.index]}"

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        refuse(
            "bool()",
            "Python's if, while, and, or, not cannot look at a value, which every unit of every "
            "row has its own of: torch.where chooses by unit",
        )


def emit(operation: str, *operands: Any) -> Symbol:
    """The value of one of `operations.OPERATIONS`."""
    graph = next(operand.graph for operand in operands if isinstance(operand, Symbol))
    lifted = [lift(graph, operand) for operand in operands]
    whole = operation in ("mul", "maximum", "one_minus") and all(
        isinstance(operand, Symbol) and operand.boolean for operand in operands
    )
    boolean = whole or operation in ("lt", "le", "eq")
    return result(graph, graph.apply(operation, *lifted), boolean)


def result(graph: Graph, index: int, boolean: bool = False) -> Symbol:
    """A new value of a node, to which no gradient flows where torch takes none down."""
    if not torch.is_grad_enabled():
        _refuse_functions_of_autograd()
        index = index if boolean else graph.apply("detach", index)
    return Symbol(graph, index, boolean)


def _refuse_functions_of_autograd() -> None:
    """TypeError in the forward of one, which torch calls without gradients."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _APPLY.__code__:
            refuse(
                "torch.autograd.Function",
                "a program has the derivatives of its operations and no others; with detach a "
                "value can have the gradient of another, as (hard - soft).detach() + soft has",
            )
        frame = frame.f_back


def lift(graph: Graph, value: Any, line: str = "") -> int:
    """The node of a symbol, of a number, or of a tensor of one number.

    ``line`` is the user's in errors, if that is not the one that has called.

    Raises
    ------
    ValueError
        A tensor that is not one number.
    TypeError
        Anything else.
    """
    if isinstance(value, Symbol):
        if value.graph is not graph:
            refuse("a value of another trace", "values live as long as the call of a method")
        return value.index
    if isinstance(value, (torch.Tensor, numpy.ndarray)):
        line = line or line_of_the_user()
        if value.ndim > 2 or math.prod(value.shape) != 1:
            raise ValueError(
                f"a tensor of shape {list(value.shape)} ({line}) does not broadcast over units: "
                "learned numbers are vectors of the cell (p.name), those of every step are "
                "inputs, and other numbers are Python's"
            )
        if isinstance(value, torch.Tensor) and value.requires_grad:
            raise ValueError(
                f"a tensor that requires a gradient ({line}): learned numbers are vectors of the "
                "cell (p.name)"
            )
        value = value.item()
    if isinstance(value, _NUMBERS):
        return graph.constant(float(value))
    refuse(f"an operand of type {type(value).__name__}", "expected a value of the cell or a number")


def number(value: Any, what: str) -> float:
    """A number where torch takes no tensor; TypeError for anything else."""
    if not isinstance(value, _NUMBERS):
        refuse(f"{what} of type {type(value).__name__}", "expected a Python number")
    return float(value)
