"""Small ONNX models with a recurrent node, and how a layer's results look in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

T, B, I, H = 4, 3, 2, 5  # noqa: E741
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def model_of(
    kind: str,
    attributes: dict[str, Any],
    weights: dict[str, np.ndarray],
    inputs: tuple[str, ...] = ("X",),
    opset: int = 22,
) -> onnx.ModelProto:
    """One node between inputs and outputs, weights as initializers."""
    places = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    given = [place if place in (*inputs, *weights) else "" for place in places]
    while not given[-1]:
        given.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, given, outputs, name="the node", **attributes)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info(i, TensorProto.FLOAT, None) for i in inputs],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def weights_of(kind: str, directions: int, bias: bool, peephole: bool) -> dict[str, np.ndarray]:
    rows = GATES[kind] * H
    sizes = {"W": (rows, I), "R": (rows, H)}
    if bias:
        sizes["B"] = (2 * rows,)
    if peephole:
        sizes["P"] = (3 * H,)
    rng = np.random.default_rng(0)  # small, since ONNX Runtime's softplus of 89 is infinite
    return {
        name: rng.standard_normal((directions, *size)).astype(np.float32) * 0.2
        for name, size in sizes.items()
    }


def outputs_as_in_onnx(layer: Any, x: np.ndarray, **keywords: Any) -> list[np.ndarray]:
    """[Y, Y_h] or [Y, Y_h, Y_c] in the node's own layout."""
    y, final = layer(torch.from_numpy(x), **keywords)
    y = y.unflatten(-1, (-1, layer.hidden_size))
    y = y if layer.batch_first else y.transpose(1, 2)
    states = list(final) if isinstance(final, tuple) else [final]
    states = [state.transpose(0, 1) if layer.batch_first else state for state in states]
    return [tensor.detach().numpy() for tensor in (y, *states)]


def model_around(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: Sequence[str] = ("X",),
    outputs: Sequence[str] = ("Y",),
    opset: int = 17,
    **options: Any,
) -> onnx.ModelProto:
    """A model of these nodes; ``options`` are those of ``onnx.helper.make_model``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    opsets += options.pop("opset_imports", [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)


def in_onnx_runtime(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    """All outputs of the model."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def random(*shape: int) -> np.ndarray:
    """Normal numbers of float32, the same in every call."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
