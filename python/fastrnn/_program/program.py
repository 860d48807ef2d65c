"""A cell as an immutable value with a text form, which is an operator's argument and a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from .graph import Graph, Node, reachable
from .operations import SOURCES

__all__ = ["BEGINNING", "Program"]

BEGINNING = "program "
"""How the text of every program begins."""


@dataclass(frozen=True, eq=False)
class Program:
    """What a cell computes in a step, of each unit.

    ``products`` holds the gates of every recurrent product: first of those that meet the first
    state, which may be none; then of those that meet what ``operands`` gives, in turn. ``vectors``
    are learned and have a kind, "gate", "unit" or "scalar"; ``inputs`` are the caller's of every
    step, one for each unit if the flag says so, else one for a row. ``new_states`` and ``output``
    are nodes; the output is None if it is the first state.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    products: tuple[tuple[str, ...], ...]
    recurrent: str | int
    vectors: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, bool], ...]
    initial: tuple[float, ...]
    nodes: tuple[Node, ...]
    operands: tuple[int, ...]
    new_states: tuple[int, ...]
    output: int | None

    @cached_property
    def text(self) -> str:
        """All of it in lines; `parse` is the inverse."""
        lines = [
            f"{BEGINNING}{self.name}",
            "gates " + " ".join(self.gates),
            "states " + " ".join(self.states),
            "products " + " | ".join(" ".join(gates) for gates in self.products),
            f"recurrent {self.recurrent}",
            "vectors " + " ".join(f"{name}:{kind}" for name, kind in self.vectors),
            "inputs " + " ".join(f"{name}:{'unit' if u else 'row'}" for name, u in self.inputs),
            "initial " + " ".join(map(repr, self.initial)),
            *(f"{index} = {_line(node)}" for index, node in enumerate(self.nodes)),
            "operands " + " ".join(map(str, self.operands)),
            "new_states " + " ".join(map(str, self.new_states)),
            "output " + ("" if self.output is None else str(self.output)),
        ]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    @staticmethod
    def parse(text: str) -> Program:
        """The program of a text.

        Raises
        ------
        ValueError
            The text is not one that `text` has given.
        """
        return _parse(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[object, ...]:
        return Program.parse, (self.text,)

    def with_inputs(self, per_unit: Sequence[bool]) -> Program:
        """The same program for per-step inputs of other shapes, in the order of ``inputs``."""
        names = (name for name, _ in self.inputs)
        return replace(self, inputs=tuple(zip(names, map(bool, per_unit), strict=True)))

    @property
    def internal_states(self) -> tuple[str, ...]:
        """The states as the engine has them: what a layer puts out is the first.

        An output that is not the first state is one itself, which the step after does not read; it
        has the name "".
        """
        return self.states if self.output is None else ("", *self.states)

    @property
    def internal_initial(self) -> tuple[float, ...]:
        """What each of `internal_states` starts with, and a reset goes back to."""
        return self.initial if self.output is None else (0.0, *self.initial)

    @property
    def internal_results(self) -> tuple[int, ...]:
        """The nodes of the new `internal_states`."""
        return self.new_states if self.output is None else (self.output, *self.new_states)

    @property
    def vector_slots(self) -> tuple[str, ...]:
        """The blocks of H numbers in ``w_ch``: names as those of the nodes, V of them."""
        return tuple(
            block
            for name, kind in self.vectors
            for block in ([f"{name}.{gate}" for gate in self.gates] if kind == "gate" else [name])
        )

    @property
    def heads(self) -> int:
        """Blocks on the diagonal of the recurrent matrix; 1 for a dense one."""
        return self.recurrent if isinstance(self.recurrent, int) else 1

    @property
    def has_recurrent(self) -> bool:
        """Whether there is a recurrent matrix."""
        return self.recurrent != "none"


def _line(node: Node) -> str:
    if node.operation == "constant":
        return f"constant {node.value!r}"
    if node.operation in SOURCES:
        return f"{node.operation} {node.name}"
    return " ".join([node.operation, *map(str, node.operands)])


def _node(line: str) -> Node:
    operation, *rest = line.split()
    if operation == "constant":
        return Node(operation, value=float(rest[0]))
    if operation in SOURCES:
        return Node(operation, name=rest[0])
    return Node(operation, tuple(map(int, rest)))


def finished(
    graph: Graph,
    declared: Mapping[str, object],
    operands: Sequence[int],
    new_states: Sequence[int],
    output: int | None,
) -> Program:
    """The program of a graph without what its results do not need."""
    results = [*operands, *new_states, *(() if output is None else (output,))]
    place = {old: new for new, old in enumerate(reachable(graph.nodes, results))}
    nodes = [
        graph[old]._replace(operands=tuple(place[one] for one in graph[old].operands))
        for old in place
    ]
    return Program(
        **declared,  # type: ignore[arg-type]
        nodes=tuple(nodes),
        operands=tuple(place[one] for one in operands),
        new_states=tuple(place[one] for one in new_states),
        output=None if output is None else place[output],
    )


@lru_cache(maxsize=256)
def _parse(text: str) -> Program:
    lines = text.splitlines()
    if not text.startswith(BEGINNING):
        raise ValueError(f"the text of a program begins with {BEGINNING!r}, got {text[:40]!r}")
    said = {line.split(" ", 1)[0]: line.split()[1:] for line in lines if " = " not in line}
    recurrent = said["recurrent"][0]
    products = " ".join(said["products"]).split("|")
    return Program(
        name=said["program"][0],
        gates=tuple(said["gates"]),
        states=tuple(said["states"]),
        products=tuple(tuple(gates.split()) for gates in products),
        recurrent=int(recurrent) if recurrent.isdigit() else recurrent,
        vectors=tuple((name, kind) for name, kind in (one.split(":") for one in said["vectors"])),
        inputs=tuple((name, k == "unit") for name, k in (one.split(":") for one in said["inputs"])),
        initial=tuple(map(float, said["initial"])),
        nodes=tuple(_node(line.split(" = ")[1]) for line in lines if " = " in line),
        operands=tuple(map(int, said["operands"])),
        new_states=tuple(map(int, said["new_states"])),
        output=int(said["output"][0]) if said["output"] else None,
    )
