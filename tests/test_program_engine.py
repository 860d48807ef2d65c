"""The interpreter: programs drawn at random, and every operation of its own, on each ISA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from cases import tolerance
from engine import applied
from hypothesis import given, settings
from hypothesis import strategies as st
from test_program_random import programs
from torch import Tensor

from fastrnn import _core
from fastrnn._autograd import eager
from fastrnn._call.arguments import Arguments
from fastrnn._call.spec import PLAIN, Outputs, Spec
from fastrnn._call.weights import shapes_of_weights
from fastrnn._engine import backends
from fastrnn._program.lowering import engine_arguments
from fastrnn._program.program import Program
from fastrnn._program.tracing import trace

FEATURES = 3


def spec_of(program: Program, H: int, layers: int = 1, both: bool = False) -> Spec:
    return Spec(program.text, FEATURES, H, 0, layers, both, True, 0.0, PLAIN)


def drawn(spec: Spec, T: int, B: int, *, ragged: bool) -> Arguments:
    """A call; weights so small that what they give does not depend on the size."""
    of_layers = spec.num_layers * spec.directions
    hx, cx = (torch.randn(of_layers, B, width).double() for width in (*spec.widths, 1)[:2])
    weights = [torch.randn(shape).double() / shape[-1] ** 0.5 for shape in shapes_of_weights(spec)]
    return Arguments(
        torch.randn(T, B, spec.data_size).double(),
        hx,
        cx if spec.has_cell_state else None,
        lengths=torch.randint(0, T + 1, (B,)) if ragged else None,
        resets=torch.rand(T, B) < 0.3 if ragged else None,
        weights=weights,
    )


def computed(spec: Spec, given: Arguments, backend: str) -> tuple[Outputs, Sequence[Tensor]]:
    """Outputs, and the gradients of all inputs for fixed gradients of the outputs."""
    inputs = [None if one is None else one.clone().requires_grad_() for one in given.inputs()]
    with backends.using(backend):
        outputs = eager.run(spec, given.with_inputs(inputs), states=True)
        present = [one for one in outputs if one is not None]
        weights = [torch.linspace(-1, 1, one.numel()).view_as(one).to(one) for one in present]
        wanted = [one for one in inputs if one is not None]
        gradients = torch.autograd.grad(present, wanted, weights, materialize_grads=True)
    return outputs, gradients


@settings(max_examples=60)
@given(
    program=programs(),
    H=st.sampled_from((2, 8, 20, 66)),
    T=st.integers(1, 4),
    B=st.integers(1, 9),
    stack=st.booleans(),
    ragged=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_program_is_what_autograd_makes_of_its_equations(
    program: Program, H: int, T: int, B: int, stack: bool, ragged: bool, seed: int, each_isa: str
) -> None:
    torch.manual_seed(seed)
    spec = spec_of(program, H, 1 + stack, stack)
    call = drawn(spec, T, B, ragged=ragged)
    got, d_got = computed(spec, call, "cpu")
    expected, d_expected = computed(spec, call, "reference")
    for g, e in zip((*got, *d_got), (*expected, *d_expected), strict=True):
        if e is not None:
            torch.testing.assert_close(
                g, e, rtol=1e-8, atol=1e-9 * float(1 + e.detach().abs().max())
            )


@settings(max_examples=40)
@given(
    program=programs(),
    H=st.sampled_from((6, 40, 70)),
    T=st.sampled_from((1, 3)),
    seed=st.integers(0, 2**31),
)
def test_a_row_of_any_program_depends_on_itself_alone(
    program: Program, H: int, T: int, seed: int, each_isa: str, restore_threads: None
) -> None:
    torch.manual_seed(seed)
    spec, B = spec_of(program, H), 11
    call = drawn(spec, T, B, ragged=False)
    together, d_together = computed(spec, call, "cpu")
    torch.set_num_threads(1)
    one_thread, d_one_thread = computed(spec, call, "cpu")
    for a, b in zip((*together, *d_together), (*one_thread, *d_one_thread), strict=True):
        assert a is None or torch.equal(a, b)
    own = slice(B // 2, B // 2 + 1)
    of_row = call._replace(
        data=call.data[:, own],
        hx=call.hx[:, own],
        cx=None if call.cx is None else call.cx[:, own],
    )
    alone, _ = computed(spec, of_row, "cpu")
    assert torch.equal(alone.y, together.y[:, own])
    assert torch.equal(alone.h_all, together.h_all[:, :, own])


@settings(max_examples=40)
@given(program=programs(), H=st.sampled_from((6, 40)), seed=st.integers(0, 2**31))
def test_inference_gives_the_bits_of_training(
    program: Program, H: int, seed: int, each_isa: str
) -> None:
    torch.manual_seed(seed)
    spec = spec_of(program, H)
    call = drawn(spec, 3, 7, ragged=False)
    recorded, _ = computed(spec, call, "cpu")
    alone = eager.run(spec, call)  # whose states are written over at each step
    assert torch.equal(alone.y, recorded.y)
    assert torch.equal(alone.h_n, recorded.h_n)
    assert alone.c_n is None or torch.equal(alone.c_n, recorded.c_n)


@pytest.mark.parametrize("steps", [1, 3])
def test_final_states_of_units_that_never_meet_are_those_of_the_last_step(
    steps: int, restore_threads: None
) -> None:
    """One thread copies what others have computed of the row."""
    torch.set_num_threads(2)
    cell = SimpleNamespace(
        gates="f n",
        recurrent="none",
        step=lambda x, u, s, p: {"h": torch.sigmoid(x.f) * s.h + torch.tanh(x.n)},
    )
    spec = spec_of(trace(cell), 3000)
    call = drawn(spec, steps, 1, ragged=False)
    for _ in range(200):
        outputs = eager.run(spec, call)
        assert torch.equal(outputs.h_n[0], outputs.y[-1])


EXACT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (torch.exp, mpmath.exp),
    "expm1": (torch.expm1, mpmath.expm1),
    "log": (lambda x: torch.log(x.abs()), lambda x: mpmath.log(abs(x))),
    "log1p": (lambda x: torch.log1p(x.abs()), lambda x: mpmath.log1p(abs(x))),
    "sqrt": (lambda x: torch.sqrt(x.abs()), lambda x: mpmath.sqrt(abs(x))),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x),
    "sin": (torch.sin, mpmath.sin),
    "cos": (torch.cos, mpmath.cos),
    "erf": (torch.erf, mpmath.erf),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_operations_are_accurate_to_four_ulp(name: str, dtype: type, each_isa: str) -> None:
    rng = np.random.default_rng(0)
    wide = rng.choice([-1, 1], 400) * 10.0 ** rng.uniform(-30, 1.9, 400)
    values = np.concatenate([rng.normal(scale=5, size=800), wide, [1.0, -1.0]]).astype(dtype)
    compute, exact = EXACT[name]
    got = applied(compute, values)
    with mpmath.workdps(60):
        expected = [exact(mpmath.mpf(float(value))) for value in values]
    nearest = np.array([float(value) for value in expected])
    ulp = np.spacing(np.abs(nearest).astype(dtype)).astype(np.float64)
    finite = np.isfinite(nearest.astype(dtype))
    worst = max(
        abs(mpmath.mpf(float(g)) - e) / u
        for g, e, u in zip(got[finite], np.array(expected)[finite], ulp[finite], strict=True)
    )
    assert worst <= 4


SPECIAL = [0.0, 1.0, -1.0, 1e-30, 100.0, -100.0, 1000.0, -1000.0, np.inf, -np.inf, np.nan]

OF_SPECIAL: dict[str, Callable[[Any], Any]] = {
    name: getattr(torch, name)
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh", "erf", "abs", "sign")
} | {
    "reciprocal": torch.reciprocal,
    "relu": torch.relu,
    "softplus": torch.nn.functional.softplus,
    "minimum": lambda x: torch.minimum(x, torch.ones_like(x)),
    "maximum of it": lambda x: torch.maximum(torch.ones_like(x), x),
    "clamp": lambda x: torch.clamp(x, -0.5, 0.5),
    "less": lambda x: torch.where(x < 1, torch.ones_like(x), torch.zeros_like(x)),
    "less or equal": lambda x: torch.where(x <= 1, torch.ones_like(x), torch.zeros_like(x)),
    "equal": lambda x: torch.where(x == 1, torch.ones_like(x), torch.zeros_like(x)),
    "division": lambda x: 1 / x,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OF_SPECIAL)
def test_limits_zero_and_nan_are_torch_s(name: str, dtype: type, each_isa: str) -> None:
    values = np.array(SPECIAL, dtype=dtype)
    got = torch.from_numpy(applied(OF_SPECIAL[name], values))
    expected = OF_SPECIAL[name](torch.from_numpy(values))
    own = tolerance(got.dtype, 1, 1)
    torch.testing.assert_close(got, expected, rtol=own, atol=1e-37, equal_nan=True)


def test_wide_layers_find_each_unit_s_own_inputs(each_isa: str) -> None:
    """They lie too far for an instruction's operand, whose number has 16 bits."""
    torch.manual_seed(0)
    cell = SimpleNamespace(
        gates="n",
        inputs="scale shift",
        recurrent="none",
        step=lambda x, u, s, p: {"h": torch.tanh(x.n) * p.scale + s.h * p.shift},
    )
    H = 65537
    spec = spec_of(trace(cell, (True, True)), H)
    call = drawn(spec, T=1, B=2, ragged=False)
    got, d_got = computed(spec, call, "cpu")
    expected, d_expected = computed(spec, call, "reference")
    for g, e in zip((*got, *d_got), (*expected, *d_expected), strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-12)


