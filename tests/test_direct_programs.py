"""The short way of single steps whose cells are programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_direct import Spy, by_the_long_way, flat, gradients, random_state
from torch import Tensor, nn
from torch.nn.utils import parametrize

import fastrnn
from fastrnn import cells

pytestmark = pytest.mark.skipif(
    not hasattr(Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no short way"
)


class Rectified(fastrnn.Cell):
    """One gate, no recurrent weights, and so one weight where there is no bias."""

    gates = "g"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.relu(x.g) + 0.5 * s.h}


class FromOnes(fastrnn.Cell):
    """A state that does not begin as zeros."""

    gates = "g"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.g + u.g) * s.h}

    def initial(self, s: Any) -> dict[str, Any]:
        return {"h": torch.ones_like(s.h)}


STEPS: dict[str, Any] = {
    "one state": lambda: fastrnn.RecurrentCell(cells.MGU, 5, 37),
    "two states": lambda: fastrnn.RecurrentCell(cells.LSTM, 5, 37),
    "one weight": lambda: fastrnn.RecurrentCell(Rectified, 5, 37, bias=False),
    "a vector": lambda: fastrnn.RecurrentCell(cells.IndRNN, 5, 37, dtype=torch.float64),
    "peepholes": lambda: fastrnn.LSTMCell(5, 37, peephole="ifo"),
    "reset before": lambda: fastrnn.GRUCell(5, 37, reset_after=False),
    "elu": lambda: fastrnn.RNNCell(5, 37, activation="elu"),
}


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("which", STEPS)
@pytest.mark.parametrize("B", [1, 4])
def test_a_step_and_its_gradients_have_the_bits_of_the_long_way(
    which: str, B: int, spy: Spy
) -> None:
    cell = STEPS[which]()
    x = torch.randn(B, 5, dtype=cell.weight_ih.dtype, requires_grad=True)
    for hx in (None, random_state(cell(x))):
        for leaf in flat(hx if hx is not None else ()):
            leaf.requires_grad_()
        want = by_the_long_way(lambda hx=hx: gradients(cell, x, hx, slice(None)))
        got = gradients(cell, x, hx, slice(None))
        assert all(g.stride() == w.stride() for g, w in zip(got, want, strict=True))
        assert all(map(torch.equal, got, want))
    assert (spy.served, spy.refused) == (3, 0)


def test_states_and_inputs_that_have_to_be_joined_first_go_with_the_short_way(spy: Spy) -> None:
    many = fastrnn.RecurrentCell(cells.SLSTM, 5, 4, num_heads=2)
    timed, ones = fastrnn.RecurrentCell(cells.TLSTM, 5, 4), fastrnn.RecurrentCell(FromOnes, 5, 4)
    x, dt = torch.randn(3, 5), torch.rand(3)
    hx = random_state(many(x))
    for call in (lambda: many(x, hx), lambda: timed(x, dt=dt), lambda: ones(x)):
        want = by_the_long_way(call)
        spy.served = spy.refused = 0
        assert all(map(torch.equal, flat(call()), want))
        assert (spy.served, spy.refused) == (1, 0)


@pytest.mark.parametrize("number_format", ["float32", "bfloat16", "int8"])
def test_a_frozen_step_is_as_short(number_format: str, spy: Spy) -> None:
    cell = fastrnn.freeze(fastrnn.RecurrentCell(cells.LSTM, 5, 37), weights=number_format)
    x = torch.randn(3, 5)
    want = flat(cell(x))  # which packs the weights
    spy.served = spy.refused = 0
    assert all(map(torch.equal, flat(cell(x)), want))
    assert (spy.served, spy.refused) == (1, 0)


def test_single_steps_and_what_lies_apart_take_the_short_way(spy: Spy) -> None:
    x, h = torch.randn(3, 5), torch.randn(3, 4)
    cell = fastrnn.RecurrentCell(cells.LSTM, 5, 4)
    apart = x.t().contiguous().t()
    assert torch.equal(cell(x[0])[0], cell(x)[0][0])
    assert torch.equal(cell(apart, (h, h))[0], cell(x, (h, h))[0])
    assert (spy.served, spy.refused) == (4, 0)


def test_the_long_way_explains_what_is_wrong_with_a_step(spy: Spy) -> None:
    cell, x, h = fastrnn.RecurrentCell(cells.LSTM, 5, 4), torch.randn(3, 5), torch.randn(3, 4)
    with pytest.raises(TypeError, match="expects 2 hidden states"):
        cell(x, h)
    with pytest.raises(RuntimeError, match="batch size 3 doesn't match hidden1 batch size 2"):
        cell(x, (h, h[:2]))
    with pytest.raises(RuntimeError, match="hidden0 has inconsistent hidden_size"):
        cell(x, (torch.randn(3, 5), h))
    with pytest.raises(AttributeError, match=r"hx\[1\]"):
        cell(x, (h, None))
    assert spy.served == 0


def test_weights_that_live_elsewhere_are_found() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    cell = fastrnn.RecurrentCell(Rectified, 5, 4, bias=False)
    x = torch.randn(3, 5)
    want = 2 * cell(x)
    parametrize.register_parametrization(cell, "weight_ih", Doubled())
    assert torch.equal(cell(x), want)
