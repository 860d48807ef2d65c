"""The oracle itself: against torch's own layers and cells, in float64."""

from __future__ import annotations

import pytest
import torch
from cases import CELLS, Case, OnReference, assert_same, cases, flat, like, run
from finite_differences import assert_second_derivatives
from hypothesis import given

from fastrnn import reference
from fastrnn._call.spec import PLAIN, Spec

F64 = torch.float64


@given(case=cases(dtype=F64))
def test_reference_is_what_torch_computes_for_every_option(case):
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    got = run(OnReference(fast), like(x, F64), like(hx, F64))
    expected = run(plain, like(x, F64), like(hx, F64))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, F64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [*CELLS, "relu"])
def test_steps_are_the_equations_of_torchs_cells(kind, bias):
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    kind = "RNNCell" if kind == "relu" else kind
    cell = getattr(torch.nn, kind)(3, 4, bias, dtype=F64, **options)
    x, h, c = (torch.randn(2, n, dtype=F64) for n in (3, 4, 4))
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    if kind == "LSTMCell":
        got, expected = reference.lstm_step(x, h, c, *weights), cell(x, (h, c))
    elif kind == "GRUCell":
        got, expected = reference.gru_step(x, h, *weights), cell(x, h)
    else:
        got, expected = reference.rnn_step(x, h, *weights, *options.values()), cell(x, h)
    assert_same(flat(got), flat(expected), F64)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_reference_can_be_differentiated_twice(kind):
    spec = Spec(
        cell={"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind],
        input_size=2,
        hidden_size=2,
        proj_size=0,
        num_layers=1,
        bidirectional=True,
        bias=True,
        dropout=0.0,
        variant=PLAIN,
    )
    case = Case(kind, input_size=2, hidden_size=2, bidirectional=True, dtype=F64, lengths=(2,))
    weights = [w.detach().requires_grad_() for w in case.build().parameters()]
    x, *states = flat(like(case.input(), F64), like(case.state(), F64))

    def call(x, hx, cx, *weights):
        return tuple(flat(reference.rnn(spec, x, hx, cx, weights)))

    assert_second_derivatives(call, x, *[*states, None][:2], *weights)


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_dropout_mask_is_the_one_that_torch_draws(p):
    x = torch.randn(7, 3, 4)
    torch.manual_seed(3)
    mask = reference.dropout_mask(x.shape, p, x)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    expected = torch.nn.functional.dropout(x, p)
    assert torch.equal(x * mask, expected)
    assert torch.equal(state, torch.get_rng_state())


def test_given_masks_take_the_place_of_drawn_ones():
    spec = Spec(
        cell="gru",
        input_size=3,
        hidden_size=4,
        proj_size=0,
        num_layers=2,
        bidirectional=False,
        bias=True,
        dropout=0.5,
        variant=PLAIN,
    )
    case = Case("GRU", num_layers=2)
    x, weights = case.input(), list(case.build().parameters())
    ones = [torch.ones(5, 2, 4)]
    with_ones = reference.rnn(spec, x, None, None, weights, masks=ones)
    assert torch.equal(with_ones[0], case_without_dropout(spec, x, weights))


def case_without_dropout(spec, x, weights):
    options = {name: getattr(spec, name) for name in spec.__slots__} | {"dropout": 0.0}
    return reference.rnn(Spec(**options), x, None, None, weights)[0]
