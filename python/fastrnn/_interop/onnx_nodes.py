"""Recurrent nodes of an ONNX model as layers of this package.

Everything that the operators LSTM, GRU and RNN of opset 22 can say is read, or refused with a
reason, and ONNX Runtime's DynamicQuantizeLSTM as the LSTM of its weights. Nodes and constants are
found by `fastrnn._interop.onnx_graph`; the layout of weights and the names of activations are in
`fastrnn._interop.onnx_layout`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._call.spec import GATES
from .._call.weights import Weights, flat
from .._layers import modules
from .._layers.initial_states import new_states
from .onnx_graph import Found, choose, recurrent_nodes
from .onnx_layout import activations_from_onnx, biases_from_onnx, dequantized, gates_from_onnx

__all__ = ["from_onnx"]

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_QUANTIZED = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_WEIGHTS = ("W", "R", "B", "P", *_QUANTIZED)
_ACTIVATIONS = {
    "LSTM": (("recurrent_activation", "activation", "output_activation"), "Sigmoid Tanh Tanh"),
    "GRU": (("recurrent_activation", "activation"), "Sigmoid Tanh"),
    "RNN": (("activation",), "Tanh"),
}
"""For each operator the options that its activations are, and what they are by default."""


@dataclass
class _Read:
    """What one node says, in the words of a layer's constructor."""

    found: Found
    kind: str
    inputs: dict[str, str]
    input_size: int
    hidden_size: int
    options: dict[str, Any]
    weights: list[Tensor]
    states: dict[str, Tensor] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        return 2 if self.options["bidirectional"] else 1

    @property
    def alike(self) -> dict[str, Any]:
        """What the layers of a stack have in common."""
        own = {"operator": self.kind, "hidden_size": self.hidden_size}
        return own | self.options | {"sequence_lens": self.inputs["sequence_lens"]}


def from_onnx(
    model: Any, node: str | int | None = None, *, nodes: Sequence[str | int] | None = None
) -> Any:
    """The layer that computes what an LSTM, GRU or RNN node of an ONNX model does.

    Constant initial states are the layer's own (``initial_state=True``), if they are not zeros; one
    with rows that differ makes the layer one for batches of as many rows. Others, which the model
    computes or takes, are the argument ``hx`` of a call, as ``sequence_lens`` is ``lengths``.

    Parameters
    ----------
    model : onnx.ModelProto, str or path
        Its weights are constants: initializers, or computed from nothing else.
    node : str or int, optional
        Which of the recurrent nodes, in the bodies of If, Loop and Scan and in local functions,
        too: the name, the path through the nodes that contain it, the name of an output, or the
        place among them; needed if there are several.
    nodes : sequence of str or int, optional
        Instead of ``node``, the nodes that are the layers of a stack, first to last: exporters
        write a stack of torch's as a node a layer. Each reads the outputs of the one before, its
        directions side by side.

    Returns
    -------
    LSTM, GRU or RNN
        One layer, or as many as there are ``nodes``, bidirectional or ``reverse`` as the node's
        ``direction`` says, of the weights' dtype, ``batch_first`` with ``layout=1``. Its output is
        [T, B, D*H] where the node's Y is [T, D, B, H], or with ``layout=1`` [B, T, D*H] where that
        is [B, T, D, H]. ONNX Runtime's DynamicQuantizeLSTM is the LSTM of its weights multiplied
        out, which rounds nothing more.

    Warns
    -----
    UserWarning
        ``sequence_lens`` is constant, and is not known to be the length of the input: give the
        layer ``lengths`` in every call.

    Raises
    ------
    ValueError
        There is no such node, or it does something that layers here do not: weights that are not
        constant or cannot be computed, directions with different activations, an unknown
        attribute; or ``nodes`` are no stack.
    TypeError
        ``model`` or ``node`` is something else.
    ImportError
        onnx is not installed.
    """
    found = recurrent_nodes(_loaded(model))
    if nodes is None:
        return _build([_read(choose(found, node))])
    if node is not None or isinstance(nodes, (str, int)) or not len(nodes):
        raise ValueError(f"nodes: expected a sequence and no node, got {nodes!r} and {node!r}")
    reads = [_read(choose(found, one)) for one in nodes]
    for below, above in itertools.pairwise(reads):
        _check_follows(below, above)
    return _build(reads)


