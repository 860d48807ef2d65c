"""Dropout between layers: torch's masks from torch's generator."""

from __future__ import annotations

import pytest
import torch
from cases import LAYERS, Case, assert_same, flat, like, run

F32, F64 = torch.float32, torch.float64
FORMS = [
    {},
    {"batch_first": True},
    {"form": "unbatched", "lengths": (5,)},
    {"form": "unsorted", "lengths": (2, 5, 3)},
]

pytestmark = pytest.mark.usefixtures("each_isa")


@pytest.mark.parametrize("p", [0.2, 0.9, 1.0])
@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_equal_seeds_give_torchs_outputs_gradients_and_next_random_number(kind, options, p):
    case = Case(kind, num_layers=3, bidirectional=True, dropout=p, dtype=F64, **options)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    results = []
    for layer in (fast, plain):
        torch.manual_seed(7)
        layer(x, hx)
        results.append(([torch.rand(1, dtype=F64)], *run(layer, like(x, F64), like(hx, F64))))
    for got, expected in zip(*results, strict=True):
        assert_same(got, expected, F64)


@pytest.mark.parametrize("kind", LAYERS)
def test_float32_gets_torchs_masks_as_well(kind):
    case = Case(kind, num_layers=2, dropout=0.5, hidden_size=33, lengths=(7,) * 9)
    fast, plain = case.pair()
    x = case.input()
    for got, expected in zip(run(fast, x, None), run(plain, x, None), strict=True):
        assert_same(got, expected, F32)


@pytest.mark.parametrize("change", ["eval", "one layer", "p = 0"])
def test_without_dropout_no_random_number_is_drawn(change):
    case = Case("GRU", num_layers=1 if change == "one layer" else 2, dropout=0.5)
    layer, x = case.build(), case.input()
    if change == "eval":
        layer.eval()
    if change == "p = 0":
        layer.dropout = 0.0
    state = torch.get_rng_state()
    first, second = layer(x), layer(x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(flat(first), flat(second), strict=True))


def test_other_seeds_give_other_masks_and_the_last_layer_has_none():
    case = Case("RNN", num_layers=2, dropout=0.5, nonlinearity="tanh", hidden_size=16)
    layer, x = case.build(), case.input()
    first, second = layer(x)[0], layer(x)[0]
    assert not torch.equal(first, second)
    assert first.all()
