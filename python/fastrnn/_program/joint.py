"""Forward and backward of a program in one graph, and what of forward backward needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from .cut import least_kept
from .derivative import differentiate
from .graph import Graph, Node, reachable
from .slots import OnSlots

__all__ = ["OF_SLOTS", "Joint", "constant", "constants", "joint_of", "saved_of"]

_RENAMED = {"clamp_min": "maximum", "clamp_max": "minimum"}
OF_SLOTS = ("pre", "input", "hidden")
"""The sources that are read in slots."""


class Joint(NamedTuple):
    """Forward and backward in one graph; gradients of the sources by kind and name."""

    nodes: Sequence[Node]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    gradients: Mapping[tuple[str, str], int]
    zero: int

    @property
    def of_forward(self) -> list[bool]:
        """Of each node, whether forward could compute it, since it depends on no gradient."""
        found: list[bool] = []
        for node in self.nodes:
            own = node.operation not in ("d_state", "d_operand")
            found.append(own and all(found[operand] for operand in node.operands))
        return found


def joint_of(base: OnSlots) -> Joint:
    graph = Graph(base.graph.nodes)
    gradient_of = [(r, graph.source("d_state", str(k))) for k, r in enumerate(base.results)]
    gradient_of += [
        (operand, graph.source("d_operand", str(1 + p))) for p, operand in enumerate(base.operands)
    ]
    gradients = differentiate(graph, gradient_of)
    of_sources = {
        (graph[index].operation, graph[index].name): gradient
        for index, gradient in gradients.items()
        if not graph[index].operands
    }
    zero = graph.constant(0)
    results = [*base.operands, *base.results, *of_sources.values(), zero]
    settled, place = Graph(), dict[int, int]()
    for index in reachable(graph.nodes, results):
        place[index] = _settled(settled, graph[index], place)
    return Joint(
        settled.nodes,
        tuple(place[one] for one in base.operands),
        tuple(place[one] for one in base.results),
        {source: place[gradient] for source, gradient in of_sources.items()},
        place[zero],
    )


def _settled(graph: Graph, node: Node, place: Mapping[int, int]) -> int:
    """Add a node in the engine's operations."""
    if node.operation == "constant":
        return graph.constant(node.value)
    if not node.operands:
        return graph.source(node.operation, node.name)
    operands = [place[operand] for operand in node.operands]
    if node.operation in ("stationary", "detach"):
        return operands[0]
    if node.operation in _WRITTEN_OUT:
        return _WRITTEN_OUT[node.operation](graph, *operands)
    return graph.apply(_RENAMED.get(node.operation, node.operation), *operands)


def _clamp(graph: Graph, a: int, low: int, high: int) -> int:
    return graph.apply("minimum", graph.apply("maximum", a, low), high)


def _elu(graph: Graph, a: int, alpha: int) -> int:
    negative = graph.apply("mul", alpha, graph.apply("expm1", a))
    return graph.apply("where", graph.apply("lt", graph.constant(0), a), a, negative)


def _leaky_relu(graph: Graph, a: int, slope: int) -> int:
    scaled = graph.apply("mul", slope, a)
    return graph.apply("where", graph.apply("lt", graph.constant(0), a), a, scaled)


def _rsqrt(graph: Graph, a: int) -> int:
    return graph.apply("reciprocal", graph.apply("sqrt", a))


_WRITTEN_OUT: dict[str, Callable[..., int]] = {
    "clamp": _clamp,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "rsqrt": _rsqrt,
}
"""Operations that the engine has not; their gradients are known by then."""


def constant(joint: Joint, index: int) -> tuple[float, bool]:
    """The value of a constant, or of what a row sum of it has of each unit."""
    node = joint.nodes[index]
    of_row = node.operation == "row_sum"
    return (joint.nodes[node.operands[0]].value if of_row else node.value), of_row


def constants(joint: Joint) -> list[int]:
    """The nodes that are constants once the number of units is known."""
    nodes = joint.nodes
    return [
        index
        for index, node in enumerate(nodes)
        if node.operation == "constant"
        or (node.operation == "row_sum" and nodes[node.operands[0]].operation == "constant")
    ]


def saved_of(joint: Joint) -> list[int]:
    """The nodes that forward leaves for backward beside the states."""
    of_forward = joint.of_forward
    wanted = {
        operand
        for index in reachable(joint.nodes, joint.gradients.values())
        if not of_forward[index]
        for operand in joint.nodes[index].operands
        if of_forward[operand]
    }
    settled = set(constants(joint))
    lost = [
        index
        for index, node in enumerate(joint.nodes)
        if node.operation in OF_SLOTS or (node.operation == "row_sum" and of_forward[index])
    ]
    there = {*joint.results, *settled}
    least = least_kept(joint.nodes, lost, there, wanted)
    return sorted({*least, *_dear_again(joint, there | set(least), wanted)})


def _dear_again(joint: Joint, there: Collection[int], wanted: Iterable[int]) -> set[int]:
    """Activations that backward would compute again from several operations before them.

    To keep one takes a number more of each unit, and an instruction in either pass.
    """
    nodes, found = joint.nodes, set[int]()
    waiting = set(wanted) - set(there)
    while waiting:
        index = waiting.pop()
        operands = {one for one in nodes[index].operands if one not in there}
        before = {
            one for operand in operands for one in nodes[operand].operands if nodes[one].operands
        }
        if nodes[index].operation in ("sigmoid", "tanh") and before - set(there):
            found.add(index)
        else:
            waiting |= operands
    return found