def _loaded(model: Any) -> Any:
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, (str, PathLike)) or hasattr(model, "read"):
        return onnx.load(model)
    hints = {
        bytes: "onnx.load_from_string makes a model of them",
        onnx.NodeProto: "a node has no weights: give the model, and the name of the node as node=",
        onnx.GraphProto: "onnx.helper.make_model makes a model of it",
    }
    hint = "".join(f"; {text}" for kind, text in hints.items() if isinstance(model, kind))
    raise TypeError(
        f"model: expected an onnx.ModelProto or a path, got {type(model).__name__}{hint}"
    )


def _read(found: Found) -> _Read:
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in found.node.attribute}
    names = [*_INPUTS, *_QUANTIZED]
    inputs = dict(zip(names, [*found.node.input, *[""] * len(names)], strict=False))
    weights = {name: _weight(found, name, inputs[name]) for name in _WEIGHTS if inputs[name]}
    kind = found.node.op_type
    quantized = kind == "DynamicQuantizeLSTM"
    for name in ("W", "R", *(_QUANTIZED if quantized else ())):
        if name not in weights:
            raise ValueError(f"{found}: expected an input {name}, got none")
    if quantized:
        kind = "LSTM"
        for name in ("W", "R"):
            weights[name] = _multiplied_out(found, name, weights)
    direction = _direction(found, attributes)
    directions = 2 if direction == "bidirectional" else 1
    input_size, hidden_size = _sizes(found, kind, attributes, weights, direction)
    options = {
        "bias": "B" in weights,
        "batch_first": bool(attributes.pop("layout", 0)),
        "bidirectional": direction == "bidirectional",
        "dtype": weights["W"].dtype,
        "reverse": direction == "reverse",
        **_options(found, kind, attributes, directions),
        **({"peephole": "iof"} if "P" in weights else {}),
    }
    if attributes:
        raise ValueError(f"{found}: expected attributes of opset 22, got {sorted(attributes)}")
    own = flat([_weights_of_direction(kind, weights, d) for d in range(directions)])
    read = _Read(found, kind, inputs, input_size, hidden_size, options, own)
    _warn_of_lengths(read)
    for place, name in (("initial_h", "h_0"), ("initial_c", "c_0")):
        state = _state(read, place) if inputs[place] else None
        if state is not None:
            read.states[name] = state
    return read


def _multiplied_out(found: Found, name: str, weights: dict[str, Tensor]) -> Tensor:
    """A weight of a DynamicQuantizeLSTM as an LSTM has it."""
    weight, scale, zero = (weights[name + what] for what in ("", "_scale", "_zero_point"))
    fitting = [weight.shape[:1], weight.shape[::2]]
    if weight.dim() != 3 or scale.shape not in fitting or zero.shape != scale.shape:
        shapes = ", ".join(str(tuple(one.shape)) for one in (weight, scale, zero))
        raise ValueError(
            f"{found}: expected {name} of 3 dimensions, and a scale and a zero point for each "
            f"direction or each of its columns, got {shapes}"
        )
    return dequantized(weight, scale, zero)


def _direction(found: Found, attributes: dict[str, Any]) -> str:
    given = attributes.pop("direction", b"forward")
    for name in ("forward", "reverse", "bidirectional"):
        if given == name.encode():
            return name
    raise ValueError(f"{found}: expected direction forward, reverse or bidirectional, got {given}")


