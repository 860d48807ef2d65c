"""Layers out of ONNX nodes: the operators' own node cases, ONNX Runtime on drawn ones, and back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cases import assert_near, flat
from exported import Exported, Together
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx_models import GATES, B, H, I, T, model_of, outputs_as_in_onnx, weights_of

import fastrnn
from fastrnn._interop import onnx_layout

FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
WEIGHTS = ("W", "R", "B", "P")


@pytest.mark.parametrize("kind", list(GATES))
def test_the_operators_own_node_cases(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other operators' cases
        cases = [case for case in collect_testcases(kind) if case.model is not None]
    assert len(cases) >= 6
    for case in cases:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        node = model.graph.node[0]
        names = [name for name in node.input if name]
        for inputs, expected in case.data_sets:
            fed = dict(zip(names, inputs, strict=True))
            for name in WEIGHTS:
                if name in fed:
                    model.graph.initializer.append(numpy_helper.from_array(fed[name], name))
            keywords: dict[str, Any] = {}
            if "sequence_lens" in fed:
                keywords["lengths"] = torch.from_numpy(fed["sequence_lens"])
            if "initial_h" in fed:
                states = [torch.from_numpy(fed[s]) for s in ("initial_h", "initial_c")]
                keywords["hx"] = tuple(states)
            layer = fastrnn.from_onnx(model)
            got = outputs_as_in_onnx(layer, fed["X"], **keywords)
            wanted = [out for out, name in zip(got, node.output, strict=False) if name]
            for g, e in zip(wanted, expected, strict=True):
                assert_near(g, e, sum(layer.weight_ih_l0.shape), len(fed["X"]))


@st.composite
def nodes(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """A kind, attributes and weights: everything that ONNX Runtime computes."""
    kind = draw(st.sampled_from(list(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    attributes: dict[str, Any] = {"hidden_size": H, "direction": direction}
    if draw(st.booleans()):
        texts = draw(st.lists(functions, min_size=FUNCTIONS[kind], max_size=FUNCTIONS[kind]))
        names, alphas, betas = onnx_layout.activations_to_onnx(texts * directions)
        attributes["activations"] = names
        attributes |= {"activation_alpha": alphas} if alphas else {}
        attributes |= {"activation_beta": betas} if betas else {}
    if draw(st.booleans()):
        attributes["clip"] = 0.7
    if kind == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    if kind == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    peephole = kind == "LSTM" and draw(st.booleans())
    return kind, attributes, weights_of(kind, directions, draw(st.booleans()), peephole)


functions = st.sampled_from(
    [
        *("tanh", "sigmoid", "relu", "softsign", "softplus", "elu(0.7)", "leaky_relu(0.2)"),
        *("hard_sigmoid_onnx", "hard_sigmoid(0.3, 0.4)", "affine(0.5, 0.1)"),
        *("scaled_tanh(0.8, 0.6)", "thresholded_relu(0.2)"),
    ]
)


@settings(max_examples=150)
@given(drawn=nodes())
def test_drawn_nodes_compute_what_onnx_runtime_does(drawn):
    kind, attributes, weights = drawn
    model = model_of(kind, attributes, weights)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((T, B, I)).astype(np.float32)
    expected = session.run(None, {"X": x})
    got = outputs_as_in_onnx(fastrnn.from_onnx(model), x)
    for g, e in zip(got, expected, strict=True):
        assert_near(g, e, I + H, T)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"peephole": "of", "cell_clip": 0.6, "num_layers": 2}),
    ("LSTM", {"peephole": "ifo", "input_forget": True, "bidirectional": True}),
    ("LSTM", {"activation": "softsign", "output_activation": "elu(0.3)", "bias": False}),
    ("LSTM", {"activation": "identity", "recurrent_activation": "hard_sigmoid"}),
    ("GRU", {"reset_after": False, "bidirectional": True, "num_layers": 2}),
    ("GRU", {"recurrent_activation": "hard_sigmoid_onnx", "reverse": True}),
    ("RNN", {"activation": "leaky_relu(0.4)", "cell_clip": 0.5, "reverse": True}),
]


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Together, torch.Tensor, Any]:
    """A file with all variants side by side, the layers, their input and ONNX Runtime's outputs."""
    torch.manual_seed(0)
    model = Together([getattr(fastrnn, kind)(I, H, **options) for kind, options in VARIANTS])
    x = torch.randn(T, B, I)
    calls = [{"input": x}] * len(VARIANTS)
    exported = Exported(model, calls)
    path = tmp_path_factory.mktemp("variants") / "model.onnx"
    exported.program.save(path)
    outputs = iter(exported(calls))
    return path, model, x, [[next(outputs) for _ in flat(layer(x))] for layer in model.layers]


