"""Recurrent nodes wherever they are in a model, and constants wherever they come from."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cases import assert_near
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

import fastrnn

X = random(T, B, I)
EMPTY = helper.make_empty_tensor_value_info


def layer_node(kind: str = "LSTM", name: str = "", y: str = "Y", **more: Any) -> onnx.NodeProto:
    inputs = [more.pop(place, place) for place in ("X", "W", "R")]
    return helper.make_node(kind, inputs, [y], name=name, hidden_size=H, **more)


def assert_computes(layer: Any, model: onnx.ModelProto, **feeds: np.ndarray) -> None:
    got, *_ = outputs_as_in_onnx(layer, feeds["X"])
    assert_near(got, in_onnx_runtime(model, **feeds)[0], I + H, T)


def body(nodes: list[onnx.NodeProto], y: str, inputs: tuple[str, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", [EMPTY(name) for name in inputs], [EMPTY(y)])


def branching() -> onnx.ModelProto:
    """If the input's sum is above 0 a GRU of R, and otherwise one of -R, computed in its branch."""
    negative = helper.make_node("Neg", ["R"], ["-R"])
    then = body([layer_node("GRU", "gru", "then")], "then")
    otherwise = body([negative, layer_node("GRU", "gru", "else", R="-R")], "else")
    nodes = [
        helper.make_node("ReduceSum", ["X"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["Y"], name="if", then_branch=then, else_branch=otherwise
        ),
    ]
    constants = weights_of("GRU", 1, False, False) | {"zero": np.zeros((), np.float32)}
    return model_around(nodes, constants)


@pytest.mark.parametrize(
    ("node", "sign"), [("if/then_branch/gru", 1), ("else", -1), (0, -1), (1, 1)]
)
def test_nodes_in_branches_are_found_by_path_output_and_place(node: Any, sign: int) -> None:
    layer = fastrnn.from_onnx(branching(), node)
    assert_computes(layer, branching(), X=sign * np.abs(X))


def test_one_name_in_two_branches_is_not_enough() -> None:
    listed = r"are 0 'if/else_branch/gru' \(GRU\); 1 'if/then_branch/gru' \(GRU\)"
    for node in ("gru", None):
        with pytest.raises(ValueError, match=listed):
            fastrnn.from_onnx(branching(), node)


def test_a_node_in_the_body_of_a_loop_takes_weights_from_outside() -> None:
    turn = [helper.make_node("Identity", ["go"], ["on"]), layer_node(X="state", y="y")]
    loop = body(turn, "on", ("i", "go", "state"))
    loop.output.append(EMPTY("y"))
    model = model_around(
        [helper.make_node("Loop", ["one", "", "X"], ["Y"], name="loop", body=loop)],
        weights_of("LSTM", 1, False, False) | {"one": np.array(1)},
    )
    layer = fastrnn.from_onnx(model, "loop/body/y")
    plain = fastrnn.from_onnx(model_of("LSTM", {}, weights_of("LSTM", 1, False, False)))
    assert torch.equal(layer.weight_ih_l0, plain.weight_ih_l0)
    loop.node[1].input[1] = "state"  # what a Loop brings is no constant
    model.graph.node[0].attribute[0].g.CopyFrom(loop)
    with pytest.raises(ValueError, match="'loop/body/y': expected a constant W, got 'state'"):
        fastrnn.from_onnx(model)


def test_calls_of_a_local_function_are_nodes_each() -> None:
    double = [helper.make_node("Add", ["w", "w"], ["2w"]), layer_node("RNN", "rnn", "y", W="2w")]
    double[1].input[0], double[1].input[2] = "x", "r"
    opset = helper.make_opsetid("", 17)
    function = helper.make_function("own", "Doubled", ["x", "w", "r"], ["y"], double, [opset])
    calls = [
        helper.make_node("Doubled", ["X", "W", "R"], ["Y"], domain="own"),
        helper.make_node("Doubled", ["X", "V", "R"], ["Z"], domain="own"),
    ]
    weights = weights_of("RNN", 1, False, False)
    constants = weights | {"V": -weights["W"]}
    own = [helper.make_opsetid("own", 1)]
    model = model_around(calls, constants, functions=[function], opset_imports=own)
    for node, factor in ((0, 2), ("Y", 2), (1, -2), ("Z", -2)):
        layer = fastrnn.from_onnx(model, node)
        np.testing.assert_array_equal(layer.weight_ih_l0.detach(), factor * weights["W"][0])


def test_nodes_without_a_name_are_listed_by_their_outputs() -> None:
    weights = weights_of("GRU", 1, False, False)
    nodes = [layer_node("GRU"), layer_node("GRU", y="Z", R="2R")]
    model = model_around(nodes, weights | {"2R": 2 * weights["R"]})
    listed = r"are 0 'Y' \(GRU, by its output\); 1 'Z' \(GRU, by its output\)"
    for node in (None, "", "X"):
        with pytest.raises(ValueError, match=listed):
            fastrnn.from_onnx(model, node)
    for node in ("Z", 1):
        layer = fastrnn.from_onnx(model, node)
        np.testing.assert_array_equal(
            layer.weight_hh_l0.detach()[:H], 2 * weights["R"][0, H : 2 * H]
        )


def test_a_model_without_a_recurrent_node_says_what_it_has() -> None:
    nodes = [helper.make_node("Relu", ["X"], ["z"]), helper.make_node("Relu", ["z"], ["Y"])]
    expected = r"LSTM, GRU, RNN, DynamicQuantizeLSTM, got a graph of Relu \(2\)"
    with pytest.raises(ValueError, match=expected):
        fastrnn.from_onnx(model_around(nodes, {}))


def test_other_things_than_a_model_are_type_errors_with_what_to_do(tmp_path: Any) -> None:
    model = model_of("GRU", {}, weights_of("GRU", 1, False, False))
    content = model.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    for kind in (str(tmp_path / "model.onnx"), tmp_path / "model.onnx", io.BytesIO(content)):
        assert fastrnn.from_onnx(kind).hidden_size == H
    for wrong, part in (
        (content, "got bytes; onnx.load_from_string"),
        (model.graph.node[0], "got NodeProto; a node has no weights: give the model"),
        (model.graph, "got GraphProto; onnx.helper.make_model"),
        (3, "got int$"),
    ):
        with pytest.raises(
            TypeError, match=f"model: expected an onnx.ModelProto or a path, {part}"
        ):
            fastrnn.from_onnx(wrong)
    with pytest.raises(TypeError, match=r"node: expected a name, .* or a place, got NodeProto"):
        fastrnn.from_onnx(model, model.graph.node[0])


@pytest.mark.parametrize("opset", [13, 16, 18, 19, 21])
def test_weights_behind_dequantize_linear_are_constants(opset: int) -> None:
    quantized = np.random.default_rng(0).integers(-9, 9, (1, 4 * H, I)).astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["Q", "scale"], ["W"]), layer_node()]
    constants = {
        "Q": quantized,
        "scale": np.float32(0.1),
        "R": weights_of("LSTM", 1, False, False)["R"],
    }
    model = model_around(nodes, constants, opset=opset)
    assert_computes(fastrnn.from_onnx(model), model, X=X)


