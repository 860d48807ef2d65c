"""From a user's cell to its program: its methods are called once, on symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from . import functions  # noqa: F401  gives symbols their functions
from .declared import Declared, declared_by
from .graph import Graph
from .names import Names, line_of_an_error
from .program import Program, finished
from .symbols import ALLOWED, Symbol, lift

__all__ = ["trace"]

_STATES, _PRODUCTS = 8, 5
"""That the engine takes at most, an output that is no state among the states."""


def trace(
    cell: Any, inputs_per_unit: Sequence[bool] | None = None, num_heads: int | None = None
) -> Program:
    """The program of a cell.

    Parameters
    ----------
    cell : fastrnn.Cell or type of one
        A type is called without arguments.
    inputs_per_unit : sequence of bool, optional
        Whether each of the cell's ``inputs`` has a number for every unit; by default one for a row.
    num_heads : int, optional
        Of a cell with ``recurrent = "heads"``.

    Raises
    ------
    TypeError
        An operation that a program has not, or Python's control flow on a value: the message names
        it, the line of the cell, and what is allowed.
    ValueError
        A name that the cell does not declare, a state that ``step`` does not return, a shape.
    """
    cell = cell() if isinstance(cell, type) else cell
    declared = declared_by(cell, num_heads)
    flags = tuple(inputs_per_unit or (False,) * len(declared.inputs))
    if len(flags) != len(declared.inputs):
        raise ValueError(
            f"inputs_per_unit: expected {len(declared.inputs)}, one for each of the inputs "
            f"{' '.join(declared.inputs)}, got {len(flags)}"
        )
    traced = _Trace(cell, declared)
    with torch.enable_grad():  # whatever is around the layer that is made
        operands = traced.operands()
        new_states = traced.step()
        output = traced.output(new_states)
    traced.check_counts(output)
    fields = declared._asdict() | {
        "inputs": tuple(zip(declared.inputs, flags, strict=True)),
        "initial": traced.initial(),
    }
    del fields["chained"]
    return finished(traced.graph, fields, operands, new_states, output)


class _Trace:
    """The calls of a cell's methods, on the symbols of one graph."""

    def __init__(self, cell: Any, declared: Declared) -> None:
        self.cell, self.declared, self.graph = cell, declared, Graph()
        gates, states = declared.gates, declared.states
        of_gates = {gate: f"{gate!r} is a gate: x.{gate}, u.{gate}" for gate in gates}
        of_states = {state: f"{state!r} is a state: s.{state}" for state in states}
        self.x = self._names("x", "gate", "x", gates, of_states)
        self.s = self._names("s", "state", "s", states, of_gates)
        self.p = self._parameters(of_gates | of_states)
        self._hints = of_states

    def _names(
        self, name: str, what: str, kind: str, names: Sequence[str], hints: Mapping[str, str]
    ) -> Names:
        values = {one: self._source(kind, one) for one in names}
        return Names(name, what, values, {k: v for k, v in hints.items() if k not in values})

    def _source(self, kind: str, name: str) -> Symbol:
        return Symbol(self.graph, self.graph.source(kind, name), given=True)

    def _parameters(self, hints: Mapping[str, str]) -> Names:
        values: dict[str, Any] = {}
        for name, kind in self.declared.vectors:
            if kind == "gate":
                of_gates = {g: self._source("p", f"{name}.{g}") for g in self.declared.gates}
                values[name] = Names(f"p.{name}", "gate", of_gates)
            else:
                values[name] = self._source("p", name)
        values |= {name: self._source("e", name) for name in self.declared.inputs}
        return Names("p", "vector or input", values, hints)

    def _u(self, products: int | None = None) -> Names:
        """The recurrent shares that there are after so many products, or after all."""
        known = [gate for gates in self.declared.products[:products] for gate in gates]
        hints = dict(self._hints)
        if self.declared.recurrent == "none":
            hints |= dict.fromkeys(self.declared.gates, "recurrent = 'none' has no u")
        else:
            later = (gate for gate in self.declared.gates if gate not in known)
            hints |= dict.fromkeys(later, "its product comes later")
        return self._names("u", "gate", "u", known, hints)

    def operands(self) -> list[int]:
        """What each later product's matrix is multiplied with."""
        later = len(self.declared.products) - 1
        if later and not callable(getattr(self.cell, "operand", None)):
            raise TypeError(f"{self.declared.name} has late gates, so it needs a method operand()")
        found = []
        for stage in range(later):
            chain = (stage,) if self.declared.chained else ()
            u = self._u(1 + stage)
            value = _called(self.cell.operand, self.x, u, self.s, self.p, *chain)
            found.append(self._lifted(value, "operand", self.cell.operand))
        return found

    def step(self) -> list[int]:
        """The new states."""
        if not callable(getattr(self.cell, "step", None)):
            raise TypeError(f"{self.declared.name} needs a method step()")
        new = _called(self.cell.step, self.x, self._u(), self.s, self.p)
        states = self._dict(new, "step", self.cell.step)
        for state in self.declared.held:
            if state in states:
                raise ValueError(
                    f"{self.declared.name}.step ({_line(self.cell.step)}) returns {state!r}, which "
                    "is held: expected no new value of it"
                )
            states[state] = getattr(self.s, state)
        missing = [state for state in self.declared.states if state not in states]
        if missing:
            raise ValueError(
                f"{self.declared.name}.step ({_line(self.cell.step)}) does not return the state "
                f"{missing[0]!r}, expected a dict of all: {' '.join(self.declared.states)}"
            )
        return [self._lifted(states[s], "step", self.cell.step) for s in self.declared.states]

    def output(self, new_states: Sequence[int]) -> int | None:
        """What goes up, unless it is the first state."""
        method = getattr(self.cell, "output", None)
        if method is None:
            return None
        new = {
            name: Symbol(self.graph, index, given=True)
            for name, index in zip(self.declared.states, new_states, strict=True)
        }
        own = Names("new", "state", new)
        given = _called(method, self.x, self._u(), self.s, self.p, own)
        output = self._lifted(given, "output", method)
        return None if output == new_states[0] else output

    def check_counts(self, output: int | None) -> None:
        """ValueError for more states or products than there may be beside an output of its own."""
        states, products = self.declared.states, self.declared.products
        own = output is not None
        beside = " beside an output that is not the first state" if own else ""
        if len(states) + own > _STATES:
            raise ValueError(
                f"{self.declared.name}.states: expected up to {_STATES - own}{beside}, "
                f"got {len(states)}"
            )
        # The first state is another's operand then, which no product of the engine's begins with.
        if own and products[0] and len(products) + own > _PRODUCTS:
            raise ValueError(
                f"{self.declared.name}.late: expected up to {_PRODUCTS - 2} products{beside}, or "
                f"no gates that are not late, got {len(products) - 1}"
            )

    def initial(self) -> tuple[float, ...]:
        """What each state starts with."""
        method = getattr(self.cell, "initial", None)
        given = {} if method is None else _called(method, self.s)
        states = {} if given is None else self._dict(given, "initial", method)
        values = []
        for state in self.declared.states:
            value = self.graph.value(self._lifted(states.get(state, 0.0), "initial", method))
            if value is None:
                raise ValueError(
                    f"{self.declared.name}.initial ({_line(method)}): expected a constant for "
                    f"{state!r}, as torch.ones_like(s.{state}) is"
                )
            values.append(value)
        return tuple(values)

    def _dict(self, given: Any, name: str, method: Callable[..., Any] | None) -> dict[str, Any]:
        where = f"{self.declared.name}.{name} ({_line(method)})"
        if not isinstance(given, Mapping):
            raise TypeError(f"{where}: expected a dict of states, got {type(given).__name__}")
        for state in given:
            if state not in self.declared.states:
                raise ValueError(
                    f"{where} returns {state!r}, which is "
                    f"{'a gate' if state in self.declared.gates else 'no state'}, "
                    f"expected the states {' '.join(self.declared.states)}"
                )
        return dict(given)

    def _lifted(self, value: Any, name: str, method: Callable[..., Any] | None) -> int:
        if value is None or isinstance(value, (str, dict, list, tuple, Names)):
            raise TypeError(
                f"{self.declared.name}.{name} ({_line(method)}) returns {type(value).__name__}, "
                "expected a value of the cell"
            )
        return lift(self.graph, value, _line(method))


def _called(method: Callable[..., Any], *arguments: Any) -> Any:
    """What a method returns; a TypeError with the line where torch or Python refuses a value."""
    try:
        return method(*arguments)
    except (TypeError, RuntimeError) as error:
        line = line_of_an_error(error)
        if type(error) not in (TypeError, RuntimeError) or f"({line})" in str(error):
            raise
        if line == "?":  # the call itself was refused
            given = ", ".join(one._name if isinstance(one, Names) else "stage" for one in arguments)
            raise TypeError(f"{error} ({_line(method)}): expected a method of {given}") from error
        allowed = f"; allowed are {ALLOWED}" if Symbol.__name__ in str(error) else ""
        raise TypeError(f"{error} ({line}){allowed}") from error


def _line(method: Any) -> str:
    """Where a method stands."""
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "?"
