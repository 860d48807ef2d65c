"""A cell as an immutable value with a text form, which is an operator's argument and a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from .describe import described
from .equations import BEGINNING, Equations
from .graph import Graph, Node, reachable
from .lowering import lowered
from .operations import SOURCES

__all__ = ["BEGINNING", "Program", "finished"]


@dataclass(frozen=True, eq=False, repr=False)
class Program(Equations):
    """A cell as `trace` gives it. Equal to another if their texts are equal."""

    @staticmethod
    def parse(text: str) -> Program:
        """The program of a text.

        Raises
        ------
        ValueError
            The text is not one that `text` has given.
        """
        return _parse(text)

    # A pickle has the text and names this class alone, which `torch.load` can be told to trust.
    # Earlier ones call `parse`.
    def __getstate__(self) -> str:
        return self.text

    def __setstate__(self, text: str) -> None:
        vars(self).update(vars(Program.parse(text)))

    def with_inputs(self, per_unit: Sequence[bool]) -> Program:
        """The same program for per-step inputs of other shapes, in the order of ``inputs``."""
        names = (name for name, _ in self.inputs)
        return replace(self, inputs=tuple(zip(names, map(bool, per_unit), strict=True)))

    def describe(self) -> str:
        """What the engine does, forward and backward, in readable lines.

        Names are those of the cell's methods; ``new.h`` is a state after the step, ``d_`` before a
        name is its gradient. ``print(rnn.program)`` shows it.
        """
        return described(lowered(self))

    __str__ = describe

    def __repr__(self) -> str:
        return f"<program of {self.name}>"


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
        held=tuple(said.get("held", ())),
    )