def test_a_constant_that_onnx_cannot_compute_is_named() -> None:
    unknown = helper.make_node("Unknown", ["V"], ["W"], name="maker", domain="own")
    weights = weights_of("LSTM", 1, False, False)
    constants = {"V": weights["W"], "R": weights["R"]}
    own = [helper.make_opsetid("own", 1)]
    model = model_around([unknown, layer_node(name="lstm")], constants, opset_imports=own)
    expected = "LSTM node 'lstm': expected a constant W, got 'W': the Unknown node 'maker' cannot"
    with pytest.raises(ValueError, match=expected):
        fastrnn.from_onnx(model)


def test_what_is_drawn_at_random_is_no_constant() -> None:
    nodes = [helper.make_node("RandomNormal", [], ["W"], shape=[1, 4 * H, I]), layer_node()]
    model = model_around(nodes, {"R": weights_of("LSTM", 1, False, False)["R"]})
    with pytest.raises(ValueError, match="expected a constant W, got 'W', which depends"):
        fastrnn.from_onnx(model)


def test_data_that_were_not_loaded_are_named(tmp_path: Any) -> None:
    model, path = model_of("GRU", {}, weights_of("GRU", 1, False, False)), tmp_path / "model.onnx"
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(model, path, **options)
    assert fastrnn.from_onnx(path).hidden_size == H
    unloaded = onnx.load(path, load_external_data=False)
    expected = "expected a constant W, got 'W': the data of 'W' are in the file 'weights.bin' and"
    with pytest.raises(ValueError, match=expected):
        fastrnn.from_onnx(unloaded)
    onnx.load_external_data_for_model(unloaded, str(tmp_path))
    assert fastrnn.from_onnx(unloaded).hidden_size == H


def test_bfloat16_weights_make_a_layer_of_bfloat16() -> None:
    weights = weights_of("RNN", 1, True, False)
    model = model_of("RNN", {}, weights)
    for tensor in model.graph.initializer:
        halves = torch.from_numpy(weights[tensor.name]).bfloat16()
        tensor.data_type = TensorProto.BFLOAT16
        tensor.raw_data = halves.view(torch.int16).numpy().tobytes()
    layer = fastrnn.from_onnx(model)
    for name, array in (("W", layer.weight_ih_l0), ("R", layer.weight_hh_l0)):
        assert torch.equal(array, torch.from_numpy(weights[name][0]).bfloat16())
    assert layer.bias_ih_l0.dtype is torch.bfloat16


