"""Selections without what they do not select.

A traced branch is kept finite where it is not taken, as elu's exponential is, since a gradient of
zero times infinity would be NaN; and gradients that come by two branches of one condition are added
up, though at each unit one of them is zero. Where all gradients are known neither is needed: every
result is the same but for the sign of a zero.
"""

from __future__ import annotations

from .graph import Graph

__all__ = ["selected"]

_DEPTH = 6
"""How many operations there may be between a condition and the same condition within a branch."""

_ACROSS_UNITS = ("row_sum", "stationary")


def selected(graph: Graph, operation: str, operands: list[int]) -> int:
    """Add a node to a graph in which no gradient will be asked for any more."""
    if operation == "where":
        return _where(graph, *operands)
    if operation == "mul":
        for factor, value in (operands, operands[::-1]):
            condition, taken, other = _branches(graph, value)
            if graph.value(factor) is not None and 0 in (graph.value(taken), graph.value(other)):
                scaled = (graph.apply("mul", factor, one) for one in (taken, other))
                return _where(graph, condition, *scaled)
    if operation == "add":
        for total, added in (operands, operands[::-1]):
            joined = _joined(graph, total, added)
            if joined is not None:
                return joined
    return graph.apply(operation, *operands)


def _branches(graph: Graph, index: int) -> tuple[int, int, int]:
    """The operands of a selection; of any other node, itself."""
    node = graph[index]
    if node.operation != "where":
        return index, index, index
    condition, taken, other = node.operands
    return condition, taken, other


def _where(graph: Graph, condition: int, taken: int, other: int) -> int:
    branches = _given(graph, taken, condition, True), _given(graph, other, condition, False)
    return graph.apply("where", condition, *branches)


def _given(graph: Graph, index: int, condition: int, holds: bool, depth: int = _DEPTH) -> int:
    """The same value where the condition holds, or does not: without guards that it has there."""
    node = graph[index]
    if node.operation == "where" and node.operands[0] == condition:
        kept, guard = node.operands[1:] if holds else node.operands[:0:-1]
        return index if graph.value(guard) is None else kept
    if not depth or not node.operands or node.operation in _ACROSS_UNITS:
        return index
    operands = [_given(graph, one, condition, holds, depth - 1) for one in node.operands]
    return index if operands == list(node.operands) else graph.apply(node.operation, *operands)


def _joined(graph: Graph, total: int, added: int) -> int | None:
    """A sum whose last term is zero where another one is not, as one selection."""
    condition, taken, other = _branches(graph, added)
    terms = graph[total].operands if graph[total].operation == "add" else (total,)
    for place, term in enumerate(terms):
        same, of_taken, of_other = _branches(graph, term)
        if condition == added or same != condition:
            continue
        if graph.value(taken) == 0 and graph.value(of_other) == 0:
            both = _where(graph, condition, of_taken, other)
        elif graph.value(other) == 0 and graph.value(of_taken) == 0:
            both = _where(graph, condition, taken, of_other)
        else:
            continue
        rest = terms[:place] + terms[place + 1 :]
        return graph.apply("add", *rest, both) if rest else both
    return None
