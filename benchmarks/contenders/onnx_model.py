"""A recurrent layer as an ONNX model, made from torch's ``state_dict``.

Where ONNX differs from torch: its gates stand in another order, a tensor holds both directions or
both biases, a stack is a chain of operators, and y is (T, D, B, H), with the directions apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from benchmarks.problem import Problem, parameter_suffixes
from benchmarks.workloads import Cell, Workload

# ONNX's gates by their place among torch's: i o f c of i f g o, z r h of r z n.
_GATE_ORDER: dict[Cell, list[int]] = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}
_STATES: dict[Cell, str] = {"lstm": "hc", "gru": "h", "rnn": "h"}
_OPSET, _IR_VERSION = 17, 8  # of 2022: nothing used here has changed since


def build_model(problem: Problem) -> bytes:
    """Serialise the problem's layer.

    Inputs are ``x`` in the workload's layout (a single step is a sequence of length one) and, for a
    ragged batch, ``lengths``. Outputs are y in torch's layout, left out for a single step, whose h
    it would repeat; then h of every layer and c of every layer, each (D, B, H).
    """
    workload = problem.workload
    tensors = {} if workload.single_step else {"y_shape": np.array([0, 0, -1])}
    nodes = []
    if workload.batch_first:
        nodes.append(helper.make_node("Transpose", ["x"], ["x_by_step"], perm=[1, 0, 2]))
    for layer in range(workload.layers):
        nodes += _layer_nodes(workload, layer)
        tensors |= _layer_tensors(problem, layer)
    constants = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(
        nodes, workload.cell, _inputs(workload), _outputs(workload), constants
    )
    versions = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


def _inputs(workload: Workload) -> list[ValueInfoProto]:
    sizes = (workload.B, workload.T) if workload.batch_first else (workload.T, workload.B)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (*sizes, workload.I))]
    if workload.lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, (workload.B,)))
    return inputs


def _outputs(workload: Workload) -> list[ValueInfoProto]:
    layers = range(workload.layers)
    names = [f"{state}_l{layer}" for state in _STATES[workload.cell] for layer in layers]
    if not workload.single_step:
        names.insert(0, f"y_l{layers[-1]}")
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]


def _layer_nodes(workload: Workload, layer: int) -> list[NodeProto]:
    """Make a layer's operator, and what joins the directions of its (T, D, B, H) as torch does."""
    first, last = layer == 0, layer == workload.layers - 1
    source = ("x_by_step" if workload.batch_first else "x") if first else f"y_l{layer - 1}"
    apart = "" if workload.single_step else f"apart_l{layer}"  # unnamed outputs are not computed
    attributes: dict[str, Any] = {"linear_before_reset": 1} if workload.cell == "gru" else {}
    recurrence = helper.make_node(
        workload.cell.upper(),
        [source, *(f"{name}_l{layer}" for name in "WRB"), "lengths" if workload.lengths else ""],
        [apart, *(f"{state}_l{layer}" for state in _STATES[workload.cell])],
        hidden_size=workload.H,
        direction="bidirectional" if workload.bidirectional else "forward",
        **attributes,
    )
    if workload.single_step:
        return [recurrence]
    swapped = f"swapped_l{layer}"
    order = [2, 0, 1, 3] if workload.batch_first and last else [0, 2, 1, 3]
    return [
        recurrence,
        helper.make_node("Transpose", [apart], [swapped], perm=order),
        helper.make_node("Reshape", [swapped, "y_shape"], [f"y_l{layer}"]),
    ]


def _layer_tensors(problem: Problem, layer: int) -> dict[str, npt.NDArray[Any]]:
    """Return W: (D, G*H, I), R: (D, G*H, H) and B: (D, 2*G*H), the input's bias first."""
    suffixes = parameter_suffixes(problem.workload, layer)
    order = _GATE_ORDER[problem.workload.cell]

    def reordered(name: str) -> npt.NDArray[Any]:
        both = np.stack([problem.weights[name + suffix].numpy() for suffix in suffixes])
        gates = np.split(both, len(order), axis=1)
        return np.concatenate([gates[gate] for gate in order], axis=1)

    return {
        f"W_l{layer}": reordered("weight_ih"),
        f"R_l{layer}": reordered("weight_hh"),
        f"B_l{layer}": np.concatenate([reordered("bias_ih"), reordered("bias_hh")], axis=1),
    }
