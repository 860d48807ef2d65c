"""A lowered program in lines that a reader of the cell can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .lowering import Lowered
from .stages import EACH_UNIT, Instruction, Stage

__all__ = ["described"]

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "eq": "=="}
_OPERANDS = {
    **dict.fromkeys(("minimum", "maximum", "d_sigmoid", "d_tanh", "d_relu"), 2),
    "where": 3,
}


def described(low: Lowered) -> str:
    """What forward, with what it keeps for backward, and backward compute, line by line.

    Names are those of the cell's methods; ``new.h`` is a state after the step; ``d_`` before a name
    is its gradient; a value is called as the gate that it is of, or v1, v2 .. in turn.
    """
    program, names = low.program, _Names(low)
    lines = [f"{program.name}: gates {' '.join(program.gates)}; states {' '.join(program.states)}"]
    for title, code in (("forward", low.forward_saving), ("backward", low.backward)):
        count = sum(len(stage.code) for stage in code.stages)
        lines.append(f"{title}, {count} instructions:")
        for number, stage in enumerate(code.stages):
            lines += names.stage(title, stage, number, len(code.stages))
    return "\n".join(lines)


class _Names:
    """What the numbers in instructions are called; what is kept is called as in forward."""

    def __init__(self, low: Lowered) -> None:
        self.low, self.program, self.slots = low, low.program, low.slots
        self.kept: dict[int, str] = {}
        self.temps: dict[int, str] = {}
        self.shares = [{f"x.{gate}", f"u.{gate}"} for gate in low.program.gates]
        self.used: set[str] = set()
        self.numbered = 0

    def stage(self, title: str, stage: Stage, number: int, of: int) -> Iterator[str]:
        """The lines of a stage; the product comes before it forward, and after it backward."""
        if of > 1:
            yield f"  stage {1 + number} of {of}:"
        if stage.product >= 0 and title == "forward":
            yield f"    {self._shares('u', stage.product)} = U @ {self._met(stage.product)}"
        held: dict[int, str] = {}
        for instruction in stage.code:
            line = self._line(instruction, held)
            if line:
                yield f"    {line}"
        if stage.product >= 0 and title == "backward":
            shares = self._shares("d_u", stage.product)
            sign = "=" if stage.product else "+="
            yield f"    d_{self._met(stage.product)} {sign} U^T @ {shares}"

    def _met(self, product: int) -> str:
        return f"operand{product}" if product else f"s.{self.program.states[0]}"

    def _shares(self, kind: str, product: int) -> str:
        first, count = self.slots.products[product]
        return " ".join(f"{kind}.{gate}" for gate in self.slots.gates[first : first + count])

    def _line(self, instruction: Instruction, held: dict[int, str]) -> str:
        name, to, *operands = instruction
        if name == EACH_UNIT[0]:
            return ""
        if name == "spread":
            held[to] = held[operands[0]]
            return ""
        source = self._source(name, operands[0])
        if source is not None:
            held[to] = source
            return ""
        a = held[operands[0]]
        if name == "add" and {a, held[operands[1]]} in self.shares:
            held[to] = f"({' + '.join(sorted((a, held[operands[1]]), reverse=True))})"
            return ""
        if name in ("keep", "set_temp"):
            (self.kept if name == "keep" else self.temps)[to] = a
            return f"keep {a}" if name == "keep" else ""
        written = self._written(name, to)
        if written:
            return f"{written} {a}"
        expression = _expression(name, [held[operand] for operand in operands if operand in held])
        held[to] = self._called(name, a)
        return f"{held[to]} = {expression}"

    def _called(self, name: str, of: str) -> str:
        """A gate's name for its activation; numbers for the rest."""
        gate = of.split(".")[-1].rstrip(")")
        whole = of in (f"x.{gate}", f"(x.{gate} + u.{gate})")
        if whole and name in ("sigmoid", "tanh", "exp", "relu") and gate not in self.used:
            self.used.add(gate)
            return gate
        self.numbered += 1
        return f"v{self.numbered}"

    def _source(self, name: str, a: int) -> str | None:
        names: dict[str, Callable[[int], str]] = {
            "input": partial(self._of_gate, "x"),
            "hidden": partial(self._of_gate, "u"),
            "pre": lambda slot: f"({self._of_gate('x', slot)} + {self._of_gate('u', slot)})",
            "state": lambda state: f"s.{self._state(state)}",
            "after": lambda state: f"new.{self._state(state)}",
            "d_state": lambda state: f"d_new.{self._state(state)}",
            "kept": self.kept.__getitem__,
            "temp": self.temps.__getitem__,
            "vector": lambda vector: f"p.{self.program.vector_slots[vector]}",
            "extra": lambda extra: f"p.{self.program.inputs[extra][0]}",
            "constant": self._constant,
            "sum": lambda number: f"sum{number}",
            "d_operand": lambda product: f"d_operand{product}",
        }
        return names[name](a) if name in names else None

    def _of_gate(self, kind: str, slot: int) -> str:
        return f"{kind}.{self.slots.gates[slot]}"

    def _state(self, state: int) -> str:
        return self.program.internal_states[state] or "output"

    def _constant(self, number: int) -> str:
        value, of_each_unit = self.low.constants[number]
        factor = "" if value == 1 else f"{value:g} * "
        return f"({factor}H)" if of_each_unit else f"{value:g}"

    def _written(self, name: str, to: int) -> str:
        if name == "set_d_pre":
            return f"d_{self._slot(to)} ="
        names: dict[str, Callable[[int], str]] = {
            "set_state": lambda state: f"new.{self._state(state)} =",
            "set_d_state": lambda state: f"d_s.{self._state(state)} =",
            "set_operand": lambda product: f"operand{product} =",
            "add_to_sum": lambda number: f"sum{number} = sum over units of",
            "add_d_extra": lambda extra: f"d_p.{self.program.inputs[extra][0]} +=",
            "add_d_vector": lambda vector: f"d_p.{self.program.vector_slots[vector]} +=",
        }
        return names[name](to) if name in names else ""

    def _slot(self, slot: int) -> str:
        gate = self.slots.gates[slot]
        by_input = slot in self.slots.input.values()
        by_hidden = slot in self.slots.hidden.values()
        both = slot in self.slots.pre.values() or (by_input and by_hidden)
        return f"(x.{gate} + u.{gate})" if both else f"{'x' if by_input else 'u'}.{gate}"


def _expression(name: str, operands: Sequence[str]) -> str:
    a, b, c = (*operands, "", "")[:3]
    if name in _SIGNS:
        return f"{a} {_SIGNS[name]} {b}"
    if name == "fma":
        return f"{a} * {b} + {c}"
    if name in ("neg", "one_minus"):
        return f"-{a}" if name == "neg" else f"1 - {a}"
    taken = [operand.removeprefix("(").removesuffix(")") for operand in operands]
    return f"{name}({', '.join(taken[: _OPERANDS.get(name, 1)])})"
