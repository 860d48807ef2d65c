"""Lengths, resets and the states after every step, against fastrnn's reference in float64."""

from __future__ import annotations

import pytest
import torch
from cases import Case, flat
from devices import BF16, F32, F64, TOLERANCE, error_of, largest_error, on, products

pytestmark = pytest.mark.usefixtures("exact_products")

T, B = 6, 5
KINDS = ["LSTM", "GRU", "RNN"]
SHAPES = {
    "one layer": {},
    "both directions": {"bidirectional": True},
    "stacked": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
LENGTHS = torch.tensor([3, 6, 0, 1, 5])


def case_of(kind, shape, **changes):
    return Case(
        kind, input_size=3, hidden_size=9, dtype=F64, lengths=(T,) * B, **SHAPES[shape], **changes
    )


def resets(*shape):
    flags = torch.rand(shape) < 0.4
    flags[0] = flags[-1] = True
    return flags


def laid_out(case, flags):
    return flags.t() if case.batch_first else flags


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_in_any_order(device, kind, shape, states):
    case = case_of(kind, shape)
    assert error_of(case, device, lengths=LENGTHS, return_states=states) < TOLERANCE[F64]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_resets(device, kind, shape):
    case = case_of(kind, shape)
    flags = laid_out(case, resets(T, B))
    assert error_of(case, device, resets=flags) < TOLERANCE[F64]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_at_once(device, kind, shape):
    case = case_of(kind, shape, proj_size=4 if kind == "LSTM" else 0)
    flags = laid_out(case, resets(T, B))
    error = error_of(case, device, lengths=LENGTHS, resets=flags, return_states=True)
    assert error < TOLERANCE[F64]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_direction_in_reverse(device, kind):
    case = case_of(kind, "one layer", with_state=False)
    layer, mirrored = (case.build(reverse=reverse).to(device) for reverse in (True, False))
    mirrored.load_state_dict(layer.state_dict())
    x = on(device, case.input())
    y, h_n = layer(x)
    expected, expected_n = mirrored(x.flip(0))
    mirrored_back = [t.cpu() for t in (expected.flip(0), *flat(expected_n))]
    assert largest_error([y, *flat(h_n)], mirrored_back) < TOLERANCE[F64]


@pytest.mark.parametrize("form", ["packed", "unsorted"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_of_a_packed_batch(device, kind, form):
    case = Case(kind, form=form, lengths=(2, 6, 1, 6), dtype=F64, num_layers=2, bidirectional=True)
    assert error_of(case, device, return_states=True) < TOLERANCE[F64]


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_lengths_and_resets_in_other_precisions(device, dtype):
    case = Case("LSTM", hidden_size=24, lengths=(T,) * B, dtype=dtype, bidirectional=True)
    error = error_of(case, device, lengths=LENGTHS, resets=resets(T, B))
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_past_a_length_is_never_read(device, kind):
    case = case_of(kind, "stacked")
    layer, x = case.build().to(device), case.input()
    past = torch.arange(T) >= LENGTHS[:, None]
    x[past] = float("nan")
    x = on(device, x).requires_grad_()
    y, h_n = layer(x, lengths=LENGTHS.to(device))
    gradients = torch.autograd.grad(sum(t.sum() for t in flat(y, h_n)), [x, *layer.parameters()])
    assert not any(t.isnan().any() for t in (*flat(y, h_n), *gradients))
    assert not y[past.to(device)].any()
    assert not gradients[0][past.to(device)].any()


def test_lengths_may_be_a_list_or_lie_on_the_cpu(device):
    case = case_of("GRU", "one layer")
    layer, x = case.build().to(device), on(device, case.input())
    expected = flat(layer(x, lengths=LENGTHS.to(device)))
    for lengths in (LENGTHS, LENGTHS.tolist(), LENGTHS.int()):
        got = flat(layer(x, lengths=lengths))
        assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


def test_a_sequence_of_more_steps_than_a_grid_has_blocks_in_its_second_dimension(
    device_without_pretence,
):
    with products("ieee"):
        case = Case("RNN", input_size=1, hidden_size=1, lengths=(65_600,), with_state=False)
        assert error_of(case, device_without_pretence) < 1e-4
