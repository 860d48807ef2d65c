"""torch's cells as programs, with every option, against the plain equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import OLD_TORCH
from test_variants import NAMES, ONE_OF_EACH

from fastrnn import reference
from fastrnn._call.spec import GATES, PLAIN, Variant
from fastrnn._call.weights import Weights
from fastrnn._call.written import program_of
from fastrnn._program import tensors
from fastrnn._program.program import Program
from fastrnn.variants import make_variant

F64 = torch.float64
B, H = 5, 6
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in ("LSTM", "GRU", "RNN")),
    *ONE_OF_EACH,
    *(("GRU", {"recurrent_activation": name, "activation": "relu"}) for name in NAMES),
    *(("LSTM", {"recurrent_activation": name, "output_activation": name}) for name in NAMES),
    ("LSTM", {"input_forget": True, "peephole": "gfo", "activation": "affine(0.5, 0.1)"}),
]


def variant_of(kind: str, options: dict[str, Any]) -> Variant:
    return make_variant(kind, options) or PLAIN


def weights_for(kind: str, variant: Variant) -> Weights:
    torch.manual_seed(0)
    rows = len(GATES[kind]) * H
    shapes = (rows, 3), (rows, H), (rows,), (rows,)
    w_ch = torch.randn(len(variant.peephole) * H, dtype=F64) if variant.peephole else None
    return Weights(*(torch.randn(shape, dtype=F64) for shape in shapes), None, w_ch)


def of_reference(
    kind: str, x: torch.Tensor, states: Any, weights: Weights, variant: Variant
) -> tuple[torch.Tensor, ...]:
    if kind == "LSTM":
        return reference.lstm_step(x, *states, *weights, variant=variant)
    if kind == "GRU":
        return (reference.gru_step(x, *states, *weights[:4], variant=variant),)
    own = variant.activation or "tanh"
    return (reference.rnn_step(x, *states, *weights[:4], nonlinearity=own, variant=variant),)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda value: str(value).strip("{}"))
def test_a_program_of_options_computes_what_the_equations_say(kind, options):
    variant = variant_of(kind, options)
    weights = weights_for(kind, variant)
    present = [w for w in weights if w is not None]
    x = torch.randn(B, 3, dtype=F64)
    states = [torch.randn(B, H, dtype=F64) for _ in range(2 if kind == "LSTM" else 1)]
    leaves = [one.requires_grad_() for one in (x, *states, *present)]
    cell = "rnn_tanh" if kind == "RNN" else kind.lower()
    program = Program.parse(program_of(cell, variant))
    results = (
        tensors.step(program, x, states, weights),
        of_reference(kind, x, states, weights, variant),
    )
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    factors = [torch.randn_like(one) for one in results[0]]
    gradients = (
        torch.autograd.grad(result, leaves, factors, allow_unused=True, materialize_grads=True)
        for result in results
    )
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


OF_NAN_BY_PROCESSOR = ("elu", "selu", "hard_silu")
"""Whose slope at NaN is a number in torch's kernels for AVX-512, and NaN in its others."""


CORNERED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            OLD_TORCH and name == "hard_silu", reason="torch 2.6 has another slope at 3"
        ),
    )
    for name in NAMES
]


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", CORNERED)
def test_activations_of_infinities_nan_and_their_corners_are_those_of_the_equations(name, clip):
    variant = variant_of("RNN", {"activation": name, "cell_clip": clip})
    corners = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.5, -2.5, 3.0, -3.0]
    a = torch.tensor([[torch.inf, -torch.inf, torch.nan, 800, -800, *corners]], dtype=F64)
    zeros = torch.zeros(a.shape[1], a.shape[1], dtype=F64)
    x, state = torch.zeros(1, a.shape[1], dtype=F64), torch.zeros_like(a)
    bias = a[0].clone().requires_grad_()
    weights = Weights(zeros, zeros, bias, torch.zeros_like(bias))
    program = Program.parse(program_of("rnn_tanh", variant))
    results = (
        tensors.step(program, x, (state,), weights)[0],
        of_reference("RNN", x, (state,), weights, variant)[0],
    )
    torch.testing.assert_close(*results, rtol=1e-15, atol=0, equal_nan=True)
    slope, expected = (torch.autograd.grad(one.sum(), bias)[0] for one in results)
    if clip is None and name.startswith(OF_NAN_BY_PROCESSOR):
        expected[a[0].isnan()] = torch.nan
    torch.testing.assert_close(slope, expected, rtol=1e-14, atol=0, equal_nan=True)


def test_directions_are_no_matter_of_the_cell():
    both = (variant_of("GRU", {"cell_clip": 1.0, "reverse": flag}) for flag in (False, True))
    assert len({program_of("gru", variant) for variant in both}) == 1


def test_an_rnn_that_names_no_activation_has_its_own():
    clipped = variant_of("RNN", {"cell_clip": 1.0})
    texts = [program_of(f"rnn_{name}", clipped) for name in ("tanh", "relu")]
    assert [text.count(name) for text in texts for name in ("tanh", "relu")] == [1, 0, 0, 1]
