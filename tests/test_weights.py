"""Weights are read by name at every call: whatever takes their place is computed with."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from cases import (
    CELLS,
    LAYERS,
    Case,
    assert_same,
    cell_state,
    flat,
    input_of,
    like,
    run,
    same_outputs,
    twins,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import fastrnn

F32 = torch.float32


def expect_same_after(change, kind="LSTM", **options):
    """``change`` done to fastrnn's layer and to torch's; both must compute the same afterwards."""
    fast, plain = Case(kind, **options).pair()
    x = torch.randn(5, 2, 3)
    before = fast(x)
    for layer in (fast, plain):
        torch.manual_seed(6)
        change(layer)
    assert not same_outputs(fast(x), before)
    assert_same(flat(fast(x)), flat(plain(x)), F32)
    return fast, plain


def test_edits_of_data_are_seen():
    expect_same_after(lambda layer: layer.weight_hh_l0.data.mul_(2))
    expect_same_after(lambda layer: setattr(layer.bias_ih_l0, "data", torch.ones(16)))


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_data_of_the_same_shape_is_seen_by_the_next_call_and_its_gradients(kind):
    layers, x = twins(kind), input_of(kind)
    before = flat(layers[0](x))
    others = [torch.randn_like(parameter) for parameter in layers[0].parameters()]
    for layer in layers:
        for parameter, other in zip(layer.parameters(), others, strict=True):
            parameter.data = other.clone()
    got, expected = (run(layer, like(x, F32), None) for layer in layers)
    assert not same_outputs(got[0], before)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, F32)


def test_a_replaced_parameter_is_seen():
    expect_same_after(lambda layer: setattr(layer, "weight_hh_l0", nn.Parameter(torch.ones(16, 4))))


def test_an_optimizer_step_is_seen():
    def step(layer):
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        layer(torch.randn(5, 2, 3))[0].sum().backward()
        optimizer.step()

    expect_same_after(step)


def test_old_weight_norm_is_seen_and_stays_differentiable():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        fast, plain = Case().pair()
        for layer in (fast, plain):
            nn.utils.weight_norm(layer, "weight_hh_l0")
            layer.weight_hh_l0_g.data.mul_(2)
    x = torch.randn(5, 2, 3)
    for g, e in zip(run(fast, x, None), run(plain, x, None), strict=True):
        assert_same(g, e, F32)
    nn.utils.remove_weight_norm(fast, "weight_hh_l0")
    assert_same(flat(fast(x)), flat(plain(x)), F32)


def test_new_weight_norm_is_seen_and_stays_differentiable():
    def change(layer):
        parametrizations.weight_norm(layer, "weight_hh_l0")
        layer.parametrizations.weight_hh_l0.original0.data.mul_(2)

    fast, plain = Case().pair()
    x = torch.randn(5, 2, 3)
    change(fast)
    change(plain)
    # torch's layer caches what the parametrization made of the weight, so it gets it by hand.
    expected = Case().build(nn)
    expected.load_state_dict({name: getattr(fast, name) for name in expected.state_dict()})
    assert_same(flat(fast(x)), flat(expected(x)), F32)
    run(fast, x, None)
    fast.zero_grad()
    fast(x)[0].sum().backward()
    assert fast.parametrizations.weight_hh_l0.original0.grad.any()


@pytest.mark.parametrize("kind", CELLS)
def test_a_parametrized_cell_computes_with_the_parametrized_weight(kind):
    fast, plain = twins(kind)
    x = torch.randn(2, 3)
    for cell in (fast, plain):
        parametrizations.weight_norm(cell, "weight_hh")
        cell.parametrizations.weight_hh.original0.data.mul_(2)
    hx = cell_state(kind, 2)
    assert_same(flat(fast(x, hx)), flat(plain(x, hx)), F32)


def test_a_parametrization_is_seen_and_its_removal_too():
    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = fastrnn.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    before = layer(x)
    parametrize.register_parametrization(layer, "weight_hh_l0", Double())
    doubled = layer(x)
    assert not same_outputs(doubled, before)
    with parametrize.cached():
        assert same_outputs(layer(x), doubled)
    assert same_outputs(copy.deepcopy(layer)(x), doubled)
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=False)
    assert type(layer) is fastrnn.GRU
    assert same_outputs(layer(x), before)


def test_spectral_norm_is_seen():
    fast, _ = Case().pair()
    x = torch.randn(5, 2, 3)
    before = fast(x)
    nn.utils.spectral_norm(fast, "weight_hh_l0")
    assert not same_outputs(fast(x), before)


def test_pruning_is_seen():
    mask = torch.zeros(16, 4)
    layer = fastrnn.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    pruned = copy.deepcopy(layer)
    prune.custom_from_mask(pruned, "weight_hh_l0", mask)
    layer.weight_hh_l0.data.zero_()
    assert same_outputs(pruned(x), layer(x))
    prune.remove(pruned, "weight_hh_l0")
    assert same_outputs(pruned(x), layer(x))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_functional_call_computes_with_the_weights_that_it_is_given(kind):
    layer, other = (getattr(fastrnn, kind)(3, 4) for _ in range(2))
    x = torch.randn(2, 3)
    weights = {n: p.detach().requires_grad_() for n, p in other.named_parameters()}
    got = torch.func.functional_call(layer, weights, (x,))
    assert same_outputs(got, other(x))
    assert not same_outputs(got, layer(x))
    sum(y.sum() for y in flat(got)).backward()
    assert all(w.grad is not None for w in weights.values())


def test_weights_dropped_by_hand_in_the_way_of_awd_lstm_are_seen():
    class WeightDrop(nn.Module):
        def __init__(self, rnn):
            super().__init__()
            self.rnn = rnn
            raw = rnn.weight_hh_l0
            del rnn.weight_hh_l0
            self.raw = nn.Parameter(raw.detach().clone())
            rnn.weight_hh_l0 = self.raw.clone()

        def forward(self, x):
            self.rnn.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training)
            return self.rnn(x)

    model = WeightDrop(fastrnn.LSTM(3, 4))
    x = torch.randn(5, 2, 3)
    model(x)[0].sum().backward()
    assert model.raw.grad.any()
    first, second = model(x), model(x)
    assert not same_outputs(first, second)


def test_a_deleted_weight_is_an_error_and_not_a_stale_weight():
    layer = fastrnn.LSTM(3, 4)
    del layer.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        layer(torch.randn(5, 2, 3))
