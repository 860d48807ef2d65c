"""From a cell's methods to its program: what it says, and what it refuses in which words."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from test_program_lowering import ResetBefore
from torch import Tensor
from torch.nn import functional

from fastrnn._program.norms import layer_norm, rms_norm
from fastrnn._program.program import Program
from fastrnn._program.tensors import step
from fastrnn._program.tracing import trace

B, FEATURES, H = 3, 5, 4


class Lstm:
    gates = "i f g o"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f, o = (torch.sigmoid(x_g + u_g) for x_g, u_g in ((x.i, u.i), (x.f, u.f), (x.o, u.o)))
        c = f * s.c + i * (x.g + u.g).tanh()
        return {"h": o * torch.tanh(c), "c": c}


def cell_of(value: Callable[..., Any] | None, **declared: Any) -> type:
    """A cell whose step returns the value as h."""

    def own_step(self: Any, x: Any, u: Any, s: Any, p: Any) -> Any:
        assert value is not None
        return {"h": value(x, u, s, p)}

    return type("Own", (), {"gates": "f n", "step": own_step, **declared})


def weights(gates: int, vectors: int = 0, heads: int = 1) -> SimpleNamespace:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    dense = drawn(gates * H, H) if heads == 1 else drawn(heads, gates * H // heads, H // heads)
    biases = {"b_ih": drawn(gates * H), "b_hh": drawn(gates * H)}
    w_ch = drawn(vectors * H) if vectors else None
    return SimpleNamespace(
        w_ih=drawn(gates * H, FEATURES), w_hh=dense, w_hr=None, w_ch=w_ch, **biases
    )


def states(count: int) -> list[Tensor]:
    return [torch.randn(B, H, dtype=torch.float64) for _ in range(count)]


def test_a_program_computes_what_torch_s_cell_does() -> None:
    w, x, (h, c) = weights(4), torch.randn(B, FEATURES, dtype=torch.float64), states(2)
    flat = (w.w_ih, w.w_hh, w.b_ih, w.b_hh)
    torch.testing.assert_close(step(trace(Lstm), x, (h, c), w), torch.lstm_cell(x, (h, c), *flat))


def test_a_late_gate_meets_the_operand() -> None:
    w, x, (h,) = weights(3), torch.randn(B, FEATURES, dtype=torch.float64), states(1)
    x_r, x_z, x_n = (x @ w.w_ih.T + w.b_ih).chunk(3, 1)
    (u_r, u_z, u_n), (b_r, b_z, b_n) = w.w_hh.chunk(3), w.b_hh.chunk(3)
    r, z = torch.sigmoid(x_r + h @ u_r.T + b_r), torch.sigmoid(x_z + h @ u_z.T + b_z)
    n = torch.tanh(x_n + (r * h) @ u_n.T + b_n)
    (got,) = step(trace(ResetBefore), x, (h,), w)
    torch.testing.assert_close(got, (1 - z) * n + z * h)


def test_heads_are_blocks_on_the_diagonal() -> None:
    blocks, x, before = (
        weights(4, heads=2),
        torch.randn(B, FEATURES, dtype=torch.float64),
        states(2),
    )
    cell = type("Heads", (Lstm,), {"recurrent": "heads"})
    parts = blocks.w_hh.reshape(2, 4, H // 2, H // 2)
    gates = [torch.block_diag(*parts[:, gate]) for gate in range(4)]
    dense = SimpleNamespace(**{**vars(blocks), "w_hh": torch.cat(gates)})
    torch.testing.assert_close(
        step(trace(cell, num_heads=2), x, before, blocks), step(trace(Lstm), x, before, dense)
    )


def test_the_text_says_all() -> None:
    declared = {"vectors": {"a": "gate", "b": "unit"}, "inputs": "dt mask", "states": "h"}
    cell = cell_of(
        lambda x, u, s, p: p.a.f * x.f + p.b * p.dt - p.mask * 0.1 * s.h,
        initial=lambda self, s: {"h": -torch.ones_like(s.h)},
        output=lambda self, x, u, s, p, new: torch.tanh(new.h),
        **declared,
    )
    program = trace(cell, (True, False))
    assert Program.parse(program.text).text == program.text
    assert Program.parse(program.text) == program == copy.deepcopy(program)
    assert pickle.loads(pickle.dumps(program)) == program
    assert hash(trace(cell, (True, False))) == hash(program)
    assert program != trace(cell) == program.with_inputs((False, False))
    assert program.initial == (-1.0,)
    assert program.internal_states == ("", "h")
    assert program.vector_slots == ("a.f", "a.n", "b")


def test_an_instance_has_numbers_of_its_own() -> None:
    class Leaky:
        gates = "n"

        def __init__(self, dt: float) -> None:
            self.dt = dt

        def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
            return {"h": s.h + self.dt * torch.tanh(x.n + u.n)}

    assert trace(Leaky(0.1)) == trace(Leaky(0.1)) != trace(Leaky(0.2))


def test_what_is_written_twice_is_computed_once() -> None:
    once = trace(cell_of(lambda x, u, s, p: torch.sigmoid(x.f + u.f) * s.h))
    twice = trace(cell_of(lambda x, u, s, p: 0 - -(torch.sigmoid(u.f + x.f) * s.h * 1 + x.n * 0)))
    unused = trace(cell_of(lambda x, u, s, p: [x.n * 2, torch.sigmoid(x.f + u.f) * s.h][1]))
    assert once == unused
    assert len(twice.nodes) == len(once.nodes) + 4  # x.n, 0, their product and the sum: NaN stays


@pytest.mark.parametrize("kind", [numpy.float64, numpy.array, torch.tensor])
def test_numbers_of_numpy_and_of_torch_are_numbers(kind: Callable[[float], Any]) -> None:
    plain = cell_of(lambda x, u, s, p: (2.0 - x.f) * 3 / (2 / x.n) + (s.h > 0.5) * x.f)
    two, three, half = kind(2.0), kind(3.0), kind(0.5)
    own = cell_of(lambda x, u, s, p: (two - x.f) * three / (two / x.n) + (half < s.h) * x.f)
    assert trace(own) == trace(plain)


FUNCTIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: torch.exp(a) + torch.expm1(b) - a / b,
    lambda a, b: (a.abs() + 1).log() * torch.log1p(b**2) / (2 - b.square()),
    lambda a, b: torch.sqrt(a.abs()) + torch.rsqrt(torch.abs(b)) + (a * a) ** 0.5 + a**-1 + b**3,
    lambda a, b: functional.silu(a) + functional.gelu(b) + functional.gelu(a, approximate="tanh"),
    lambda a, b: functional.softplus(a, beta=2) - functional.logsigmoid(b),
    lambda a, b: functional.elu(a, alpha=0.5) + functional.relu(b) + torch.relu(a) + b.relu(),
    lambda a, b: functional.leaky_relu(a, 0.2) + functional.softsign(b),
    lambda a, b: functional.hardsigmoid(4 * a) + functional.hardtanh(b, -0.5, 0.75),
    lambda a, b: torch.minimum(a, b) * torch.maximum(b, torch.zeros_like(a)) + a.sign(),
    lambda a, b: a.clamp(-0.5, 0.5) + torch.clamp(b, max=a) + b.clamp_min(0.1),
    lambda a, b: torch.where(a > b, a, 1.0) + torch.where((a <= 0) | ~(b >= 0), -1.0, b),
    lambda a, b: torch.where((a != b) & (a == a), a.sin(), b.cos()) + torch.erf(a),
    lambda a, b: torch.lerp(a, b, torch.sigmoid(a)) + torch.reciprocal(b) + torch.ones_like(b),
    lambda a, b: torch.add(a, b, alpha=2) + a.sub(b, alpha=3) + abs(a) + 1 / b - (+b),
    lambda a, b: layer_norm(a, weight=b, bias=0.5) + rms_norm(b, eps=0.1),
    lambda a, b: (lambda n: n[0] * n[1])(layer_norm([a, b], weight=[b, a], bias=b)),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions_of_symbols_are_those_of_tensors(function: Callable[[Any, Any], Any]) -> None:
    torch.manual_seed(0)
    program = trace(cell_of(lambda x, u, s, p: function(x.f, s.h)))
    w, x, (h,) = weights(2), torch.randn(B, FEATURES, dtype=torch.float64), states(1)
    (got,) = step(program, x, (h,), w)
    torch.testing.assert_close(got, function((x @ w.w_ih.T + w.b_ih)[:, :H], h), equal_nan=True)


def test_a_normalisation_is_torch_s() -> None:
    a, b = states(2)
    together = torch.cat([a, b], 1)
    for own, of_torch in ((layer_norm, functional.layer_norm), (rms_norm, functional.rms_norm)):
        torch.testing.assert_close(own(a, eps=0.1), of_torch(a, (H,), eps=0.1))
        got = torch.cat(own((a, b), eps=0.1), 1)
        torch.testing.assert_close(got, of_torch(together, (2 * H,), eps=0.1))
    with pytest.raises(ValueError, match="weight: expected one or 2, as many as values, got 1"):
        layer_norm((a, b), weight=[a])


HERE = rf"\({__file__}:\d+\)"

REFUSED: list[tuple[Callable[..., Any], str]] = [
    (lambda x, u, s, p: torch.softmax(x.f, -1), r"torch\.softmax"),
    (lambda x, u, s, p: x.f.cumsum(0), r"Tensor\.cumsum"),
    (lambda x, u, s, p: torch.cat([x.f, x.n]), r"torch\.cat"),
    (lambda x, u, s, p: functional.dropout(x.f), r"torch\.nn\.functional\.dropout"),
    (lambda x, u, s, p: functional.relu(x.f, inplace=True), "inplace=True"),
    (lambda x, u, s, p: x.f.data, r"Tensor\.data"),
    (lambda x, u, s, p: x.f if x.f > 0 else x.n, r"bool\(\)"),
    (lambda x, u, s, p: x.f and x.n, r"bool\(\)"),
    (lambda x, u, s, p: float(x.f), r"float\(\)"),
    (lambda x, u, s, p: len(x.f), r"len\(\)"),
    (lambda x, u, s, p: sum(x.f), r"iter\(\)"),
    (lambda x, u, s, p: x.f[0], r"a value with \[\]"),
    (lambda x, u, s, p: x.f @ x.n, "a value with @"),
    (lambda x, u, s, p: x.f // 2, "a value with //"),
    (lambda x, u, s, p: x.f**1.5, r"\*\* 1.5"),
    (lambda x, u, s, p: x.f**x.n, "an exponent of type Symbol"),
    (lambda x, u, s, p: 2**x.f, "a number to the power of a value"),
    (lambda x, u, s, p: torch.where(x.f, x.n, 0.0), r"torch\.where"),
    (lambda x, u, s, p: (x.f > 0) + (x.n > 0), "add of two comparisons"),
    (lambda x, u, s, p: (x.f > 0) - x.n, "sub of a comparison"),
    (lambda x, u, s, p: 1 - (x.f > 0), "sub of a comparison"),
    (lambda x, u, s, p: x.n * -(x.f > 0), "neg of a comparison"),
    (lambda x, u, s, p: torch.lerp(x.f, x.n, x.f > 0), "lerp of a comparison"),
    (lambda x, u, s, p: torch.clamp(x.f), "torch.clamp without a limit"),
    (lambda x, u, s, p: torch.relu(x.f > 0), "relu of a comparison"),
    (lambda x, u, s, p: +(x.f > 0) * x.n, "positive of a comparison"),
    (lambda x, u, s, p: x.f + "1", "an operand of type str"),
    (lambda x, u, s, p: numpy.asarray(x.f), r"array\(\)"),
]


@pytest.mark.parametrize(("value", "operation"), REFUSED)
def test_an_operation_that_a_program_has_not(value: Callable[..., Any], operation: str) -> None:
    with pytest.raises(TypeError, match=rf"^{operation} {HERE}: .*; allowed are \+ - \* /"):
        trace(cell_of(value))


@pytest.mark.parametrize("function", [torch.Tensor.tanh, "{:.3f}".format])
def test_a_function_that_takes_no_values(function: Callable[[Any], Any]) -> None:
    """An error that torch or Python raises says what is allowed, too."""
    with pytest.raises(TypeError, match=rf"(?s)'?Symbol.* {HERE}; allowed are \+ - \* /"):
        trace(cell_of(lambda x, u, s, p: function(x.f)))


def many_states(count: int, **declared: Any) -> dict[str, Any]:
    states = [f"s{number}" for number in range(count)]
    return {
        "states": " ".join(states),
        "step": lambda self, x, u, s, p: {name: getattr(s, name) for name in states},
        **declared,
    }


NAMES: list[tuple[Callable[..., Any] | None, dict[str, Any], str]] = [
    (lambda x, u, s, p: x.q, {}, rf"^x\.q {HERE}: there is no gate 'q', expected one of: f n$"),
    (lambda x, u, s, p: s.f, {}, r"no state 'f', expected one of: h; 'f' is a gate: x\.f, u\.f$"),
    (lambda x, u, s, p: x.h, {}, r"no gate 'h', expected one of: f n; 'h' is a state: s\.h$"),
    (lambda x, u, s, p: p.q, {}, r"no vector or input 'q', expected one of: none$"),
    (lambda x, u, s, p: p.a.q, {"vectors": {"a": "gate"}}, r"^p\.a\.q .*expected one of: f n$"),
    (lambda x, u, s, p: u.f, {"recurrent": "none"}, r"none; recurrent = 'none' has no u$"),
    (lambda x, u, s, p: x.f, {"states": "h c"}, "does not return the state 'c'"),
    (lambda x, u, s, p: x.f, {"states": "c"}, "returns 'h', which is no state"),
    (lambda x, u, s, p: x.h, {"states": "c", "gates": "h"}, "returns 'h', which is a gate"),
    (lambda x, u, s, p: x.f * torch.ones(3), {}, rf"shape \[3\] {HERE} does not broadcast"),
    (lambda x, u, s, p: torch.ones(3) + x.f, {}, rf"shape \[3\] {HERE} does not broadcast"),
    (lambda x, u, s, p: x.f * torch.ones((), requires_grad=True), {}, "requires a gradient"),
    (lambda x, u, s, p: x.f, {"gates": "if"}, "'if' is not a name that Python can write"),
    (lambda x, u, s, p: x.f, {"gates": "f f"}, r"Own\.gates: 'f' is there twice"),
    (lambda x, u, s, p: x.f, {"gates": "f", "late": "n"}, "'n' is no gate, expected some of f"),
    (lambda x, u, s, p: x.f, {"recurrent": "sparse"}, "'dense', 'none', 'heads' or a number"),
    (lambda x, u, s, p: x.f, {"recurrent": "heads"}, "num_heads must say how many"),
    (lambda x, u, s, p: x.f, {"vectors": {"a": "row"}}, "'row', expected one of gate, unit"),
    (lambda x, u, s, p: x.f, {"vectors": {"a b": "unit"}}, "'a b' is not a name that Python can"),
    (lambda x, u, s, p: x.f, {"initial": lambda self, s: {"h": s.h}}, "expected a constant"),
    (None, many_states(9), r"Own\.states: expected up to 8, got 9"),
    (None, many_states(8, output=lambda *of: of[1].f), "up to 7 beside an output that is not"),
    (
        lambda x, u, s, p: u.e,
        {
            **{"gates": "a b c d e", "late": ["b", "c", "d", "e"]},
            **{"operand": lambda *of: of[3].h, "output": lambda *of: of[1].a},
        },
        r"Own\.late: expected up to 3 products beside an output .*, got 4",
    ),
]


@pytest.mark.parametrize(("value", "declared", "message"), NAMES)
def test_what_a_cell_does_not_declare(
    value: Callable[..., Any] | None, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trace(cell_of(value, **declared))


def test_a_product_s_share_is_there_only_after_it() -> None:
    cell = type("Early", (ResetBefore,), {"operand": lambda self, x, u, s, p: u.n})
    with pytest.raises(ValueError, match="one of: r z; its product comes later"):
        trace(cell)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (type("Own", (), {"gates": "f"}), r"needs a method step\(\)"),
        (type("Own", (), {"step": None}), "declares no gates"),
        (cell_of(lambda x, u, s, p: x.f, late="n"), r"needs a method operand\(\)"),
        (cell_of(lambda x, u, s, p: x.f, late=1), r"Own\.late: expected names in a str"),
        (cell_of(lambda x, u, s, p: None), "returns NoneType, expected a value of the cell"),
        (cell_of(None, step=lambda self, x, u, s, p: x.f), "expected a dict of states, got Symbol"),
        (
            cell_of(None, step=lambda self, x, u, s: {}),
            rf"takes 4 positional arguments but 5 .* {HERE}: expected a method of x, u, s, p$",
        ),
        (
            cell_of(lambda x, u, s, p: x.f, late=["n"], operand=lambda self, x, u, s, p: s.h),
            rf"5 positional arguments but 6 .* {HERE}: expected a method of x, u, s, p, stage$",
        ),
        (
            cell_of(lambda x, u, s, p: x.f, vectors={1: "unit"}),
            r"Own\.vectors: expected names in a",
        ),
    ],
)
def test_a_cell_that_is_none(cell: type, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trace(cell)
