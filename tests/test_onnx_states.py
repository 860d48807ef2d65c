"""What surrounds the weights of ONNX nodes: initial states, lengths, and nodes upon nodes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cases import assert_near, flat
from exported import Exported, Together
from onnx import TensorProto, helper, numpy_helper
from onnx_models import (
    GATES,
    B,
    H,
    I,
    T,
    in_onnx_runtime,
    model_around,
    model_of,
    outputs_as_in_onnx,
    random,
    weights_of,
)
from torch import Tensor
from torch.export import Dim

import fastrnn

X = random(T, B, I)
KINDS = list(GATES)


def assert_computes(layer: Any, model: onnx.ModelProto, **keywords: Any) -> None:
    got = outputs_as_in_onnx(layer, X, **keywords)
    for g, e in zip(got, in_onnx_runtime(model, X=X), strict=True):
        assert_near(g, e, I + H, T)


def with_states(kind: str, directions: int, rows: int, **states: np.ndarray) -> onnx.ModelProto:
    """A node with constant initial states of so many rows, random ones if not given."""
    names = ("initial_h", "initial_c")[: 2 if kind == "LSTM" else 1]
    drawn = {name: random(directions, rows, H) + place for place, name in enumerate(names)}
    attributes = {"hidden_size": H, "direction": ["forward", "bidirectional"][directions - 1]}
    return model_of(kind, attributes, weights_of(kind, directions, True, False) | drawn | states)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_states_are_kept_of_each_row(kind: str, directions: int) -> None:
    model = with_states(kind, directions, B)
    layer = fastrnn.from_onnx(model)
    assert layer.h_0.shape == (directions, B, H)
    assert_computes(layer, model)
    with pytest.raises(RuntimeError):  # the node's states are those of B sequences
        layer(torch.randn(T, B + 1, I))


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_equal_rows_serve_any_batch(kind: str) -> None:
    one = {"initial_h": random(2, 1, H).repeat(B, 1)}
    if kind == "LSTM":
        one["initial_c"] = 2 * one["initial_h"]
    model = with_states(kind, 2, B, **one)
    layer = fastrnn.from_onnx(model)
    assert layer.h_0.shape == (2, 1, H)
    assert_computes(layer, model)
    assert layer(torch.randn(T, 7, I))[0].shape == (T, 7, 2 * H)


def test_zeros_are_silent_and_one_state_of_two_may_be() -> None:
    zeros = np.zeros((1, B, H), np.float32)
    model = with_states("LSTM", 1, B, initial_h=zeros, initial_c=zeros)
    assert not fastrnn.from_onnx(model).initial_state
    model = with_states("LSTM", 1, B, initial_h=zeros)
    layer = fastrnn.from_onnx(model)
    assert not layer.h_0.any()
    assert_computes(layer, model)


def test_with_layout_1_states_have_the_batch_first() -> None:
    states = {"initial_h": random(B, 1, H)}
    attributes = {"hidden_size": H, "layout": 1}
    layer = fastrnn.from_onnx(
        model_of("GRU", attributes, weights_of("GRU", 1, True, False) | states)
    )
    assert layer.batch_first
    np.testing.assert_array_equal(layer.h_0.detach()[0], states["initial_h"][:, 0])


REPEATED = {
    "Expand": [helper.make_node("Expand", ["s", "size"], ["initial_h"])],
    "Tile": [helper.make_node("Tile", ["s", "times"], ["initial_h"])],
    "Slice of an Expand": [
        helper.make_node("Expand", ["all", "all_size"], ["expanded"]),
        helper.make_node("Slice", ["expanded", "i1", "i2", "i0"], ["initial_h"]),
    ],
    "vector": [
        helper.make_node("Expand", ["v", "size"], ["expanded"]),
        helper.make_node("Identity", ["expanded"], ["initial_h"]),
    ],
    "ConstantOfShape": [
        helper.make_node(
            "ConstantOfShape",
            ["size"],
            ["initial_h"],
            value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.7]),
        )
    ],
}


@pytest.mark.parametrize("how", REPEATED)
def test_states_repeated_for_a_batch_that_the_input_tells_are_constant(how: str) -> None:
    sizes = {"times": ["i1", "b", "i1"], "size": ["i1", "b", "h"], "all_size": ["i3", "b", "h"]}
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Slice", ["shape", "i1", "i2", "i0"], ["b"]),
        *(helper.make_node("Concat", parts, [name], axis=0) for name, parts in sizes.items()),
        *REPEATED[how],
        helper.make_node("GRU", ["X", "W", "R", "", "", "initial_h"], ["Y", "Y_h"], hidden_size=H),
    ]
    constants = {f"i{i}": np.array([i]) for i in range(4)} | {"h": np.array([H])}
    constants |= {"s": random(1, 1, H), "all": random(3, 1, H), "v": random(H)}
    constants |= weights_of("GRU", 1, False, False)
    model = model_around(nodes, constants, outputs=("Y", "Y_h"))
    layer = fastrnn.from_onnx(model)
    assert layer.h_0.shape == (1, 1, H)
    assert_computes(layer, model)


def test_states_that_the_model_takes_are_those_of_a_call() -> None:
    model = model_of(
        "GRU", {"hidden_size": H}, weights_of("GRU", 1, True, False), ("X", "initial_h")
    )
    layer, h = fastrnn.from_onnx(model), random(1, B, H)
    assert not layer.initial_state
    expected = in_onnx_runtime(model, X=X, initial_h=h)
    got = outputs_as_in_onnx(layer, X, hx=torch.from_numpy(h))
    assert_near(got[0], expected[0], I + H, T)


def with_lengths(lengths: list[int], steps: int | None) -> onnx.ModelProto:
    constants = weights_of("GRU", 1, True, False)
    constants["sequence_lens"] = np.array(lengths, np.int32)
    model = model_of("GRU", {"hidden_size": H}, constants)
    shape = [steps, None, I]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("X", TensorProto.FLOAT, shape))
    return model


def test_constant_lengths_that_are_full_say_nothing() -> None:
    model = with_lengths([T] * B, T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = fastrnn.from_onnx(model)
    assert_computes(layer, model)


@pytest.mark.parametrize(("lengths", "steps"), [([T, 2, 1], T), ([2, 2, 2], None)])
def test_other_constant_lengths_are_told_and_given_to_the_call(
    lengths: list[int], steps: int | None
) -> None:
    model = with_lengths(lengths, steps)
    with pytest.warns(
        UserWarning, match=rf"'the node' .*\[{lengths[0]}, .*give the layer lengths="
    ):
        layer = fastrnn.from_onnx(model)
    assert_computes(layer, model, lengths=lengths)


STACKS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"bidirectional": True, "initial_state": True}),
    ("LSTM", {"peephole": "iof", "cell_clip": 0.6}),
    ("GRU", {"bidirectional": True, "reset_after": False, "bias": False}),
    ("GRU", {"reverse": True, "initial_state": True}),
    ("RNN", {"nonlinearity": "relu", "initial_state": True}),
]


@pytest.fixture(scope="module")
def stacks() -> tuple[list[Any], onnx.ModelProto]:
    """Layers of three, and their export side by side, of any batch."""
    torch.manual_seed(0)
    model = Together([getattr(fastrnn, kind)(I, H, 3, **options) for kind, options in STACKS])
    for name, parameter in model.named_parameters():
        if name.endswith(("h_0", "c_0")):
            torch.nn.init.normal_(parameter)
    calls = [{"input": torch.from_numpy(X)}] * len(STACKS)
    sizes = ([{"input": {1: Dim("batch")}}] * len(STACKS),)
    return list(model.layers), Exported(model, calls, sizes=sizes).program.model_proto


@pytest.mark.filterwarnings("ignore")  # of torch's exporter and what it imports
@pytest.mark.parametrize(("kind", "options"), STACKS, ids=str)
def test_a_stack_comes_back_as_one_layer(
    kind: str, options: dict[str, Any], stacks: tuple[list[Any], onnx.ModelProto]
) -> None:
    layers, model = stacks
    number = STACKS.index((kind, options))
    layer = layers[number]
    back = fastrnn.from_onnx(model, nodes=range(3 * number, 3 * number + 3))
    assert back.num_layers == 3
    for batch in (B, 5):
        x = torch.randn(T, batch, I)
        for got, expected in zip(flat(back(x)), flat(layer(x)), strict=True):
            assert_near(got, expected, 2 * H + H, T * 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_stack_of_torchs_comes_back_as_one_layer(bidirectional: bool) -> None:
    plain = torch.nn.LSTM(I, H, 2, bidirectional=bidirectional).eval()
    x = torch.from_numpy(X)
    model = torch.onnx.export(plain, (x,), dynamo=True, verbose=False).model_proto
    back = fastrnn.from_onnx(model, nodes=[0, 1])
    assert_near(back(x)[0], plain(x)[0], 2 * H + H, T * 2)


def two_nodes(*between: onnx.NodeProto, **changes: Any) -> onnx.ModelProto:
    """A GRU "below", what lies between, from "Y" to "Z", and another "above" with changes."""
    constants = weights_of("GRU", 1, True, False)
    kind, features = changes.pop("kind", "GRU"), changes.pop("features", H)
    attributes = {"hidden_size": H} | changes
    constants |= {"axis": np.array([1]), "U": random(1, GATES[kind] * H, features)}
    constants |= {f"{name}2": array for name, array in weights_of(kind, 1, True, False).items()}
    nodes = [
        helper.make_node("GRU", ["X", "W", "R", "B"], ["Y", "Y_h"], name="below", hidden_size=H),
        *between,
        helper.make_node(kind, ["Z", "U", "R2", "B2"], ["Y2"], name="above", **attributes),
    ]
    return model_around(nodes, constants, outputs=["Y2"])


SQUEEZE = helper.make_node("Squeeze", ["Y", "axis"], ["Z"])


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (two_nodes(SQUEEZE, kind="LSTM"), "operator='LSTM'.* in LSTM node 'above' after operator="),
        (two_nodes(SQUEEZE, linear_before_reset=1), "reset_after=True.*after reset_after=False"),
        (two_nodes(SQUEEZE, direction="reverse"), "reverse=True.*after reverse=False"),
        (two_nodes(SQUEEZE, features=H + 1), f"{H} features into .*, got {H + 1}"),
        (
            two_nodes(
                helper.make_node("Squeeze", ["Y", "axis"], ["S"]),
                helper.make_node("Tanh", ["S"], ["Z"]),
            ),
            "nothing between, got 'Z'",
        ),
        (two_nodes(helper.make_node("Identity", ["X"], ["Z"])), "nothing between, got 'Z'"),
    ],
    ids=["operator", "option", "direction", "features", "something between", "side by side"],
)
def test_nodes_that_are_no_stack_are_refused_by_name(model: onnx.ModelProto, part: str) -> None:
    with pytest.raises(ValueError, match=f"nodes: expected .*{part}"):
        fastrnn.from_onnx(model, nodes=["below", "above"])


def test_nodes_in_the_wrong_order_are_refused() -> None:
    model = two_nodes(SQUEEZE)
    with pytest.raises(ValueError, match=r"into GRU node 'below'.*'above', got 2"):
        fastrnn.from_onnx(model, nodes=["above", "below"])
    for node, nodes in ((None, []), (0, [1]), (None, "below")):
        with pytest.raises(ValueError, match="nodes: expected a sequence and no node"):
            fastrnn.from_onnx(model, node, nodes=nodes)


def test_a_stack_with_the_batch_first_is_one_too() -> None:
    """Which ONNX Runtime does not run: Y is [B, T, D, H] with layout 1."""
    constants, nodes = {"joined": np.array([0, 0, -1])}, []
    for place, features in ((0, I), (1, 2 * H)):
        weights = weights_of("GRU", 2, False, False) | {"W": random(2, 3 * H, features)}
        constants |= {f"{name}{place}": array for name, array in weights.items()}
        inputs = [["X", "Z"][place], f"W{place}", f"R{place}"]
        attributes = {"hidden_size": H, "layout": 1, "direction": "bidirectional"}
        nodes.append(helper.make_node("GRU", inputs, [f"Y{place}"], **attributes))
    nodes.insert(1, helper.make_node("Reshape", ["Y0", "joined"], ["Z"]))
    model = model_around(nodes, constants, outputs=["Y1"])
    layer, x = fastrnn.from_onnx(model, nodes=["Y0", "Y1"]), torch.from_numpy(X)
    one_by_one = fastrnn.from_onnx(model, "Y1")(fastrnn.from_onnx(model, "Y0")(x)[0])[0]
    torch.testing.assert_close(layer(x)[0], one_by_one)


def test_a_stack_with_states_in_one_layer_only_has_zeros_in_the_other() -> None:
    model = two_nodes(SQUEEZE)
    above = model.graph.node[-1]
    above.input.extend(["", "h"])
    model.graph.initializer.append(numpy_helper.from_array(random(1, 1, H).repeat(B, 1), "h"))
    layer = fastrnn.from_onnx(model, nodes=["below", "above"])
    assert layer.h_0.shape == (2, 1, H)
    assert not layer.h_0[0].any()
    y: Tensor = layer(torch.from_numpy(X))[0]
    expected = in_onnx_runtime(model, X=X)[0][:, 0]
    assert_near(y, expected, H + H, T * 2)
