"""torch.jit.trace and torch.fx, whose graphs run for inputs of other sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, Case, assert_same, flat, input_of, twins
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn

pytestmark = [  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean"),
]


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_traced_layer_computes_what_it_is_given_and_no_constant(
    kind: str, with_gradients: bool
) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    steps, more_steps = ((5,), (7,)) if kind in LAYERS else ((), ())
    with torch.set_grad_enabled(with_gradients):
        traced = torch.jit.trace(layer, torch.randn(*steps, 2, 3))
        x = torch.randn(*more_steps, 4, 3)
        got, expected = flat(traced(x)), flat(layer(x))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)
    if with_gradients:
        parameters = list(layer.parameters())
        wanted = torch.autograd.grad(expected[0].sum(), parameters)
        for g, w in zip(torch.autograd.grad(got[0].sum(), parameters), wanted, strict=True):
            torch.testing.assert_close(g, w)


class Packing(torch.nn.Module):
    """A model that packs what it is given."""

    def __init__(self, layer: torch.nn.Module, *, enforce_sorted: bool, with_state: bool) -> None:
        super().__init__()
        self.layer, self.enforce_sorted, self.with_state = layer, enforce_sorted, with_state

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=self.enforce_sorted)
        h = x.new_ones(2, x.shape[1], 4)
        hx = (h, h) if isinstance(self.layer, torch.nn.LSTM) else h
        y, *others = self.layer(packed, hx if self.with_state else None)
        return pad_packed_sequence(y)[0], *flat(others)


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python integer")
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_traced_model_that_packs_takes_batches_of_any_size(
    kind: str, enforce_sorted: bool, with_state: bool
) -> None:
    fast, plain = twins(kind, num_layers=2, dropout=0.5)
    first = torch.randn(5, 3, 3), torch.tensor([5, 4, 2])
    others = ((7, [7, 6, 2, 1]), (3, [3])) if enforce_sorted else ((7, [2, 7, 1, 6]), (3, [3]))
    traced, model = (
        Packing(layer, enforce_sorted=enforce_sorted, with_state=with_state)
        for layer in (fast, plain)
    )
    traced = torch.jit.trace(traced, first, check_trace=False)
    for steps, lengths in others:
        x = torch.randn(steps, len(lengths), 3)
        runs = []
        for each, layer in ((traced, fast), (model, plain)):
            torch.manual_seed(4)  # dropout
            outputs = each(x, torch.tensor(lengths))
            loss = sum(y.square().sum() for y in outputs)
            runs.append([*outputs, *torch.autograd.grad(loss, list(layer.parameters()))])
        assert_same(*runs, Case(kind, num_layers=2, lengths=(steps, *lengths)))


@pytest.mark.parametrize("kind", CELLS)
def test_a_traced_cell_knows_the_shapes_of_other_batches(kind: str) -> None:
    traced = torch.jit.trace(getattr(fastrnn, kind)(3, 4), torch.randn(2, 3))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        states = flat(traced(mode.from_tensor(torch.randn(5, 3))))
    assert {state.shape for state in states} == {(5, 4)}


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_layer_is_one_node_of_a_symbolic_trace_as_torch_s_is(kind: str) -> None:
    for layer in twins(kind):
        model = torch.nn.Sequential(layer)
        graph = torch.fx.symbolic_trace(model)
        assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]
        x = input_of(kind)
        for got, expected in zip(flat(graph(x)), flat(model(x)), strict=True):
            assert torch.equal(got, expected)


def test_keywords_are_kept_in_a_symbolic_trace() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = fastrnn.LSTM(3, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Any:
            return self.layer(x, lengths=lengths, return_states=True)

    model = Model()
    x, lengths = input_of("LSTM"), torch.tensor([2, 0])
    graph = torch.fx.symbolic_trace(model)
    for got, expected in zip(flat(graph(x, lengths)), flat(model(x, lengths)), strict=True):
        assert torch.equal(got, expected)