@pytest.mark.parametrize("depth", [3000])
def test_a_deep_graph_before_the_node_is_no_obstacle(depth: int) -> None:
    chain = [helper.make_node("Neg", [f"x{i}"], [f"x{i + 1}"]) for i in range(depth)]
    lstm = helper.make_node("LSTM", [f"x{depth}", "W", "R", "", "", f"x{depth}"], ["Y"])
    weights = weights_of("LSTM", 1, False, False)
    layer = fastrnn.from_onnx(model_around([*chain, lstm], weights, inputs=["x0"]))
    assert not layer.initial_state


@pytest.mark.parametrize("per_column", [False, True], ids=["a scale", "a scale a column"])
@pytest.mark.parametrize("signed", [False, True], ids=["uint8", "int8"])
def test_dynamic_quantize_lstm_is_the_lstm_of_its_weights(per_column: bool, signed: bool) -> None:
    rng = np.random.default_rng(0)
    # ONNX Runtime adds up in 16 bits where a machine has no VNNI: int8 of 7 bits cannot overflow.
    low, high, dtype = (-64, 64, np.int8) if signed else (0, 256, np.uint8)
    constants: dict[str, np.ndarray] = {"B": weights_of("LSTM", 2, True, False)["B"]}
    for name, features in (("W", I), ("R", H)):
        size = (2, GATES["LSTM"] * H) if per_column else (2,)
        constants[name] = rng.integers(low, high, (2, features, 4 * H)).astype(dtype)
        constants[f"{name}_scale"] = rng.uniform(0.001, 0.004, size).astype(np.float32)
        zero_point = np.zeros(size) if signed else np.full(size, 128)
        constants[f"{name}_zero_point"] = zero_point.astype(dtype)
    of_scales = [f"{name}_{what}" for name in "WR" for what in ("scale", "zero_point")]
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        ["X", "W", "R", "B", "", "", "", "", *of_scales],
        ["Y"],
        domain="com.microsoft",
        hidden_size=H,
        direction="bidirectional",
    )
    model = model_around([node], constants)
    layer = fastrnn.from_onnx(model)
    y, *_ = outputs_as_in_onnx(layer, X)
    # ONNX Runtime rounds x and h to 8 bits, too.
    np.testing.assert_allclose(y, in_onnx_runtime(model, X=X)[0], atol=0.02)

    exact = {"B": constants["B"]}
    for name in "WR":
        scale, zero = (constants[f"{name}_{what}"] for what in ("scale", "zero_point"))
        scale, zero = (one.reshape(2, 1, -1).astype(np.float32) for one in (scale, zero))
        exact[name] = ((constants[name].astype(np.float32) - zero) * scale).transpose(0, 2, 1)
    plain = model_of("LSTM", {"hidden_size": H, "direction": "bidirectional"}, exact)
    assert_near(y, in_onnx_runtime(plain, X=X)[0], I + H, T)


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"W_scale": None}, "expected an input W_scale, got none"),
        ({"W": np.zeros((I, 4 * H), np.int8)}, "expected W of 3 dimensions, and a scale and"),
        (
            {"R_scale": np.ones((1, 1), np.float32)},
            r"expected R of 3 .* got \(1, 5, 20\), \(1, 1\)",
        ),
        ({"R_zero_point": np.zeros((1, 4 * H), np.int8)}, r"got \(1, 5, 20\), \(1,\), \(1, 20\)"),
    ],
)
def test_quantized_weights_that_do_not_fit_are_refused_by_name(wrong: Any, part: str) -> None:
    constants: dict[str, Any] = {}
    for name, features in (("W", I), ("R", H)):
        constants[name] = np.zeros((1, features, 4 * H), np.int8)
        constants[f"{name}_scale"] = np.ones(1, np.float32)
        constants[f"{name}_zero_point"] = np.zeros(1, np.int8)
    constants |= wrong
    places = ["W", "R", *[""] * 5, "W_scale", "W_zero_point", "R_scale", "R_zero_point"]
    given = [place if constants.get(place) is not None else "" for place in places]
    node = helper.make_node(
        "DynamicQuantizeLSTM", ["X", *given], ["Y"], "q", domain="com.microsoft", hidden_size=H
    )
    known = {name: array for name, array in constants.items() if array is not None}
    with pytest.raises(ValueError, match=f"DynamicQuantizeLSTM node 'q': .*{part}"):
        fastrnn.from_onnx(model_around([node], known))


def test_external_data_of_other_nodes_are_not_asked_for() -> None:
    model = model_of("GRU", {}, weights_of("GRU", 1, False, False))
    other = numpy_helper.from_array(np.zeros(1, np.float32), "other")
    other.data_location = TensorProto.EXTERNAL
    model.graph.initializer.append(other)
    assert fastrnn.from_onnx(model).hidden_size == H
