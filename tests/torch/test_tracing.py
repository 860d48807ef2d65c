"""torch.jit.trace and torch.fx, whose graphs run for inputs of other sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of, twins

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

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
            return self.layer(x, lengths=lengths, return_states=True)

    model = Model()
    x, lengths = input_of("LSTM"), torch.tensor([2, 0])
    graph = torch.fx.symbolic_trace(model)
    for got, expected in zip(flat(graph(x, lengths)), flat(model(x, lengths)), strict=True):
        assert torch.equal(got, expected)