def _sizes(
    found: Found,
    kind: str,
    attributes: dict[str, Any],
    weights: dict[str, Tensor],
    direction: str,
) -> tuple[int, int]:
    """Features and units, after a look at all weights: what does not fit would be spread or cut."""
    W, gates = weights["W"], len(GATES[kind])
    input_size = W.shape[-1] if W.dim() else 0
    hidden_size = attributes.pop("hidden_size", W.shape[1] // gates if W.dim() > 1 else 0)
    directions, rows = (2 if direction == "bidirectional" else 1), gates * hidden_size
    shapes = {
        "W": (directions, rows, input_size),
        "R": (directions, rows, hidden_size),
        "B": (directions, 2 * rows),
        "P": (directions, 3 * hidden_size),
    }
    for name, weight in weights.items():
        if name in shapes and weight.shape != shapes[name]:
            raise ValueError(
                f"{found}: expected {name} for {direction!r} and {hidden_size} units of shape "
                f"{shapes[name]}, got {tuple(weight.shape)}"
            )
        if name in shapes and (weight.dtype != W.dtype or not W.is_floating_point()):
            raise ValueError(
                f"{found}: expected {', '.join(shapes)} of one dtype of floating point, got "
                f"{weight.dtype} for {name} and {W.dtype} for W"
            )
    return input_size, hidden_size


def _weight(found: Found, what: str, name: str) -> Tensor:
    array = _value(found.scope.value, found, what, name)
    if array is None:
        raise ValueError(
            f"{found}: expected a constant {what}, got {name!r}, which depends on an "
            f"input of the graph; use fastrnn.functional, which takes weights as arguments"
        )
    return _tensor(array)


def _value(of: Any, found: Found, what: str, name: str) -> Any:
    try:
        return of(name)
    except ValueError as error:
        raise ValueError(f"{found}: expected a constant {what}, got {name!r}: {error}") from error


def _tensor(array: Any) -> Tensor:
    if array.dtype.name == "bfloat16":  # numpy's own has no such dtype, nor has torch.tensor
        return torch.tensor(array.view(np.int16), device="cpu").view(torch.bfloat16)
    return torch.tensor(array, device="cpu")


def _state(read: _Read, place: str) -> Tensor | None:
    """A constant initial state as a layer's own, [D, 1 or B, H]; None for zeros, and for others."""
    scope, name = read.found.scope, read.inputs[place]
    array = _value(scope.value_for_any_batch, read.found, place, name)
    if array is None or not array.any():
        return None
    state = _tensor(array)
    if read.options["batch_first"] and state.dim() == 3:
        state = state.transpose(0, 1)
    size = (read.directions, state.shape[1] if state.dim() == 3 else 1, read.hidden_size)
    try:
        state = state.expand(size)
    except RuntimeError as error:
        raise ValueError(
            f"{read.found}: expected {place} of shape {size}, got {tuple(state.shape)}"
        ) from error
    return state[:, :1] if (state == state[:, :1]).all() else state


def _warn_of_lengths(read: _Read) -> None:
    """Say what a constant ``sequence_lens`` is, unless it is the length of the input."""
    name = read.inputs["sequence_lens"]
    lengths = _value(read.found.scope.value, read.found, "sequence_lens", name) if name else None
    if lengths is None:
        return
    sizes = read.found.scope.sizes(read.inputs["X"])
    steps = sizes[1 if read.options["batch_first"] else 0] if sizes else 0
    if (lengths != steps).any():
        warnings.warn(
            f"{read.found} has a constant sequence_lens, {lengths.tolist()}: give the layer "
            f"lengths= in every call",
            stacklevel=4,
        )


def _check_follows(below: _Read, above: _Read) -> None:
    """Refuse two nodes that are no layers of one stack, one upon the other."""
    lower, upper = below.alike, above.alike
    differing = [name for name in lower | upper if lower.get(name) != upper.get(name)]
    if differing:
        got = [
            ", ".join(f"{name}={one.get(name)!r}" for name in differing) for one in (upper, lower)
        ]
        raise ValueError(
            f"nodes: expected layers that are alike, got {got[0]} in {above.found} after {got[1]} "
            f"in {below.found}"
        )
    features = below.directions * below.hidden_size
    if above.input_size != features:
        raise ValueError(
            f"nodes: expected {features} features into {above.found}, as come out of "
            f"{below.found}, got {above.input_size}"
        )
    if not _is_chained(below, above):
        raise ValueError(
            f"nodes: expected the input of {above.found} to be the output of {below.found}, its "
            f"directions side by side and nothing between, got {above.inputs['X']!r}"
        )


def _is_chained(below: _Read, above: _Read) -> bool:
    """Whether numbers in the place of a node's output arrive at the other as a layer's would."""
    scope, name = below.found.scope, below.found.node.output[0]
    if above.found.scope is not scope:
        return False
    given = (2, below.directions, 3, below.hidden_size)  # T, D, B, H, but for what is fixed
    if below.options["batch_first"]:
        given = (3, 2, *given[1::2])
    sizes = [fixed or size for fixed, size in zip(scope.sizes(name) or given, given, strict=True)]
    y = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    joined = y if below.options["batch_first"] else y.transpose(0, 2, 1, 3)
    probed = scope.assuming({name: y})
    arrived = _value(probed.value, above.found, "way from node to node", above.inputs["X"])
    return np.array_equal(arrived, joined.reshape(*joined.shape[:2], -1))


def _build(reads: Sequence[_Read]) -> Any:
    first = reads[0]
    layer = getattr(modules, first.kind)(
        first.input_size,
        first.hidden_size,
        len(reads),
        initial_state=any(read.states for read in reads),
        **first.options,
    )
    given = [weight for read in reads for weight in read.weights]
    with torch.no_grad():
        for own, weight in zip(layer._flat_weights, given, strict=True):
            own.copy_(weight)
    if layer.initial_state:
        for name, zeros in new_states(layer).items():
            of_nodes = zip(reads, zeros.chunk(len(reads)), strict=True)
            states = [read.states.get(name, none) for read, none in of_nodes]
            rows = max(state.shape[1] for state in states)
            joined = torch.cat([state.expand(-1, rows, -1) for state in states])
            setattr(layer, name, torch.nn.Parameter(joined.to(zeros.dtype)))
    return layer


def _options(
    found: Found, kind: str, attributes: dict[str, Any], directions: int
) -> dict[str, Any]:
    """The layer's options; what they come from is taken out of ``attributes``."""
    names, default = _ACTIVATIONS[kind]
    given = [name.decode() for name in attributes.pop("activations", ())]
    texts = activations_from_onnx(
        given or default.split() * directions,
        attributes.pop("activation_alpha", ()),
        attributes.pop("activation_beta", ()),
    )
    forward, backward = texts[: len(names)], texts[-len(names) :]
    if len(texts) != directions * len(names) or forward != backward:
        raise ValueError(
            f"{found}: expected {len(names)} activations, the same in each of {directions} "
            f"directions, got {given} as {texts}"
        )
    options: dict[str, Any] = dict(zip(names, forward, strict=True))
    options["cell_clip"] = attributes.pop("clip", None)
    if kind == "LSTM":
        options["input_forget"] = bool(attributes.pop("input_forget", 0))
    if kind == "GRU":
        options["reset_after"] = bool(attributes.pop("linear_before_reset", 0))
    return options


def _weights_of_direction(kind: str, weights: dict[str, Tensor], d: int) -> Weights:
    cell = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind]
    w_ih, w_hh = (gates_from_onnx(cell, weights[name][d]) for name in ("W", "R"))
    b_ih, b_hh = biases_from_onnx(cell, weights["B"][d]) if "B" in weights else (None, None)
    return Weights(w_ih, w_hh, b_ih, b_hh, w_ch=weights["P"][d] if "P" in weights else None)