def test_code_that_reaches_beyond_what_there_is_is_refused() -> None:
    gru = SimpleNamespace(gates="a", step=lambda x, u, s, p: {"h": torch.tanh(x.a + u.a) + s.h})
    right = engine_arguments(trace(gru), 8)
    _core.Program(**right)
    product, registers, code = right["forward"][0]
    wrong: dict[str, Any] = {
        "out of range": [(product, registers, [*code, ("add", registers, 0, 0, 0)])],
        "a number": [(product, registers, [*code, ("state", 0, 1, 0, 0)])],
        "no operation": [(product, registers, [("guess", 0, 0, 0, 0)])],
        "product": [(2, registers, code)],
        "code of rows": [(product, registers, [*code, ("each_unit", 0, 0, 0, 0), *code])],
        "nothing has been written": [(product, registers, [("neg", 0, 0, 0, 0), *code])],
        "stages": [],
    }
    for words, stages in wrong.items():
        with pytest.raises(ValueError, match=words):
            _core.Program(**right | {"forward": stages})
    with pytest.raises(ValueError, match="a gate is out of range"):
        _core.Program(**right | {"gate_of_slot": [1]})
    with pytest.raises(ValueError, match="an extra lies before the others"):
        _core.Program(**right | {"extras": [(-1, False)]})


