"""A layer of any cell computes what the cell's own methods do, a step after the other in a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import assert_same, flat, like, same_outputs
from finite_differences import assert_second_derivatives
from program_cells import ZOO, Loop, inputs_of, layer_of, results, states_of
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn
from fastrnn._autograd import eager
from fastrnn._engine import backends, native

T, B = 5, 3
LENGTHS = (3, 0, 5)


def leaves(value: Any) -> Any:
    return like(value, torch.float64)


def assert_is_the_loop(layer: Any, hx: Any = None, steps: int = T, **keywords: Any) -> None:
    x = leaves(torch.randn(steps, B, 3, dtype=torch.float64))
    inputs = {name: leaves(value) for name, value in inputs_of(layer, steps, B).items()}
    got, expected = (
        results(way, x, leaves(hx), **inputs, **keywords) for way in (layer, Loop(layer))
    )
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, torch.float64)


@pytest.mark.parametrize("name", ZOO)
def test_every_cell_is_what_its_methods_compute(name: str, each_engine: str) -> None:
    layer = layer_of(name)
    assert_is_the_loop(layer)
    assert_is_the_loop(layer, states_of(layer, B), return_states=True)


@pytest.mark.parametrize("name", ZOO)
def test_a_sequence_may_have_a_single_step(name: str, each_engine: str) -> None:
    layer = layer_of(name, num_layers=2)
    assert_is_the_loop(layer, steps=1)
    assert_is_the_loop(layer, states_of(layer, B), steps=1)


@pytest.mark.parametrize("name", ZOO)
def test_stacks_in_both_directions_with_lengths_and_resets(name: str, each_engine: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    resets = torch.rand(T, B) < 0.4
    ways: tuple[dict[str, Any], ...] = (
        {"lengths": torch.tensor(LENGTHS)},
        {"resets": resets},
        {"lengths": torch.tensor(LENGTHS), "resets": resets, "return_states": True},
    )
    for keywords in ways:
        assert_is_the_loop(layer, states_of(layer, B), **keywords)
    assert_is_the_loop(layer, None, **ways[-1])


@pytest.mark.parametrize("name", ZOO)
def test_every_road_leads_to_the_same(name: str, each_long_road: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    keywords = {"lengths": torch.tensor(LENGTHS), "resets": torch.rand(T, B) < 0.4}
    assert_is_the_loop(layer, states_of(layer, B), return_states=True, **keywords)


@pytest.mark.parametrize("name", ZOO)
def test_float32_is_as_near_as_it_can_be(name: str, each_engine: str) -> None:
    layer = layer_of(name, dtype=torch.float32, num_layers=2)
    exact = layer_of(name, num_layers=2)
    exact.load_state_dict(layer.state_dict())
    x, inputs = torch.randn(T, B, 3), inputs_of(layer, T, B, dtype=torch.float32)
    got = results(layer, like(x, torch.float32), None, **inputs)
    wide = {name: value.double() for name, value in inputs.items()}
    expected = results(Loop(exact), leaves(x), None, **wide)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, torch.float32)


@pytest.mark.parametrize("name", ["sLSTM", "output", "inputs and vectors", "chained"])
@pytest.mark.parametrize("sorts", [True, False])
def test_a_packed_batch_is_one_with_lengths(name: str, sorts: bool, each_engine: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    lengths = torch.tensor([5, 3, 1] if sorts else [3, 1, 5])
    hx, x = states_of(layer, B), torch.randn(T, B, 3, dtype=torch.float64)
    inputs = inputs_of(layer, T, B)

    def packed(value: Tensor) -> PackedSequence:
        return pack_padded_sequence(value, lengths, enforce_sorted=sorts)

    expected = layer(x, hx, lengths=lengths, return_states=True, **inputs)
    y, *states = layer(
        packed(x), hx, return_states=True, **{name: packed(v) for name, v in inputs.items()}
    )
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    assert_same(flat(padded, states), flat(expected), torch.float64)


@pytest.mark.parametrize("name", ZOO)
def test_batch_first_and_a_single_sequence(name: str, each_engine: str) -> None:
    layer = layer_of(name, bidirectional=True)
    first = layer_of(name, bidirectional=True, batch_first=True)
    first.load_state_dict(layer.state_dict())
    x, inputs = torch.randn(T, B, 3, dtype=torch.float64), inputs_of(layer, T, B)
    hx, resets = states_of(layer, B), torch.rand(T, B) < 0.3
    y, *states = layer(x, hx, resets=resets, return_states=True, **inputs)
    swapped = {name: value.transpose(0, 1) for name, value in inputs.items()}
    turned, *others = first(x.transpose(0, 1), hx, resets=resets.t(), return_states=True, **swapped)
    assert same_outputs([turned.transpose(0, 1), others], [y, states])
    row = {name: value[:, 1] for name, value in inputs.items()}
    own = hx[:, 1] if isinstance(hx, Tensor) else tuple(state[:, 1] for state in hx)
    alone, *others = first(x[:, 1], own, resets=resets[:, 1], return_states=True, **row)
    expected = [y[:, 1], *(one.select(-2, 1) for one in flat(states))]
    assert_same([alone, *flat(others)], expected, torch.float64)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bias", [True, False])
def test_torchs_layers_as_cells_are_torchs_layers(kind: str, bias: bool, each_engine: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "bias": bias, "dropout": 0.4}
    torch.manual_seed(3)
    layer = layer_of(kind, **options)
    torch.manual_seed(3)
    plain = getattr(torch.nn, kind)(3, 4, dtype=torch.float64, **options)
    for (name, ours), (theirs, own) in zip(
        layer.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert name == theirs
        assert torch.equal(ours, own)
    plain.cell = layer.cell  # for `results`
    x, hx = torch.randn(T, B, 3), states_of(layer, B)
    got, expected = (results(each, leaves(x), leaves(hx)) for each in (layer, plain))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, torch.float64)


@pytest.mark.parametrize("name", ZOO)
def test_second_derivatives(name: str, each_long_road: str) -> None:
    # Blocks have two units each.
    sizes = (1, 4 if name in ("sLSTM", "heads") else 3)
    layer = layer_of(name, sizes)
    inputs = {name: value.requires_grad_() for name, value in inputs_of(layer, 2, 2).items()}
    x = torch.randn(2, 2, 1, dtype=torch.float64, requires_grad=True)
    parameters = dict(layer.named_parameters())

    def call(x: Tensor, *values: Tensor) -> Any:
        own = dict(zip(parameters, values, strict=False))
        more = dict(zip(inputs, values[len(own) :], strict=True))
        return torch.func.functional_call(layer, own, (x,), more)[0]

    assert_second_derivatives(call, x, *parameters.values(), *inputs.values())


class Counts(fastrnn.Cell):
    """A state that nothing learned goes into."""

    gates = "n"
    states = "h t"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.n + u.n) / (s.t + 1), "t": s.t + 1}


@pytest.mark.parametrize("steps", [1, 3])
def test_derivatives_pass_by_a_state_that_depends_on_nothing(steps: int, each_engine: str) -> None:
    layer = fastrnn.Recurrent(Counts, 2, 3, dtype=torch.float64)
    x = leaves(torch.randn(steps, B, 2, dtype=torch.float64))
    y, (_, t) = layer(x)
    assert (t == steps).all()
    (of_both,) = torch.autograd.grad(y.sum() + t.sum(), x, create_graph=True)
    (of_y,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    for first, second in zip(
        (of_both, *torch.autograd.grad(of_both.square().sum(), layer.parameters())),
        (of_y, *torch.autograd.grad(of_y.square().sum(), layer.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(first, second)


def test_derivatives_of_what_depends_on_nothing_are_zero() -> None:
    layer, x = fastrnn.Recurrent(Counts, 2, 3), torch.randn(4, B, 2, requires_grad=True)
    _, (_, t) = layer(x)
    (none,) = torch.autograd.grad(t.sum(), x, create_graph=True)
    assert not none.any()


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("with_state", [True, False])
def test_a_single_step_is_one_of_the_loop(name: str, with_state: bool, each_engine: str) -> None:
    cell, options = ZOO[name]
    one = fastrnn.RecurrentCell(cell, 3, 4, dtype=torch.float64, **options)
    layer = layer_of(name)
    layer.load_state_dict({f"{name}_l0": value for name, value in one.state_dict().items()})
    x, inputs = torch.randn(1, B, 3, dtype=torch.float64), inputs_of(layer, 1, B)
    hx = states_of(layer, B) if with_state else None
    y, states = Loop(layer)(x, hx, **inputs)
    own = None if hx is None else tuple(state[0] for state in flat(hx))
    row = {name: value[0] for name, value in inputs.items()}
    returned = one(x[0], own[0] if own and len(own) == 1 else own, **row)
    expected = [state[0] for state in flat(states)]
    if hasattr(layer.cell, "output"):
        expected.insert(0, y[0])
    assert_same(flat(returned), expected, torch.float64)
    alone = one(
        x[0, 1],
        None if own is None else own[0][1] if len(own) == 1 else tuple(state[1] for state in own),
        **{k: v[1] for k, v in row.items()},
    )
    assert_same(flat(alone), [each[1] for each in expected], torch.float64)


@pytest.mark.skipif(native.tensors() is None, reason="this torch has no short way")
@pytest.mark.parametrize("name", ZOO)
def test_a_plain_call_takes_the_short_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a plain call went the long way")

    layer = layer_of(name, num_layers=2, bidirectional=True)
    inputs, hx = inputs_of(layer, T, B), states_of(layer, B)
    x = torch.randn(T, B, 3, dtype=torch.float64, requires_grad=True)
    wanted = [x, *layer.parameters(), *(each for each in inputs.values() if each.requires_grad)]

    def computed() -> list[Tensor]:
        outputs = flat(layer(x, hx, **inputs))
        factors = [torch.linspace(-1, 1, one.numel()).view_as(one).to(one) for one in outputs]
        return outputs + list(torch.autograd.grad(outputs, wanted, factors, materialize_grads=True))

    with backends.using("cpu"):  # which knows no short way
        expected = computed()
    monkeypatch.setattr(eager, "run", refuse)
    for got, right in zip(computed(), expected, strict=True):
        assert torch.equal(got, right)
