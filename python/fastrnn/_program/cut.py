"""The least that has to be kept of a graph so that some of its nodes can be computed again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .graph import Node

__all__ = ["least_kept"]

_Point = tuple[int, bool]
"""A node's entrance, and its exit: what flows through a node passes from one to the other."""


def least_kept(
    nodes: Sequence[Node], lost: Collection[int], free: Collection[int], wanted: Iterable[int]
) -> list[int]:
    """Nodes whose values, once kept, give all that is wanted without those that are lost.

    They are as few as can be, and among as many the nearest to what is wanted, so that the least is
    computed again. It is a minimal cut of the nodes between ``lost`` and ``wanted``; ``free`` are
    nodes that are there anyway.
    """
    flows = _Flows(nodes, set(lost), set(free))
    ends = {one for one in wanted if one not in free}
    while flows.augmented(ends):
        pass
    reaching = flows.reaching(ends)
    return [
        index
        for index in range(len(nodes))
        if (index, True) in reaching and (index, False) not in reaching and index not in free
    ]


class _Flows:
    """Flows from the lost nodes, of which one can pass through each node."""

    def __init__(self, nodes: Sequence[Node], lost: set[int], free: set[int]) -> None:
        self.lost = lost - free
        self.used: set[tuple[_Point, _Point]] = set()
        self.edges: dict[_Point, list[_Point]] = {}
        self.back: dict[_Point, list[_Point]] = {}
        for index, node in enumerate(nodes):
            if index in free:
                continue
            self._edge((index, False), (index, True))
            for operand in () if index in lost else node.operands:
                if operand not in free:
                    self._edge((operand, True), (index, False))

    def _edge(self, start: _Point, end: _Point) -> None:
        self.edges.setdefault(start, []).append(end)
        self.back.setdefault(end, []).append(start)

    def _open(self, start: _Point, end: _Point) -> bool:
        """Whether more can flow: only the way through a node is narrow."""
        return start[0] != end[0] or (start, end) not in self.used

    def augmented(self, ends: set[int]) -> bool:
        """Find one more flow, if there is one."""
        came: dict[_Point, _Point | None] = {(index, False): None for index in self.lost}
        waiting = list(came)
        while waiting:
            point = waiting.pop()
            if point[1] and point[0] in ends:
                self._record(came, point)
                return True
            onwards = [end for end in self.edges.get(point, ()) if self._open(point, end)]
            onwards += [one for one in self.back.get(point, ()) if (one, point) in self.used]
            for end in onwards:
                if end not in came:
                    came[end] = point
                    waiting.append(end)
        return False

    def _record(self, came: dict[_Point, _Point | None], point: _Point) -> None:
        start = came[point]
        while start is not None:
            if (point, start) in self.used:
                self.used.remove((point, start))
            else:
                self.used.add((start, point))
            point, start = start, came[start]

    def reaching(self, ends: set[int]) -> set[_Point]:
        """The points from which one more flow could reach an end."""
        found: set[_Point] = {(index, True) for index in ends}
        waiting = list(found)
        while waiting:
            point = waiting.pop()
            starts = [one for one in self.back.get(point, ()) if self._open(one, point)]
            starts += [end for end in self.edges.get(point, ()) if (point, end) in self.used]
            for start in starts:
                if start not in found:
                    found.add(start)
                    waiting.append(start)
        return found
