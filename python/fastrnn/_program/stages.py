"""The instructions of a pass: in stages, with what is kept between them, on few registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .graph import Node

__all__ = ["Code", "Instruction", "Sink", "Stage", "written"]

Instruction = tuple[str, int, int, int, int]
"""Name, to, a, b, c as the engine has them."""

EACH_UNIT: Instruction = ("each_unit", 0, 0, 0, 0)
"""What stands between a stage's code of rows and that of units."""

_DEAR = {
    *("exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh", "softplus", "sin", "cos", "erf"),
    *("reciprocal", "div", "d_sigmoid", "d_tanh"),
}
"""What is not computed a second time in a later stage."""

_LAST = ("set_state", "set_d_state")
"""They may write where their sources read, so that they come when all has been read."""


class Sink(NamedTuple):
    """What is written in a stage: an instruction, the number it has, the value.

    Which number a store has, is found when it is written.
    """

    name: str
    number: int
    node: int


class Stage(NamedTuple):
    """As `_core.Program` takes it.

    Numbers that the units of a row share are computed once a row, by the instructions before
    `EACH_UNIT`, if it is there.
    """

    product: int
    registers: int
    code: list[Instruction]


class Code(NamedTuple):
    """The stages of a pass, how many values are stored at once, and where some of them lie."""

    stages: list[Stage]
    stored: int
    places: Mapping[int, int]

    @property
    def sums(self) -> int:
        """How many sums over rows it adds up."""
        return sum(name == "add_to_sum" for stage in self.stages for name, *_ in stage.code)


class _Pass(NamedTuple):
    """What `written` is given."""

    nodes: Sequence[Node]
    levels: Mapping[int, int]
    source: Callable[[int, int], tuple[str, int] | None]
    store: str
    load: str
    fused: Mapping[int, int]
    of_row: Sequence[bool]


def written(
    nodes: Sequence[Node],
    levels: Mapping[int, int],
    source: Callable[[int, int], tuple[str, int] | None],
    sinks: Sequence[Sequence[Sink]],
    products: Sequence[int],
    store: tuple[str, str],
    fused: Mapping[int, int],
    forever: Sequence[int] = (),
) -> Code:
    """The code of a pass.

    Parameters
    ----------
    nodes : sequence of Node
    levels : mapping of int to int
        The first stage in which each node can be computed.
    source : callable
        Of a node and a stage: the instruction and the index that read it there, if any do.
    sinks : sequence of sequences of Sink
        By stage.
    products : sequence of int
        The product of each stage, or -1.
    store : tuple of two str
        Instructions that keep a value from a stage to a later one, and read it there.
    fused : mapping of int to int
        Of a sum, the product in it that is computed with it.
    forever : sequence of int
        Nodes that are stored to the end.
    """
    given = _Pass(nodes, levels, source, *store, fused, _of_row(nodes))
    all_sinks = [list(of_stage) for of_stage in sinks]
    for node in forever:
        all_sinks[levels[node]].append(Sink(store[0], -1, node))
    reads = _cross(given, all_sinks, set(forever))
    places = _Places(set(forever), reads)
    stages = []
    for number, (product, of_stage) in enumerate(zip(products, all_sinks, strict=True)):
        writer = _Writer(given, number, of_stage, places)
        stages.append(Stage(product, *_on_registers(writer.code)))
    return Code(stages, places.count, {node: places.of[node] for node in forever})


def _of_row(nodes: Sequence[Node]) -> list[bool]:
    """Of each node, whether the units of a row have one number, which sums over the row make."""
    found: list[bool] = []
    constant: list[bool] = []
    for node in nodes:
        of_constants = bool(node.operands) and all(constant[one] for one in node.operands)
        constant.append(node.operation == "constant" or of_constants)
        shared = node.operation == "row_sum" or (
            bool(node.operands) and all(constant[one] or found[one] for one in node.operands)
        )
        found.append(shared and not constant[-1])
    return found


