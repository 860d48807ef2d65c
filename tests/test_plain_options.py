"""An option that says what torch's layer does anyway makes torch's layer, and no variant."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from cases import flat, input_of
from onnx import helper, numpy_helper

import fastrnn
from fastrnn import functional

OF_ALL = [{"activation": "tanh"}, {"activation": None}, {"cell_clip": None}]
OF_GATED = [{"recurrent_activation": "sigmoid"}, {"recurrent_activation": None}]
OF_LSTM = [
    {"peephole": ""},
    {"peephole": None},
    {"input_forget": False},
    {"output_activation": "tanh"},
    {"activation": "tanh", "output_activation": None},
    {"forget_bias": None},
]
OF_LAYERS = [{"reverse": False}]
OF_GRU = [{"reset_after": True}]
PLAIN = {
    "LSTM": OF_ALL + OF_GATED + OF_LSTM + OF_LAYERS,
    "GRU": OF_ALL + OF_GATED + OF_GRU + OF_LAYERS,
    "RNN": OF_ALL + OF_LAYERS,
    "LSTMCell": OF_ALL + OF_GATED + OF_LSTM,
    "GRUCell": OF_ALL + OF_GATED + OF_GRU,
    "RNNCell": OF_ALL,
}
CASES = [(kind, options) for kind, all_of_it in PLAIN.items() for options in all_of_it]


def assert_is_torchs(layer, plain):
    """A plain layer: it prints, computes and reverts as torch's of the same sizes does."""
    assert layer.variant is None
    assert repr(layer) == repr(plain)
    plain.load_state_dict(layer.state_dict())
    x = input_of(type(layer).__name__)
    for got, expected in zip(flat(layer(x)), flat(plain(x)), strict=True):
        torch.testing.assert_close(got, expected)
    assert type(fastrnn.revert(layer)) is type(plain)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_default_written_out_is_the_default(kind, options):
    assert_is_torchs(getattr(fastrnn, kind)(3, 4, **options), getattr(torch.nn, kind)(3, 4))


@pytest.mark.parametrize("kind", PLAIN)
def test_all_defaults_at_once_are_the_default(kind):
    options = {}
    for one in PLAIN[kind]:
        options |= {name: value for name, value in one.items() if value is not None}
    assert_is_torchs(getattr(fastrnn, kind)(3, 4, **options), getattr(torch.nn, kind)(3, 4))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("positional", [(), (1, "relu"), (1, "tanh", False)], ids=str)
def test_the_activation_of_an_rnn_is_its_nonlinearity_where_torch_has_it(positional, activation):
    layer = fastrnn.RNN(3, 4, *positional, activation=activation)
    bias = len(positional) < 3
    assert_is_torchs(layer, torch.nn.RNN(3, 4, nonlinearity=activation, bias=bias))
    cell = fastrnn.RNNCell(3, 4, *[bias, *positional[1:2]], activation=activation)
    assert_is_torchs(cell, torch.nn.RNNCell(3, 4, bias, activation))


def test_functions_know_the_nonlinearity_under_both_names():
    plain, x = torch.nn.RNN(3, 4, nonlinearity="relu"), torch.randn(5, 2, 3)
    weights = list(plain.parameters())
    for options in ({"activation": "relu"}, {"nonlinearity": "tanh", "activation": "relu"}):
        torch.testing.assert_close(functional.rnn(x, None, weights, **options)[0], plain(x)[0])
        step = functional.rnn_cell(x[0], None, *weights, **options)
        torch.testing.assert_close(step, plain(x[:1])[0][0])


def test_what_is_no_default_stays_a_variant():
    for kind, options in (
        ("LSTM", {"activation": "relu", "output_activation": "tanh"}),
        ("LSTM", {"activation": "tanh", "output_activation": "relu"}),
        ("LSTM", {"activation": "tanh", "cell_clip": 1.0}),
        ("GRU", {"activation": "relu"}),
        ("RNN", {"activation": "elu"}),
        ("RNN", {"activation": "relu", "reverse": True}),
    ):
        assert getattr(fastrnn, kind)(3, 4, **options).variant is not None


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_node_of_onnx_with_default_attributes_is_torchs_layer(kind, gates):
    shapes = {"W": (1, gates * 4, 3), "R": (1, gates * 4, 4), "B": (1, gates * 8)}
    weights = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in shapes.items()]
    before_reset = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["X", *shapes], ["Y"], hidden_size=4, **before_reset)
    x = helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["T", 1, 3])
    graph = helper.make_graph([node], "g", [x], [helper.make_empty_tensor_value_info("Y")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    assert_is_torchs(fastrnn.from_onnx(model), getattr(torch.nn, kind)(3, 4))
