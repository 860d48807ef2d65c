"""What a cell computes in a step, as plain data with a text form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .graph import Node
from .operations import SOURCES

__all__ = ["BEGINNING", "Equations"]

BEGINNING = "program "
"""How the text of every program begins."""


@dataclass(frozen=True, eq=False)
class Equations:
    """What a cell computes in a step, of each unit.

    ``products`` holds the gates of every recurrent product: first of those that meet the first
    state, which may be none; then of those that meet what ``operands`` gives, in turn. ``vectors``
    are learned and have a kind, "gate", "unit" or "scalar"; ``inputs`` are the caller's of every
    step, one for each unit if the flag says so, else one for a row. ``new_states`` and ``output``
    are nodes; the output is None if it is the first state. ``held`` are those of the states, the
    last ones, that no step sets and no reset touches: a call keeps what it was given.
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
    held: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """All of it in lines; `Program.parse` is the inverse."""
        lines = [
            f"{BEGINNING}{self.name}",
            "gates " + " ".join(self.gates),
            "states " + " ".join(self.states),
            "products " + " | ".join(" ".join(gates) for gates in self.products),
            f"recurrent {self.recurrent}",
            "vectors " + " ".join(f"{name}:{kind}" for name, kind in self.vectors),
            "inputs " + " ".join(f"{name}:{'unit' if u else 'row'}" for name, u in self.inputs),
            "initial " + " ".join(map(repr, self.initial)),
            *(["held " + " ".join(self.held)] if self.held else []),
            *(f"{index} = {_line(node)}" for index, node in enumerate(self.nodes)),
            "operands " + " ".join(map(str, self.operands)),
            "new_states " + " ".join(map(str, self.new_states)),
            "output " + ("" if self.output is None else str(self.output)),
        ]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equations) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

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
