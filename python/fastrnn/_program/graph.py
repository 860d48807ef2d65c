"""Expressions as a graph: every value once, and none that its operands already say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .operations import COMMUTATIVE, folded

__all__ = ["Graph", "Node", "reachable"]


_COMPARISONS = ("lt", "le", "eq")
"""They give 1 or 0."""


class Node(NamedTuple):
    """A value of every unit: an operation of other nodes, or a source by its name."""

    operation: str
    operands: tuple[int, ...] = ()
    name: str = ""
    value: float = 0.0


class Graph:
    """Nodes in an order in which each comes after its operands.

    What simplifies an expression changes no bit of its value but the sign of a zero.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes: list[Node] = []
        self._index: dict[object, int] = {}
        for node in nodes:
            self._add(node)

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def source(self, kind: str, name: str) -> int:
        return self._add(Node(kind, name=name))

    def constant(self, value: float) -> int:
        return self._add(Node("constant", value=float(value)))

    def value(self, index: int) -> float | None:
        """Of a constant; of anything else None."""
        node = self.nodes[index]
        return node.value if node.operation == "constant" else None

    def apply(self, operation: str, *operands: int) -> int:
        """The node of an operation, or one that has the same value."""
        values = [self.value(operand) for operand in operands]
        known = [value for value in values if value is not None]
        if len(known) == len(operands):
            number = folded(operation, known)
            if number is not None:
                return self.constant(number)
        simpler = self._simpler(operation, operands, values)
        if simpler is not None:
            return simpler
        if operation in COMMUTATIVE:
            operands = tuple(sorted(operands))
        return self._add(Node(operation, operands))

    def _add(self, node: Node) -> int:
        zero = math.copysign(1, node.value)  # -0.0 equals 0.0, but is another constant
        index = self._index.setdefault((node, zero), len(self.nodes))
        if index == len(self.nodes):
            self.nodes.append(node)
        return index

    def _operand(self, index: int, operation: str) -> int | None:
        """What the node is the given operation of."""
        node = self.nodes[index]
        return node.operands[0] if node.operation == operation else None

    def _simpler(
        self, operation: str, operands: tuple[int, ...], values: Sequence[float | None]
    ) -> int | None:
        if operation in ("neg", "abs", "stationary", "detach", "relu"):
            return self._simpler_of_one(operation, operands[0])
        if operation == "where":
            return self._simpler_choice(operands, values)
        if operation in ("add", "sub"):
            return self._simpler_sum(operation, *operands)
        if operation in ("mul", "div"):
            return self._simpler_product(operation, *operands)
        return None

    def _simpler_of_one(self, operation: str, operand: int) -> int | None:
        node = self.nodes[operand]
        if operation == "neg":
            if node.operation == "neg":
                return node.operands[0]
            if node.operation == "sub":
                return self.apply("sub", *reversed(node.operands))
            return None
        if operation == "abs" and node.operation == "neg":
            return self.apply("abs", node.operands[0])
        return operand if node.operation == operation else None

    def _simpler_choice(
        self, operands: tuple[int, ...], values: Sequence[float | None]
    ) -> int | None:
        condition, a, b = operands
        if values[0] is not None or a == b:
            return a if values[0] or a == b else b
        node = self.nodes[condition]
        if node.operation == "one_minus" and self.nodes[node.operands[0]].operation in _COMPARISONS:
            return self.apply("where", node.operands[0], b, a)
        if node.operation == "eq" and 0 in map(self.value, node.operands):
            (number,) = [one for one in node.operands if self.value(one) != 0]
            return self.apply("where", number, b, a)
        return None

    def _simpler_sum(self, operation: str, a: int, b: int) -> int | None:
        if operation == "sub":
            if self.value(a) == 1:
                return self.apply("one_minus", b)
            negated = self._operand(b, "neg")
            if negated is not None:
                return self.apply("add", a, negated)
            return a if self.value(b) == 0 else None
        for first, second in ((a, b), (b, a)):
            negated = self._operand(second, "neg")
            if negated is not None:
                return self.apply("sub", first, negated)
            if self.value(second) == 0:
                return first
        return None

    def _simpler_product(self, operation: str, a: int, b: int) -> int | None:
        if operation == "div":
            if self.value(a) == 1:
                return self.apply("reciprocal", b)
            divisor = self.value(b)
            if divisor and abs(math.frexp(divisor)[0]) == 0.5 and abs(divisor) < 2.0**100:
                return self.apply("mul", a, self.constant(1 / divisor))
        for first, second in ((a, b), (b, a)):
            factor, summed = self.value(second), self._operand(first, "row_sum")
            number = None if summed is None else self.value(summed)
            if operation == "mul" and number is not None and factor is not None:
                return self.apply("row_sum", self.constant(number * factor))
            if operation == "mul" and factor in (1, -1):
                return first if factor == 1 else self.apply("neg", first)
            negated = self._operand(first, "neg")
            if negated is not None:
                operands = (negated, second) if first == a else (second, negated)
                return self.apply("neg", self.apply(operation, *operands))
        return None


def reachable(nodes: Sequence[Node], results: Iterable[int]) -> Iterator[int]:
    """The nodes that the results depend on, themselves among them, in order."""
    needed = set(results)
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(nodes[index].operands)
    return iter(sorted(needed))