def _cross(given: _Pass, sinks: list[list[Sink]], stored: set[int]) -> dict[int, int]:
    """Add the stores of what a later stage reads; returns the last stage that reads each."""
    reads: dict[int, int] = {}
    for number in range(len(sinks) - 1, -1, -1):
        seen: set[int] = set()
        waiting = [sink.node for sink in sinks[number]]
        while waiting:
            index = waiting.pop()
            if index in seen or given.source(index, number) is not None:
                continue
            seen.add(index)
            level, node = given.levels[index], given.nodes[index]
            cheap = node.operation not in _DEAR and bool(node.operands)
            again = cheap and all(
                given.source(o, number) is not None or (o in stored and given.levels[o] < number)
                for o in node.operands
            )
            if level == number or (again and index not in stored):
                waiting += node.operands
                continue
            reads.setdefault(index, number)
            if index not in stored:
                stored.add(index)
                sinks[level].append(Sink(given.store, -1, index))
    return reads


class _Places:
    """The indices of stored values: one is free again when its value is read for the last time."""

    def __init__(self, forever: set[int], reads: Mapping[int, int]) -> None:
        self.forever, self.reads = forever, reads
        self.of: dict[int, int] = {}
        self.free: list[int] = []
        self.count = 0

    def stored_anew(self, node: int) -> int:
        """Where nothing lies that this stage has yet to read."""
        self.of[node] = self.count
        self.count += 1
        return self.of[node]

    def stored(self, node: int) -> int:
        if self.free:
            self.of[node] = self.free.pop()
        else:
            self.of[node] = self.count
            self.count += 1
        return self.of[node]

    def loaded(self, node: int, stage: int) -> int:
        if node not in self.forever and self.reads[node] == stage:
            self.free.append(self.of[node])
        return self.of[node]


class _Writer:
    """The code of a stage, in which each value has a register of its own: its node.

    A value is computed when it is first needed, and written where it goes at once. What all units
    of a row share has a second register, its node and the number of nodes, for the rows' numbers.
    """

    def __init__(self, given: _Pass, stage: int, sinks: Sequence[Sink], places: _Places) -> None:
        self.given, self.stage, self.places = given, stage, places
        self.there: set[int] = set()
        self.of_units: list[Instruction] = []
        self.of_rows: list[Instruction] = []
        self.waiting: dict[int, list[Sink]] = {}
        for sink in sinks:
            self.waiting.setdefault(sink.node, []).append(sink)
        for node in sorted(self.waiting):
            if given.of_row[node]:
                self._number(node)
            if (
                any(sink.name != given.store for sink in self.waiting[node])
                or not given.of_row[node]
            ):
                self._compute(node)
        for sink in sinks:
            if sink.name in _LAST:
                self.of_units.append((sink.name, sink.number, sink.node, 0, 0))

    @property
    def code(self) -> list[Instruction]:
        return [*self.of_rows, EACH_UNIT, *self.of_units] if self.of_rows else self.of_units

    def _loaded(self, index: int) -> bool:
        """Whether the stage reads the node instead of computing it."""
        last = self.places.reads.get(index, -1)
        return (
            self.given.levels[index] < self.stage <= last
            or self.given.source(index, self.stage) is not None
        )

    def _compute(self, index: int) -> int:
        """The value of each unit; returns its register."""
        self._write(index, 0, self._for_units)
        return index

    def _number(self, index: int) -> int:
        """The number of each row; returns its register."""
        offset = len(self.given.nodes)
        self._write(index, offset, self._for_rows)
        return offset + index

    def _write(self, index: int, offset: int, write: Callable[[int], None]) -> None:
        """Write a node behind those that it needs, whose registers are ``offset`` and the node."""
        waiting = [index]
        while waiting:
            node = waiting[-1]
            missing = [one for one in self._needs(node, offset) if offset + one not in self.there]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if offset + node not in self.there:
                self.there.add(offset + node)
                write(node)

    def _needs(self, index: int, offset: int) -> Sequence[int]:
        """What the stage computes a node from; nothing for what it reads or spreads."""
        spreads = self.given.of_row[index] and not offset
        return () if spreads or self._loaded(index) else self._operation(index)[1]

    def _for_units(self, index: int) -> None:
        of_row = self.given.of_row[index]
        if of_row:
            self.of_units.append(("spread", index, self._number(index), 0, 0))
        else:
            self.of_units.append(self._instruction(index, 0))
        for sink in self.waiting.get(index, ()):
            if sink.name in _LAST or (of_row and sink.name == self.given.store):
                continue
            at = self.places.stored(index) if sink.name == self.given.store else sink.number
            self.of_units.append((sink.name, at, index, 0, 0))

    def _for_rows(self, index: int) -> None:
        offset = len(self.given.nodes)
        self.of_rows.append(self._instruction(index, offset))
        for sink in self.waiting.get(index, ()):
            if sink.name == self.given.store:
                at = self.places.stored_anew(index)
                self.of_rows.append((sink.name, at, offset + index, 0, 0))

    def _instruction(self, index: int, offset: int) -> Instruction:
        """What gives a node, with the registers of its operands."""
        loaded = self.given.source(index, self.stage)
        if loaded is not None:
            return loaded[0], offset + index, loaded[1], 0, 0
        if self._loaded(index):
            return self.given.load, offset + index, self.places.loaded(index, self.stage), 0, 0
        name, operands = self._operation(index)
        a, b, c = (*[offset + one for one in operands], 0, 0)[:3]
        return name, offset + index, a, b, c

    def _operation(self, index: int) -> tuple[str, tuple[int, ...]]:
        """A node's, one with the product that is fused into it."""
        node = self.given.nodes[index]
        if index not in self.given.fused:
            return node.operation, node.operands
        product = self.given.fused[index]
        (other,) = [one for one in node.operands if one != product]
        return "fma", (*self.given.nodes[product].operands, other)


