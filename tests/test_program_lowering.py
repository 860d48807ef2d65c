"""A lowered program's instructions against the derivatives that autograd gives of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from program_emulator import BINARY, TERNARY, UNARY, Step
from torch import Tensor
from torch.nn import functional

from fastrnn._program.lowering import engine_arguments
from fastrnn._program.norms import layer_norm, rms_norm
from fastrnn._program.program import Program
from fastrnn._program.tensors import step
from fastrnn._program.tracing import trace

B, FEATURES, H, STEPS = 3, 4, 6, 3


def gate(x: Any, u: Any, name: str) -> Any:
    return getattr(x, name) + getattr(u, name)


class Lstm:
    gates = "i f g o"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f, o = (torch.sigmoid(gate(x, u, name)) for name in "ifo")
        c = f * s.c + i * torch.tanh(x.g + u.g)
        return {"h": o * torch.tanh(c), "c": c}


class Gru:
    gates = "r z n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        r, z = torch.sigmoid(x.r + u.r), torch.sigmoid(x.z + u.z)
        n = torch.tanh(x.n + r * u.n)
        return {"h": (1 - z) * n + z * s.h}


class Relu:
    gates = "h"
    states = "y"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"y": torch.relu(x.h + u.h)}


class ResetBefore:
    gates = "r z n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z + u.z), torch.tanh(x.n + u.n)
        return {"h": (1 - z) * n + z * s.h}


class Mgu:
    gates = "f n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.f + u.f) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, n = torch.sigmoid(x.f + u.f), torch.tanh(x.n + u.n)
        return {"h": (1 - f) * s.h + f * n}


class AllLate:
    """Multiplicative LSTM's way: nothing meets the state itself but by the operand."""

    gates = "m n"
    late = "m n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return x.m * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.n * u.m + u.n)}


class Peephole(Lstm):
    vectors: ClassVar = {"w": "gate"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i = torch.sigmoid(x.i + u.i + p.w.i * s.c)
        f = torch.sigmoid(x.f + p.w.f * s.c + u.f)
        c = f * s.c + i * torch.tanh(x.g + u.g)
        return {"h": torch.sigmoid(x.o + u.o + p.w.o * c) * torch.tanh(c), "c": c}


class Coupled(Lstm):
    gates = "i g o"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i = torch.sigmoid(x.i + u.i).clamp(0.4, 0.6)
        c = (1 - i) * s.c + i * (x.g + u.g)
        return {"h": torch.sigmoid(x.o + u.o) * torch.tanh(c), "c": c}


class Slstm:
    gates = "i f z o"
    states = "h c n m"
    recurrent = "heads"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        forget = torch.nn.functional.logsigmoid(x.f + u.f)
        i, started = x.i + u.i, s.n > 0
        m = torch.where(started, torch.maximum(forget + s.m, i), i)
        f, i = torch.exp(forget + s.m - m), torch.exp(i - m)
        c, n = f * s.c + i * torch.tanh(x.z + u.z), f * s.n + i
        return {"h": torch.sigmoid(x.o + u.o) * c / n, "c": c, "n": n, "m": m}


class WithOutput(Gru):
    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        return torch.tanh(x.r) * new.h + s.h


class WithLateOutput(Mgu):
    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        return new.h * new.h


class Decaying:
    """As GRU-D: decays by the time since the last observation, of a row and of each unit."""

    gates = "r z n d"
    vectors: ClassVar = {"w": "unit", "k": "scalar"}
    inputs = "dt mask"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        decay = torch.exp(-torch.relu(p.w * p.dt + x.d)) * torch.sigmoid(p.k * p.mask)
        h, r, z = decay * s.h, torch.sigmoid(x.r + u.r), torch.sigmoid(x.z + u.z)
        return {"h": (1 - z) * h + z * torch.tanh(x.n + r * u.n)}


class Chain:
    gates = "a b c d"
    late = ("b", "c", "d")

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        if stage == 0:
            return torch.tanh(x.a + u.a)
        return torch.sin(u.b) + s.h if stage == 1 else torch.sigmoid(x.c + u.c) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.d + u.d) * torch.sigmoid(x.b) + u.b * 0.1}


class NoProduct:
    gates = "z n"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z = torch.sigmoid(x.z)
        return {"h": s.h + z * (x.n - s.h)}


