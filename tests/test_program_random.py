"""Cells that nobody would write, drawn at random, against the derivatives that autograd gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_program_lowering import check
from torch.nn import functional

from fastrnn._program.norms import layer_norm, rms_norm
from fastrnn._program.program import Program
from fastrnn._program.tracing import trace

Recipe = list[tuple[int, int, int, int]]
"""Of each value: which operation, and how far back in the list of values its operands are."""

# Arguments stay where the derivatives exist and are no larger than float64 can compare.
OPERATIONS: list[Callable[[Any, Any, Any], Any]] = [
    lambda a, b, c: a + b,
    lambda a, b, c: a - b,
    lambda a, b, c: a * b,
    lambda a, b, c: a * b + c,
    lambda a, b, c: (1 - torch.sigmoid(a)) * torch.tanh(b) + torch.sigmoid(a) * c,
    lambda a, b, c: a / (1 + b * b),
    lambda a, b, c: -a * 0.7,
    lambda a, b, c: torch.exp(torch.tanh(a)),
    lambda a, b, c: torch.expm1(torch.tanh(a)) - 0.5,
    lambda a, b, c: torch.log(a.abs() + 0.5),
    lambda a, b, c: torch.log1p(a**2),
    lambda a, b, c: torch.sqrt(a * a + 0.1),
    lambda a, b, c: torch.rsqrt(a * a + 0.2),
    lambda a, b, c: torch.sigmoid(a),
    lambda a, b, c: torch.tanh(a),
    lambda a, b, c: functional.softplus(a) * functional.logsigmoid(b),
    lambda a, b, c: torch.sin(a) * torch.cos(b),
    lambda a, b, c: torch.erf(a) - functional.gelu(b),
    lambda a, b, c: functional.silu(a) + functional.elu(b, alpha=0.5),
    lambda a, b, c: torch.relu(a) - torch.sign(b) * a,
    lambda a, b, c: torch.reciprocal(2 + torch.sin(a)),
    lambda a, b, c: torch.minimum(a, b),
    lambda a, b, c: torch.maximum(a, b) - torch.maximum(c, torch.zeros_like(a)),
    lambda a, b, c: torch.clamp(a, -0.3, 0.4) + b.clamp(max=c),
    lambda a, b, c: torch.where(a < b, b, c),
    lambda a, b, c: torch.where((a <= b) | ~(c > 0.1), a, -0.5),
    lambda a, b, c: (a == b) * c + a,
    lambda a, b, c: torch.where(torch.relu(a) != 0, b, c) + torch.where(~(b < c), a, c),
    lambda a, b, c: layer_norm(a * b + torch.sin(c), eps=0.1),
    lambda a, b, c: layer_norm((a, b), bias=c, eps=0.1)[0],
    lambda a, b, c: rms_norm([a, b], weight=[c, a], eps=0.1)[1],
]


class Drawn:
    """A cell of recipes: of each later product's operand, of the states, of the output."""

    gates = "a b c d"
    states = "h c"
    vectors: ClassVar = {"v": "unit", "w": "gate", "k": "scalar"}
    inputs = "dt mask"

    def __init__(
        self, late: Sequence[str], recipes: Sequence[Recipe], recurrent: str, has_output: bool
    ) -> None:
        self.recurrent = recurrent
        self.late = list(late) if recurrent != "none" else ""
        self.recipes, self.has_output = recipes, has_output

    def values(self, x: Any, u: Any, s: Any, p: Any, recipe: Recipe, known: str) -> list[Any]:
        """What a recipe makes of the sources, limited so that the next step can read it."""
        values = [s.h, s.c, p.v, p.w.b, p.k, p.dt, p.mask, x.a, x.b, x.c, x.d]
        if self.recurrent != "none":
            values += [getattr(u, gate) for gate in known]
            values += [getattr(x, gate) + getattr(u, gate) for gate in known if gate in "abd"]
        for operation, *back in recipe:
            operands = [values[-1 - distance % len(values)] for distance in back]
            values.append(OPERATIONS[operation % len(OPERATIONS)](*operands))
        return [torch.tanh(value) for value in values[-3:]]

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        later = " ".join(self.late[stage:])
        known = "".join(gate for gate in "abcd" if gate not in later)
        return self.values(x, u, s, p, self.recipes[stage], known)[-1]

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        h, c, _ = self.values(x, u, s, p, self.recipes[-1], "abcd")
        return {"h": h, "c": c}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        if not self.has_output:
            return new.h
        return self.values(x, u, s, p, self.recipes[-1], "abcd")[2] * new.h


def recipes() -> st.SearchStrategy[Recipe]:
    number = st.integers(0, len(OPERATIONS) - 1)
    back = st.integers(0, 20)
    return st.lists(st.tuples(number, back, back, back), min_size=3, max_size=9)


def programs() -> st.SearchStrategy[Program]:
    cells = st.builds(
        Drawn,
        late=st.sampled_from(([], ["c"], ["c", "d"], ["c d"])),
        recipes=st.lists(recipes(), min_size=3, max_size=3),
        recurrent=st.sampled_from(("dense", "heads", "none")),
        has_output=st.booleans(),
    )
    flags = st.tuples(st.booleans(), st.booleans())
    return st.builds(
        lambda cell, flags: trace(cell, flags, 2 if cell.recurrent == "heads" else None),
        cells,
        flags,
    )


@settings(max_examples=100)
@given(programs(), st.integers(0, 2**31))
def test_instructions_of_any_program_give_autograd_s_gradients(program: Program, seed: int) -> None:
    assert Program.parse(program.text) == program
    check(program, seed)