def test_places_that_are_not_there_are_refused() -> None:
    """The first product multiplies the hidden state, which no operand's place holds."""
    late = SimpleNamespace(
        gates="f n",
        late="n",
        operand=lambda x, u, s, p: (x.f + u.f) * s.h,
        step=lambda x, u, s, p: {"h": torch.tanh(x.n + u.n)},
    )
    right = engine_arguments(trace(late), 8)

    def refuses(words: str, way: str, old: tuple[Any, ...], new: list[tuple[Any, ...]]) -> None:
        stages = [
            (product, registers, [one for own in code for one in (new if own == old else [own])])
            for product, registers, code in right[way]
        ]
        assert stages != right[way]
        with pytest.raises(ValueError, match=words):
            _core.Program(**right | {way: stages})

    beyond, unwritten = "a number is out of range", "nothing has been written"
    refuses(beyond, "forward", ("set_operand", 1, 0, 0, 0), [("set_operand", 0, 0, 0, 0)])
    refuses(beyond, "backward", ("d_operand", 1, 1, 0, 0), [("d_operand", 1, 0, 0, 0)])
    # Registers of rows are none of the units', but for what is spread.
    of_row = [("constant", 0, 0, 0, 0), ("each_unit", 0, 0, 0, 0)]
    right["constants"] = [1.0]
    source = ("input", 0, 1, 0, 0)
    refuses(unwritten, "forward", source, [*of_row, ("neg", 0, 0, 0, 0)])
    refuses(unwritten, "forward", source, [*of_row, ("spread", 0, 1, 0, 0)])
    refuses(unwritten, "forward", source, [*of_row, source, ("spread", 0, 0, 0, 0)])
    of_units = [
        (*stage[:2], [*of_row, ("spread", 1, 0, 0, 0), *stage[2]]) for stage in right["forward"]
    ]
    _core.Program(**right | {"forward": of_units})
