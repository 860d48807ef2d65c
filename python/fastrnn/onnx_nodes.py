"""Recurrent nodes of an ONNX model as layers of this package.

Everything that the operators LSTM, GRU and RNN of opset 22 can say is read, or refused with a
reason. The layout of weights and the names of activations are in `fastrnn.onnx_layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from . import modules
from .onnx_layout import activations_from_onnx, biases_from_onnx, gates_from_onnx

__all__ = ["from_onnx"]

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_ACTIVATIONS = {
    "LSTM": (("recurrent_activation", "activation", "output_activation"), "Sigmoid Tanh Tanh"),
    "GRU": (("recurrent_activation", "activation"), "Sigmoid Tanh"),
    "RNN": (("activation",), "Tanh"),
}
"""For each operator the options that its activations are, and what they are by default."""


def from_onnx(model: Any, node: str | int | None = None) -> Any:
    """The layer that computes what an LSTM, GRU or RNN node of an ONNX model does.

    The node's ``initial_h`` and ``initial_c`` are arguments of a call here, ``hx``, and its
    ``sequence_lens`` is the argument ``lengths``.

    Parameters
    ----------
    model : onnx.ModelProto, str or path
        Its weights are constants: initializers, or computed from nothing else.
    node : str or int, optional
        The name of the node, or its place among the recurrent nodes of the graph; needed if there
        are several.

    Returns
    -------
    LSTM, GRU or RNN
        One layer, bidirectional or ``reverse`` as the node's ``direction`` says, of the weights'
        dtype, ``batch_first`` with ``layout=1``. Its output is [T, B, D*H] where the node's Y is
        [T, D, B, H], or with ``layout=1`` [B, T, D*H] where that is [B, T, D, H].

    Raises
    ------
    ValueError
        There is no such node, or it does something that layers here do not: weights that are not
        constant, ``sequence_lens``, directions with different activations, an unknown attribute.
    ImportError
        onnx is not installed.
    """
    import onnx

    proto = model if isinstance(model, onnx.ModelProto) else _load(model)
    found = _choose(proto.graph, node)
    constants = _Constants(proto)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in found.attribute}
    inputs = dict(zip(_INPUTS, [*found.input, *[""] * len(_INPUTS)], strict=False))
    if inputs["sequence_lens"]:
        raise ValueError(
            f"{_named(found)}: expected no sequence_lens, got {inputs['sequence_lens']!r}; "
            f"give the layer lengths= when it is called"
        )
    weights = {
        name: constants.tensor(found, name, inputs[name])
        for name in ("W", "R", "B", "P")
        if inputs[name]
    }
    return _build(found, attributes, weights)


def _load(path: str | PathLike[str]) -> Any:
    import onnx

    return onnx.load(path)


def _named(node: Any) -> str:
    return f"{node.op_type} node {node.name!r}"


def _choose(graph: Any, node: str | int | None) -> Any:
    recurrent = [n for n in graph.node if n.op_type in _ACTIVATIONS and n.domain in ("", "ai.onnx")]
    if isinstance(node, str):
        chosen = [n for n in recurrent if n.name == node]
    elif node is None:
        chosen = recurrent
    else:
        chosen = recurrent[node : node + 1]
    if len(chosen) == 1:
        return chosen[0]
    raise ValueError(
        f"node: expected the name or the place of one of {[n.name for n in recurrent]}, the "
        f"model's LSTM, GRU and RNN nodes, got {node!r}"
    )


class _Constants:
    """The values of a graph that depend on no input of it."""

    def __init__(self, model: Any) -> None:
        import onnx

        self.values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output if name}
        self.opsets = model.opset_import

    def tensor(self, node: Any, what: str, name: str) -> Tensor:
        array = self._value(name)
        if array is None:
            raise ValueError(
                f"{_named(node)}: expected a constant {what}, got {name!r}, which depends on an "
                f"input of the graph; use fastrnn.functional, which takes weights as arguments"
            )
        return torch.tensor(array, device="cpu")

    def _value(self, name: str) -> Any:
        if name not in self.values and name in self.makers:
            self._compute(self.makers[name])
        return self.values.get(name)

    def _compute(self, node: Any) -> None:
        from onnx.reference import ReferenceEvaluator

        feeds = {name: self._value(name) for name in node.input if name}
        if any(value is None for value in feeds.values()):
            return
        import onnx

        values = [onnx.helper.make_empty_tensor_value_info(name) for name in feeds]
        results = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
        graph = onnx.helper.make_graph([node], "constant", values, results)
        model = onnx.helper.make_model(graph, opset_imports=self.opsets)
        computed = ReferenceEvaluator(model).run(None, feeds)
        self.values |= dict(zip(node.output, computed, strict=True))


def _build(node: Any, attributes: dict[str, Any], weights: dict[str, Tensor]) -> Any:
    kind, W = node.op_type, weights["W"]
    direction = attributes.pop("direction", b"forward").decode()
    directions, rows, inputs = W.shape
    both = direction == "bidirectional"
    if directions != 1 + both:
        raise ValueError(f"{_named(node)}: expected W for {direction!r}, got {tuple(W.shape)}")
    hidden = attributes.pop("hidden_size", rows // {"LSTM": 4, "GRU": 3, "RNN": 1}[kind])
    layer = getattr(modules, kind)(
        inputs,
        hidden,
        bias="B" in weights,
        batch_first=bool(attributes.pop("layout", 0)),
        bidirectional=both,
        dtype=W.dtype,
        reverse=direction == "reverse",
        **_options(node, attributes, directions),
        **({"peephole": "iof"} if "P" in weights else {}),
    )
    if attributes:
        raise ValueError(
            f"{_named(node)}: expected attributes of opset 22, got {sorted(attributes)}"
        )
    flat = [w for d in range(directions) for w in _weights_of_direction(kind, weights, d)]
    with torch.no_grad():
        for own, weight in zip(layer._flat_weights, flat, strict=True):
            own.copy_(weight)
    return layer


def _options(node: Any, attributes: dict[str, Any], directions: int) -> dict[str, Any]:
    """The layer's options; what they come from is taken out of ``attributes``."""
    names, default = _ACTIVATIONS[node.op_type]
    given = [name.decode() for name in attributes.pop("activations", ())]
    texts = activations_from_onnx(
        given or default.split() * directions,
        attributes.pop("activation_alpha", ()),
        attributes.pop("activation_beta", ()),
    )
    forward, backward = texts[: len(names)], texts[-len(names) :]
    if len(texts) != directions * len(names) or forward != backward:
        raise ValueError(
            f"{_named(node)}: expected {len(names)} activations, the same in each of {directions} "
            f"directions, got {given} as {texts}"
        )
    options: dict[str, Any] = dict(zip(names, forward, strict=True))
    options["cell_clip"] = attributes.pop("clip", None)
    if node.op_type == "LSTM":
        options["input_forget"] = bool(attributes.pop("input_forget", 0))
    if node.op_type == "GRU":
        options["reset_after"] = bool(attributes.pop("linear_before_reset", 0))
    return options


def _weights_of_direction(kind: str, weights: dict[str, Tensor], d: int) -> Sequence[Tensor]:
    """In the order of ``_flat_weights``."""
    cell = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind]
    flat = [gates_from_onnx(cell, weights[name][d]) for name in ("W", "R")]
    if "B" in weights:
        flat += biases_from_onnx(cell, weights["B"][d])
    if "P" in weights:
        flat.append(weights["P"][d])
    return flat
