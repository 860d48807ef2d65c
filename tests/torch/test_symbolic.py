"""torch.fx.symbolic_trace: whatever of a call is a proxy, it is one node."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of, twins
from torch import nn

import fastrnn
from fastrnn import functional

KINDS = [*LAYERS, *CELLS]


class Calls(nn.Module):
    """A model that calls its layer as ``call`` says."""

    def __init__(self, layer: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.call = call

    def forward(self, value):  # annotations that are strings keep torch from pickling a graph
        return self.call(self.layer, value)


def traced(model: nn.Module, value: Any) -> list[str]:
    """The operations of the graph of a model, which has to compute what the model does."""
    graph = torch.fx.symbolic_trace(model)
    expected = flat(model(value))
    for one in (graph, copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        for got, wanted in zip(flat(one(value)), expected, strict=True):
            assert torch.equal(got, wanted)
    nodes = [node for node in graph.graph.nodes if node.op.startswith("call_")]
    return [node.op for node in nodes if node.target is not operator.getitem]


def state_of(kind: str) -> torch.Tensor:
    return torch.randn((1, 2, 4) if kind in LAYERS else (2, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_a_tensor_and_the_state_a_proxy(kind: str) -> None:
    x, h = input_of(kind), state_of(kind)

    def call(layer: Any, state: Any) -> Any:
        return layer(x, (state, state) if kind.startswith("LSTM") else state)

    for layer in twins(kind):
        assert traced(Calls(layer, call), h) == ["call_module"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_no_node_of_its_own_graph(kind: str) -> None:
    class Derived(getattr(fastrnn, kind)):  # type: ignore[misc]
        def forward(self, value: Any) -> Any:
            return super().forward(2 * value)

    expected = "symbolically traced variables cannot be used as inputs to control flow"
    for layer in (*twins(kind), Derived(3, 4)):
        with pytest.raises(torch.fx.proxy.TraceError, match=expected):
            torch.fx.symbolic_trace(layer)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_one_state_of_a_pair_a_proxy(kind: str) -> None:
    x, zeros = input_of(kind), torch.zeros_like(state_of(kind))
    for layer in twins(kind):
        model = Calls(layer, lambda layer, c: layer(x, hx=(zeros, c)))
        assert traced(model, state_of(kind)) == ["call_module"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_with_constants_is_a_node_and_sees_later_weights(kind: str) -> None:
    x, y = input_of(kind), torch.ones(1)
    for layer in twins(kind):
        graph = torch.fx.symbolic_trace(Calls(layer, lambda layer, y: (layer(x), y)))
        with torch.no_grad():
            layer.get_parameter("weight_hh_l0" if kind in LAYERS else "weight_hh").mul_(2)
            layer.get_parameter("bias_hh_l0" if kind in LAYERS else "bias_hh").add_(1)
        for got, expected in zip(flat(graph(y)[0]), flat(layer(x)), strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize("name", ["lengths", "resets"])
def test_a_keyword_alone_a_proxy(name: str) -> None:
    x = input_of("GRU")
    value = torch.tensor([5, 2]) if name == "lengths" else torch.rand(5, 2) < 0.5
    model = Calls(fastrnn.GRU(3, 4), lambda layer, v: layer(x, return_states=True, **{name: v}))
    assert traced(model, value) == ["call_module"]


def test_a_packed_sequence_of_proxies() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(3, 3), torch.randn(1, 3)])

    def call(layer: Any, data: Any) -> Any:
        return layer(nn.utils.rnn.PackedSequence(data, packed.batch_sizes))[1]

    for layer in twins("GRU"):
        assert traced(Calls(layer, call), packed.data) == ["call_function", "call_module"]


class Doubled(nn.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(2 * input, hx)


class DoubledFast(fastrnn.GRU):
    def forward(self, input: Any, hx: Any = None) -> Any:  # type: ignore[override]
        return super().forward(2 * input, hx)


class DoubledCell(nn.GRUCell):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(2 * input, hx)


@pytest.mark.parametrize("own", [Doubled, DoubledFast, DoubledCell])
def test_what_a_derived_class_adds_is_computed_once(own: type[nn.Module]) -> None:
    layer = fastrnn.convert(own(3, 4), subclasses=True)
    x = torch.randn((2, 3) if own is DoubledCell else (5, 2, 3))
    model = Calls(layer, lambda layer, x: layer(x))
    assert traced(model, x) == ["call_function", "call_method"]


def weights_of(layer: Any) -> list[torch.Tensor]:
    return [p.detach() for p in layer.parameters()]


@pytest.mark.parametrize("proxy", ["input", "state", "weight"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_is_one_node(kind: str, proxy: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    names = {"LSTMCell": "lstm_cell", "GRUCell": "gru_cell", "RNNCell": "rnn_cell"}
    function = getattr(functional, names.get(kind, kind.lower()))
    w_ih, *others = weights_of(layer)
    x, h = input_of(kind), state_of(kind)
    given = {"input": x, "state": h, "weight": w_ih}

    def call(_: Any, value: Any) -> Any:
        now = {**given, proxy: value}
        state = now["state"]
        hx = (state, state) if kind.startswith("LSTM") else state
        weights = [now["weight"], *others]
        if kind in LAYERS:
            return function(now["input"], hx, weights)
        return function(now["input"], hx, *weights)

    assert traced(Calls(nn.Identity(), call), given[proxy]) == ["call_function"]