class NormedLstm(Lstm):
    vectors: ClassVar = {"g": "gate", "b": "unit"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        pre = [gate(x, u, name) for name in "ifgo"]
        i, f, g, o = layer_norm(pre, weight=list(p.g))
        c = torch.sigmoid(f) * s.c + torch.sigmoid(i) * torch.tanh(g)
        return {"h": torch.sigmoid(o) * torch.tanh(layer_norm(c, bias=p.b)), "c": c}


class NormedLate(Mgu):
    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return rms_norm(x.f + u.f) * s.h


class Constant:
    gates = "a b"
    states = "h c"

    def initial(self, s: Any) -> dict[str, Any]:
        return {"c": torch.ones_like(s.c)}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": s.c, "c": torch.zeros_like(s.h) + 2}


CELLS = [
    *(Lstm, Gru, Relu, ResetBefore, Mgu, AllLate, Peephole, Coupled, Slstm, WithOutput),
    *(WithLateOutput, Decaying, Chain, NoProduct, NormedLstm, NormedLate, Constant),
]


def programs() -> dict[str, Program]:
    found = {}
    for cell in CELLS:
        flags = (False, True) if getattr(cell, "inputs", "") else None
        heads = 2 if getattr(cell, "recurrent", "") == "heads" else None
        found[cell.__name__] = trace(cell, flags, heads)
    return found


PROGRAMS = programs()


def drawn(*shape: int) -> Tensor:
    return (0.7 * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def weights_of(program: Program) -> SimpleNamespace:
    G, vectors, recurrent = len(program.gates), len(program.vector_slots), program.has_recurrent
    block = H // program.heads
    shape = (G * H, H) if program.heads == 1 else (program.heads, G * block, block)
    return SimpleNamespace(
        w_ih=drawn(G * H, FEATURES),
        w_hh=drawn(*shape) if recurrent else None,
        b_ih=drawn(G * H),
        b_hh=drawn(G * H) if recurrent else None,
        w_hr=None,
        w_ch=drawn(vectors * H) if vectors else None,
    )


def engine_weights(weights: SimpleNamespace) -> SimpleNamespace:
    zero = torch.zeros_like(weights.b_ih)
    own = {name: None if w is None else w.detach() for name, w in vars(weights).items()}
    return SimpleNamespace(**{**own, "b_hh": zero if own["b_hh"] is None else own["b_hh"]})


def check(program: Program, seed: int = 0) -> None:
    """Three steps, forward and backward, by the instructions and by autograd."""
    torch.manual_seed(seed)
    width = FEATURES + sum(H if per_unit else 1 for _, per_unit in program.inputs)
    xs = [drawn(B, width) for _ in range(STEPS)]
    first = [drawn(B, H) for _ in program.internal_states]
    weights = weights_of(program)
    wanted = [torch.randn(B, H, dtype=torch.float64) for _ in range(STEPS)]
    final = [torch.randn(B, H, dtype=torch.float64) for _ in first]

    states, loss = list(first), torch.zeros((), dtype=torch.float64)
    expected = []
    for x, d_y in zip(xs, wanted, strict=True):
        states = list(step(program, x, states, weights))
        expected.append([state.detach() for state in states])
        loss = loss + (states[0] * d_y).sum()
    loss = loss + sum((state * d).sum() for state, d in zip(states, final, strict=True))
    leaves = [*xs, *first, *(w for w in vars(weights).values() if w is not None)]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    emulated = [Step(program, H, engine_weights(weights)) for _ in range(STEPS)]
    states = [state.detach() for state in first]
    for own, x, new in zip(emulated, xs, expected, strict=True):
        plain = own.forward(x.detach(), states, saving=False)
        states = own.forward(x.detach(), states, saving=True)
        torch.testing.assert_close(states, new)
        torch.testing.assert_close(plain, states, rtol=0, atol=0)
    d_states, d_weights, d_xs = list(final), {}, []
    for own, d_y in zip(reversed(emulated), reversed(wanted), strict=True):
        found = own.backward([d_states[0] + d_y, *d_states[1:]])
        d_states = found.pop("states")
        d_xs.insert(0, found.pop("x"))
        for name, gradient in found.items():
            there = d_weights.get(name)
            d_weights[name] = gradient if there is None else there + gradient
    given = [*d_xs, *d_states, *(d_weights[n] for n, w in vars(weights).items() if w is not None)]
    torch.testing.assert_close(given, list(gradients), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", PROGRAMS)
def test_instructions_give_autograd_s_gradients(name: str) -> None:
    check(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_lowered_as_the_engine_takes_it(name: str) -> None:
    own, fused = engine_arguments(PROGRAMS[name], H), {}
    for passed in ("forward", "forward_saving", "backward"):
        products = [product for product, _, _ in own[passed] if product >= 0]
        names = [name for _, _, code in own[passed] for name, *_ in code]
        fused[passed] = names.count("fma")
        there = [p for p, (_, count) in enumerate(own["products"]) if count]
        assert sorted(products) == there
        assert products == (there if passed != "backward" else there[::-1])
        if 0 in products:
            assert own[passed][-1 if passed == "backward" else 0][0] == 0
    assert fused["forward"] == fused["forward_saving"]  # the same bits


@pytest.mark.parametrize("name", ["NormedLstm", "NormedLate", "Decaying", "Slstm"])
def test_a_program_on_tensors_has_second_derivatives(name: str) -> None:
    torch.manual_seed(0)
    program = PROGRAMS[name]
    width = FEATURES + sum(H if per_unit else 1 for _, per_unit in program.inputs)
    weights = vars(weights_of(program))
    names = [name for name, tensor in weights.items() if tensor is not None]

    def stepped(x: Tensor, *flat: Tensor) -> tuple[Tensor, ...]:
        states, given = flat[: len(program.states)], flat[len(program.states) :]
        own = {**weights, **dict(zip(names, given, strict=True))}
        return step(program, x, states, SimpleNamespace(**own))

    inputs = (drawn(B, width), *(drawn(B, H) for _ in program.states), *map(weights.get, names))
    assert torch.autograd.gradcheck(stepped, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(stepped, inputs, fast_mode=True)


KINKS = [-1.0, -0.5, 0.0, 0.5, 1.0, float("nan")]

AT_KINKS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: torch.relu(a) + b.abs() + torch.sign(a),
    lambda a, b: torch.maximum(a, b) + torch.maximum(a, torch.zeros_like(b)),
    lambda a, b: torch.minimum(a, b) + torch.minimum(torch.ones_like(b), a),
    lambda a, b: a.clamp(-0.5, 0.5) + torch.clamp(a, min=b) + b.clamp(max=0.5),
    lambda a, b: torch.where(a == a, a, 0.0).clamp(-torch.where(b == b, b, 0.0), b * b),
    lambda a, b: functional.elu(a) + functional.leaky_relu(b) + functional.softsign(a),
    lambda a, b: functional.hardtanh(torch.where(a == a, a, 0.0), -0.5, 0.5) + b,
    lambda a, b: functional.hardsigmoid(6 * torch.where(a == a, a, 0.0)) + b,
    lambda a, b: torch.where(a <= b, a * b, b) + torch.where(a == b, a, 1.0) + (a != b) * b,
    lambda a, b: torch.sqrt(a.abs()) + b**2 + torch.reciprocal(a) + a / b + a**3,
]


@pytest.mark.parametrize("function", AT_KINKS, ids=range(len(AT_KINKS)))
def test_gradients_where_a_function_has_a_kink_or_is_nan(
    function: Callable[[Any, Any], Any],
) -> None:
    def own_step(self: Any, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": function(s.h, s.c), "c": s.c}

    cell = type("AtKinks", (), {"gates": "g", "states": "h c", "step": own_step})
    grid = torch.tensor(KINKS, dtype=torch.float64)
    h, c = (side.contiguous() for side in torch.meshgrid(grid, grid, indexing="ij"))
    a, b = h.clone().requires_grad_(), c.clone().requires_grad_()
    value = function(a, b)
    gradients = torch.autograd.grad(value.sum(), (a, b))

    program = trace(cell)
    own = Step(program, H, engine_weights(weights_of(program)))
    new = own.forward(torch.zeros(H, FEATURES, dtype=torch.float64), [h, c], saving=True)
    found = own.backward([torch.ones_like(h), torch.zeros_like(c)])["states"]
    torch.testing.assert_close(new[0], value.detach(), equal_nan=True)
    torch.testing.assert_close(found, list(gradients), equal_nan=True)


def test_a_program_is_shown_in_the_words_of_its_cell() -> None:
    shown = str(PROGRAMS["Mgu"])
    for line in ("f = sigmoid(x.f + u.f)", "u.n = U @ operand1", "d_s.h += U^T @ d_u.f", "keep n"):
        assert f"    {line}\n" in f"{shown}\n"


@pytest.mark.parametrize(
    ("name", "saved", "computed"),
    [
        ("Peephole", 4, (11, 19)),
        ("Lstm", 4, (8, 13)),
        ("Gru", 4, (6, 9)),
        ("Mgu", 2, (7, 10)),
        ("Relu", 0, (1, 1)),
    ],
)
def test_known_cells_are_as_short_as_by_hand(
    name: str, saved: int, computed: tuple[int, int]
) -> None:
    own = engine_arguments(PROGRAMS[name], H)
    assert own["saved"] == saved
    counts = [
        sum(one[0] in {*UNARY, *BINARY, *TERNARY} for stage in own[passed] for one in stage[2])
        for passed in ("forward", "backward")
    ]
    assert tuple(counts) == computed


def test_a_step_may_be_long() -> None:
    class Unfolded:
        gates = "h"

        def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
            h = x.h + u.h
            for _ in range(400):
                h = torch.sin(h) + s.h
            return {"h": h}

    engine_arguments(trace(Unfolded), H)