_SINKS = {
    *("set_state", "set_operand", "keep", "add_to_sum"),
    *("set_d_pre", "set_d_state", "set_temp", "add_d_vector", "add_d_extra"),
}
_SOURCES = {
    *("input", "hidden", "pre", "state", "kept", "vector", "extra", "constant", "sum"),
    *("after", "d_state", "d_operand", "temp"),
}
_OPERANDS = {
    **dict.fromkeys(("add", "sub", "mul", "div", "minimum", "maximum", "lt", "le", "eq"), 2),
    **dict.fromkeys(("d_sigmoid", "d_tanh", "d_relu"), 2),
    **dict.fromkeys(("where", "fma"), 3),
}


def reads(name: str) -> int:
    """How many registers an instruction reads, from ``a`` on."""
    return (
        0
        if name in _SOURCES or name == EACH_UNIT[0]
        else 1
        if name in _SINKS
        else _OPERANDS.get(name, 1)
    )


def writes(name: str) -> bool:
    """Whether an instruction writes a register."""
    return name not in _SINKS and name != EACH_UNIT[0]


def _on_registers(code: Sequence[Instruction]) -> tuple[int, list[Instruction]]:
    """The code on as few registers as its order allows; a value's is free at its last reading."""
    last: dict[int, int] = {}
    for at, (name, _, *operands) in enumerate(code):
        last.update((value, at) for value in operands[: reads(name)])
    free: list[int] = []
    of: dict[int, int] = {}
    count, result = 0, []
    for at, (name, to, *operands) in enumerate(code):
        read = operands[: reads(name)]
        new = [of[value] for value in read] + operands[len(read) :]
        free += {of[value] for value in read if last[value] == at}
        free.sort(reverse=True)
        if writes(name):
            if not free:
                free.append(count)
                count += 1
            of[to] = free.pop()
            to = of[to]
        a, b, c = new
        result.append((name, to, a, b, c))
    return count, result
