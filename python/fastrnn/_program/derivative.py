"""Reverse-mode derivative of a graph, in the same graph, with the gradients of torch's autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from .graph import Graph, Node

__all__ = ["differentiate"]

_Rule = Callable[[Graph, Node, int, int], tuple[int | None, ...]]
"""Of the graph, a node, its index and its gradient: what flows on to each of its operands."""


def differentiate(graph: Graph, results: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """Add to a graph the gradients of its sources.

    Parameters
    ----------
    graph : Graph
    results : iterable of (int, int)
        Nodes and the nodes of their gradients; a node may be there more than once.

    Returns
    -------
    mapping of int to int
        The gradients of the nodes that have one.

    References
    ----------
    The rules are those of torch's ``derivatives.yaml``: maximum and minimum halve the gradient
    where their operands are equal, clamp lets it pass at its limits, abs and relu have none at 0.
    """
    count = len(graph.nodes)
    depends = _depending(graph)
    gradients: dict[int, int] = {}

    def flow(index: int, gradient: int | None) -> None:
        if gradient is not None and index in depends and graph.value(gradient) != 0:
            there = gradients.get(index)
            gradients[index] = gradient if there is None else graph.apply("add", there, gradient)

    for result, gradient in results:
        flow(result, gradient)
    for index in range(count - 1, -1, -1):
        node = graph[index]
        if index in gradients and node.operands:
            flows = _RULES[node.operation](graph, node, index, gradients[index])
            for operand, share in zip(node.operands, flows, strict=True):
                flow(operand, share)
    return gradients


def _depending(graph: Graph) -> set[int]:
    """The nodes that are no constants."""
    found: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if node.operation != "constant" and (not node.operands or found & set(node.operands)):
            found.add(index)
    return found


def _times(graph: Graph, gradient: int, factor: int) -> int:
    return graph.apply("mul", gradient, factor)


def _doubled(graph: Graph, value: int) -> int:
    """Twice a value, by what it has been halved with if it has."""
    node = graph[value]
    if node.operation == "div":
        return graph.apply("div", _doubled(graph, node.operands[0]), node.operands[1])
    for one, other in (node.operands, node.operands[::-1]) if node.operation == "mul" else ():
        if graph.value(other) == 0.5:
            return one
    return graph.apply("add", value, value)


def _mul(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    a, b = node.operands
    if a == b:
        return _times(graph, _doubled(graph, gradient), a), None
    return _times(graph, gradient, b), _times(graph, gradient, a)


def _div(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    share = graph.apply("div", gradient, node.operands[1])
    return share, graph.apply("neg", _times(graph, share, index))


def _reciprocal(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    return (graph.apply("neg", _times(graph, _times(graph, gradient, index), index)),)


def _expm1(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    return (_times(graph, gradient, graph.apply("add", index, graph.constant(1))),)


def _log1p(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    return (graph.apply("div", gradient, graph.apply("add", *node.operands, graph.constant(1))),)


def _sqrt(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    half = graph.apply("mul", gradient, graph.constant(0.5))
    return (graph.apply("div", half, index),)


def _rsqrt(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    cube = _times(graph, _times(graph, index, index), index)
    half = graph.apply("mul", _times(graph, gradient, cube), graph.constant(0.5))
    return (graph.apply("neg", half),)


def _row_sum(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    return (_summed(graph, gradient),)


def _summed(graph: Graph, value: int, negative: bool = False) -> int:
    """The sum of a value over its row, or of its negative.

    A factor that the units of a row share comes after it: so it is the same in all of them.
    """
    node = graph[value]
    if node.operation == "neg":
        return _summed(graph, node.operands[0], not negative)
    for one, other in (node.operands, node.operands[::-1]) if node.operation == "mul" else ():
        if _of_row(graph, other):
            return graph.apply("mul", _summed(graph, one, negative), other)
    if node.operation == "div" and _of_row(graph, node.operands[1]):
        one, other = node.operands
        return graph.apply("div", _summed(graph, one, negative), other)
    return graph.apply("row_sum", graph.apply("neg", value) if negative else value)


def _of_row(graph: Graph, index: int) -> bool:
    """Whether all units of a row have the same value."""
    node = graph[index]
    if node.operation in ("constant", "row_sum"):
        return True
    return bool(node.operands) and all(_of_row(graph, operand) for operand in node.operands)


def _erf(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    (a,) = node.operands
    bell = graph.apply("exp", graph.apply("neg", graph.apply("mul", a, a)))
    scaled = _times(graph, gradient, graph.constant(2 / math.sqrt(math.pi)))
    return (_times(graph, scaled, bell),)


def _cos(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    slope = graph.apply("neg", graph.apply("sin", *node.operands))
    return (_times(graph, gradient, slope),)


def _where(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    condition, zero = node.operands[0], graph.constant(0)
    chosen = graph.apply("where", condition, gradient, zero)
    return None, chosen, graph.apply("where", condition, zero, gradient)


def _of_extreme(first_loses: Callable[[int, int], tuple[int, int]]) -> _Rule:
    """Of maximum or minimum, where the first operand is not chosen if the pair is in order."""

    def rule(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
        a, b = node.operands
        zero = graph.constant(0)
        half = _times(graph, gradient, graph.constant(0.5))
        share = graph.apply("where", graph.apply("eq", a, b), half, gradient)
        lost = (graph.apply("lt", *first_loses(*pair)) for pair in ((a, b), (b, a)))
        return tuple(graph.apply("where", one, zero, share) for one in lost)

    return rule


def _of_clamp(limits: Callable[[int, int], tuple[int, int]]) -> _Rule:
    """Of a lower or an upper limit: it acts where the pair is in order."""

    def rule(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
        low, high = limits(*node.operands)
        zero = graph.constant(0)
        passes = graph.apply("where", graph.apply("le", high, low), gradient, zero)
        return passes, graph.apply("where", graph.apply("lt", low, high), gradient, zero)

    return rule


def _elu(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    """By the value, which is positive where the operand is."""
    slope = graph.apply("add", index, node.operands[1])
    open_ = graph.apply("lt", graph.constant(0), index)
    return graph.apply("where", open_, gradient, _times(graph, gradient, slope)), None


def _leaky_relu(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    a, slope = node.operands
    open_ = graph.apply("lt", graph.constant(0), a)
    return graph.apply("where", open_, gradient, _times(graph, gradient, slope)), None


def _clamp(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
    inside = graph.apply("eq", node.operands[0], index)
    return graph.apply("where", inside, gradient, graph.constant(0)), None, None


def _by_value(operation: str) -> _Rule:
    """An operation of the gradient and the value."""
    return lambda graph, node, index, gradient: (graph.apply(operation, gradient, index),)


def _by_operand(operation: str, slope: str) -> _Rule:
    """The gradient multiplied with, or divided by, a function of the operand."""

    def rule(graph: Graph, node: Node, index: int, gradient: int) -> tuple[int | None, ...]:
        factor = graph.apply(slope, *node.operands) if slope else node.operands[0]
        return (graph.apply(operation, gradient, factor),)

    return rule


_RULES: dict[str, _Rule] = {
    "neg": lambda graph, node, index, gradient: (graph.apply("neg", gradient),),
    "one_minus": lambda graph, node, index, gradient: (graph.apply("neg", gradient),),
    "exp": _by_value("mul"),
    "expm1": _expm1,
    "log": _by_operand("div", ""),
    "log1p": _log1p,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "sigmoid": _by_value("d_sigmoid"),
    "tanh": _by_value("d_tanh"),
    "relu": _by_value("d_relu"),
    "softplus": _by_operand("mul", "sigmoid"),
    "sin": _by_operand("mul", "cos"),
    "cos": _cos,
    "erf": _erf,
    "abs": _by_operand("mul", "sign"),
    "reciprocal": _reciprocal,
    "add": lambda graph, node, index, gradient: (gradient, gradient),
    "sub": lambda graph, node, index, gradient: (gradient, graph.apply("neg", gradient)),
    "mul": _mul,
    "div": _div,
    "minimum": _of_extreme(lambda a, b: (b, a)),
    "maximum": _of_extreme(lambda a, b: (a, b)),
    "clamp": _clamp,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "clamp_min": _of_clamp(lambda a, limit: (a, limit)),
    "clamp_max": _of_clamp(lambda a, limit: (limit, a)),
    "where": _where,
    "row_sum": _row_sum,
    **{name: lambda graph, node, index, gradient: (None, None) for name in ("lt", "le", "eq")},
    **{
        name: lambda graph, node, index, gradient: (None,)
        for name in ("sign", "stationary", "detach")
    },
}