@pytest.mark.filterwarnings("ignore")  # of torch's exporter and what it imports
@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_variants_go_to_onnx_and_come_back(kind, options, variants):
    path, model, x, outputs = variants
    number = VARIANTS.index((kind, options))
    layer = model.layers[number]
    assert_near(outputs[number][0], layer(x)[0], 2 * H + H, T * layer.num_layers)

    back, first = x, sum(below.num_layers for below in model.layers[:number])
    for place in range(first, first + layer.num_layers):
        single = fastrnn.from_onnx(path, place)
        back = single(back)[0]
    assert_near(back, layer(x)[0], 2 * H + H, T * layer.num_layers)


def test_layout_1_is_batch_first_and_a_node_is_chosen_by_name_or_place():
    weights = weights_of("GRU", 1, True, False)
    model = model_of("GRU", {"hidden_size": H, "layout": 1}, weights)
    second = model.graph.node.add()
    second.CopyFrom(model_of("GRU", {"hidden_size": H}, weights).graph.node[0])
    second.name = "another"
    second.output[:] = ["Y2", "Y2_h"]
    assert fastrnn.from_onnx(model, 0).batch_first
    assert fastrnn.from_onnx(model, "the node").batch_first
    assert not fastrnn.from_onnx(model, "another").batch_first
    for node in (None, "no such node", 2):
        with pytest.raises(ValueError, match=r"are 0 'the node' \(GRU\); 1 'another' \(GRU\)"):
            fastrnn.from_onnx(model, node)


def test_weights_may_be_computed_from_constants():
    weights = weights_of("RNN", 1, False, False)
    model = model_of("RNN", {"hidden_size": H}, weights)
    model.graph.node[0].input[2] = "scaled"
    two = numpy_helper.from_array(np.float32(2), "two")
    constant = helper.make_node("Constant", [], ["two"], value=two)
    model.graph.node.insert(0, constant)
    model.graph.node.insert(1, helper.make_node("Mul", ["R", "two"], ["scaled"]))
    layer = fastrnn.from_onnx(model)
    np.testing.assert_array_equal(layer.weight_hh_l0.detach().numpy(), 2 * weights["R"][0])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"inputs": ("X", "W")}, "expected a constant W, got 'W'.*fastrnn.functional"),
        ({"attributes": {"activations": ["Tanh", "Swish"]}}, "expected names of .*got 'Swish'"),
        ({"attributes": {"activations": ["Tanh"]}}, "expected 2 activations"),
        ({"attributes": {"activation_alpha": [1.0]}}, "expected numbers for .*alone"),
        ({"attributes": {"output_sequence": 1}, "opset": 1}, r"got \['output_sequence'\]"),
        ({"attributes": {"direction": "bidirectional"}}, "expected W for 'bidirectional'"),
        ({"attributes": {"direction": "backward"}}, "'the node': expected direction forward, rev"),
        ({"attributes": {"direction": 1}}, "'the node': expected direction forward, reverse or"),
    ],
)
def test_what_a_layer_cannot_be_is_refused_with_what_to_do(change, part):
    weights = weights_of("GRU", 1, True, False)
    inputs = change.get("inputs", ("X",))
    for name in inputs:
        weights.pop(name, None)
    attributes = {"hidden_size": H, **change.get("attributes", {})}
    model = model_of("GRU", attributes, weights, inputs, change.get("opset", 22))
    with pytest.raises(ValueError, match=part):
        fastrnn.from_onnx(model)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("W", np.ones((3 * H, I), np.float32)),
        ("W", np.ones((1, 3 * H + 1, I), np.float32)),
        ("W", np.ones((1, 3 * H, I), np.int64)),
        ("R", np.ones((3 * H, H), np.float32)),
        ("R", np.ones((1, 3 * H, 1), np.float32)),
        ("R", np.ones((1, 3 * H, H), np.float64)),
        ("B", np.ones((6 * H,), np.float32)),
        ("B", np.ones((1, 6 * H + 2), np.float32)),
        ("B", np.ones((1, 3 * H), np.float32)),
    ],
    ids=lambda one: one if isinstance(one, str) else f"{one.dtype}{one.shape}",
)
def test_weights_that_do_not_fit_are_refused_by_name(name, wrong):
    weights = weights_of("GRU", 1, True, False) | {name: wrong}
    for attributes in ({"hidden_size": H}, {}):
        with pytest.raises(ValueError, match=f"GRU node 'the node': expected .*{name}"):
            fastrnn.from_onnx(model_of("GRU", attributes, weights))


def test_a_node_without_weights_is_refused_by_name():
    model = model_of("GRU", {"hidden_size": H}, weights_of("GRU", 1, True, False))
    model.graph.node[0].input[:] = ["X", "W"]
    with pytest.raises(ValueError, match="GRU node 'the node': expected an input R, got none"):
        fastrnn.from_onnx(model)


def test_directions_with_different_activations_are_refused():
    weights = weights_of("RNN", 2, True, False)
    attributes = {"hidden_size": H, "direction": "bidirectional", "activations": ["Tanh", "Relu"]}
    with pytest.raises(ValueError, match="the same in each of 2 directions"):
        fastrnn.from_onnx(model_of("RNN", attributes, weights))
