"""A value that a cell computes, before there are numbers: what its methods get when traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NoReturn

import numpy
import torch

from .graph import Graph
from .names import line_of_the_user

__all__ = ["ALLOWED", "Symbol", "emit", "lift", "refuse"]

ALLOWED = (
    "+ - * / and comparisons, ** of a whole number, 0.5 or -0.5; exp expm1 log log1p sqrt rsqrt "
    "sigmoid tanh relu silu gelu softplus logsigmoid elu leaky_relu softsign hardsigmoid hardtanh "
    "erf abs sign minimum maximum clamp where sin cos lerp square reciprocal detach ones_like "
    "zeros_like of torch, of torch.nn.functional or as methods; Python numbers; "
    "fastrnn.layer_norm, fastrnn.rms_norm"
)


def refuse(what: str, why: str = "") -> NoReturn:
    """Raise the error of what a cell may not do."""
    reason = why or "not an operation that a cell may use on its values"
    raise TypeError(f"{what} ({line_of_the_user()}): {reason}; allowed are {ALLOWED}")


class Symbol:
    """A node of a graph with the face of a tensor: torch's functions, methods and operators.

    ``boolean`` says that a tensor in its place would hold True and False.
    """

    __slots__ = ("boolean", "graph", "index")
    functions: ClassVar[dict[Any, Callable[..., Any]]] = {}
    """What computes a function of torch's: `functions.py` fills it, and ``methods``."""
    methods: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self, graph: Graph, index: int, boolean: bool = False) -> None:
        self.graph, self.index, self.boolean = graph, index, boolean

    @classmethod
    def __torch_function__(
        cls,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function not in cls.functions:
            refuse(torch.overrides.resolve_name(function) or getattr(function, "__name__", "?"))
        return cls.functions[function](*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self.methods:
            refuse(f"Tensor.{name}")
        return partial(self.methods[name], self)

    def __repr__(self) -> str:
        return f"a value of a cell: {self.graph[self.index]}"

    __hash__ = object.__hash__
    __array_ufunc__ = None  # so that NumPy's numbers leave an operator to the symbol

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
    return Symbol(graph, graph.apply(operation, *lifted), whole or operation in ("lt", "le", "eq"))


def lift(graph: Graph, value: Any) -> int:
    """The node of a symbol, of a number, or of a tensor of one number.

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
        if value.ndim:
            raise ValueError(
                f"a tensor of shape {list(value.shape)} ({line_of_the_user()}) does not broadcast "
                "over units: learned numbers are vectors of the cell (p.name), those of every "
                "step are inputs, and other numbers are Python's"
            )
        if isinstance(value, torch.Tensor) and value.requires_grad:
            raise ValueError(
                f"a tensor that requires a gradient ({line_of_the_user()}): learned numbers are "
                "vectors of the cell (p.name)"
            )
        value = value.item()
    if isinstance(value, (bool, int, float, numpy.number)):
        return graph.constant(float(value))
    refuse(f"an operand of type {type(value).__name__}", "expected a value of the cell or a number")
