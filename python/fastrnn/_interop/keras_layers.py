"""Layers of Keras into layers of this package and back, weights copied, on any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._call.precision import REDUCED
from .._call.spec import CELLS, Spec
from .._call.weights import Weights, by_direction, weights_of
from .._layers import modules
from .._layers.freezing import thaw
from .._layers.frozen import Frozen
from .._layers.plan import spec_of
from ..variants import describe
from .arrays import tensor_of_array
from .keras_activations import (
    activation_from_keras,
    activation_to_keras,
    classes_of,
    is_version_2,
    package_of,
)
from .keras_dropout import dropout_from_keras, dropout_to_keras
from .keras_weights import KINDS, reordered, weights_from_keras

if TYPE_CHECKING:
    import numpy as np

__all__ = ["from_keras", "to_keras"]


def from_keras(layer: Any) -> Any:
    """The layer that computes what a recurrent layer of Keras does.

    Keras's ``return_sequences``, ``return_state`` and ``stateful`` are not taken over: a layer here
    always returns the outputs of all steps and the final states, and takes initial ones. A layer
    that goes backwards becomes one with ``reverse=True``, whose outputs are in the input's order;
    Keras returns them in the order of its steps. Instead of a mask, give ``lengths``.

    Keras's ``dropout`` and ``recurrent_dropout`` become ``input_dropout`` and
    ``recurrent_dropout`` of `fastrnn.regularised`, which are at work until ``layer.eval()``. Their
    masks are like Keras's, but drawn by torch's generator; in both directions the input has the
    same one, where each of Keras's directions draws its own.

    Parameters
    ----------
    layer : keras.layers.LSTM, GRU, SimpleRNN, or Bidirectional of one of them
        Built, that is: called once, or ``layer.build((None, None, I))``. Of Keras 3, or of Keras 2
        (``keras`` before 3, ``tf_keras``), whose activations are those of its version.

    Returns
    -------
    LSTM, GRU or RNN
        With ``batch_first=True``, one layer, of the kernel's dtype, on the CPU, with copies of the
        weights.

    Raises
    ------
    ValueError
        It is another layer, is not built, does something that layers here do not, or has two
        directions that differ in more than their weights.
    """
    both = "Bidirectional" in classes_of(layer)
    directions = _directions(layer) if both else [layer]
    kind = _kind(directions[0])
    given = [_options(_kind(direction), direction) for direction in directions]
    described = [
        {"kind": _kind(one), "units": one.units, "use_bias": bool(one.use_bias), **options}
        for one, options in zip(directions, given, strict=True)
    ]
    if described[0] != described[-1]:
        raise ValueError(
            f"layer: expected directions of equal options, got {described[0]} forwards and "
            f"{described[-1]} backwards"
        )
    weights = [w for direction in directions for w in _weights_from_keras(kind, direction)]
    w_ih, w_hh, *_ = weights
    own = getattr(modules, kind)(
        w_ih.shape[1],
        w_hh.shape[1],
        bias=bool(directions[0].use_bias),
        batch_first=True,
        bidirectional=both,
        dtype=w_ih.dtype,
        reverse=not both and layer.go_backwards,
        **given[0],
    )
    with torch.no_grad():
        for parameter, weight in zip(own.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return own


def to_keras(layer: Any) -> Any:
    """The layer of Keras that computes what a layer of this package or of ``torch.nn`` does.

    It returns the outputs of all steps. Two biases that are always added become one of Keras's.
    Dropout of the input and in the recurrence is taken over as far as Keras has it: one mask a call
    of the input and of h, separate for each gate of an LSTM or GRU with ``recurrent_dropout``, else
    tied.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Its input has the batch in front in Keras, whatever ``batch_first`` says here. Of a frozen
        layer it is what `fastrnn.thaw` returns.

    Returns
    -------
    keras.layers.LSTM, GRU, SimpleRNN, or Bidirectional of one of them
        Built, with copies of the weights; a ``keras.Sequential`` of them, with ``Dropout`` between
        if ``layer`` has dropout, if there is more than one layer. One with ``reverse=True`` goes
        backwards, and returns its outputs in the order of its steps.

    Raises
    ------
    ValueError
        ``layer`` is something else, or has a projection or an option that Keras's layers lack.
    ImportError
        Keras 3 is not installed.
    """
    import keras

    if is_version_2(keras):
        raise ImportError(f"Keras 3 is not installed, but {keras.__version__}")
    if not isinstance(layer, torch.nn.RNNBase):
        raise ValueError(f"layer: expected an LSTM, a GRU or an RNN, got {layer!r}")
    if isinstance(layer, Frozen):
        layer = thaw(layer)
    kind, options = _keras_options(layer, keras)
    spec = spec_of(layer)
    flat = [getattr(layer, name).detach().cpu() for name, _ in weights_of(spec)]
    inputs = layer.input_size
    stack: list[Any] = []
    for of_layer in by_direction(spec, flat):
        if stack:  # the first to go backwards leaves the others steps in their order
            options.pop("go_backwards", None)
        made = getattr(keras.layers, kind)(layer.hidden_size, return_sequences=True, **options)
        if layer.bidirectional:
            made = keras.layers.Bidirectional(made, dtype=_dtype_of(layer))
        made.build((None, None, inputs))
        made.set_weights([w for one in of_layer for w in _weights_to_keras(spec, one)])
        if layer.dropout and stack:
            stack.append(keras.layers.Dropout(layer.dropout, dtype=_dtype_of(layer)))
        stack.append(made)
        inputs = spec.directions * spec.out
    if len(stack) == 1:
        return stack[0]
    input = keras.Input((None, layer.input_size), dtype=_dtype_of(layer))
    return keras.Sequential([input, *stack])


# ---- from Keras ----


def _directions(layer: Any) -> list[Any]:
    if layer.merge_mode != "concat":
        raise ValueError(
            f"layer: expected Bidirectional with merge_mode='concat', got {layer.merge_mode!r}; "
            f"convert layer.forward_layer and layer.backward_layer, and merge their outputs"
        )
    if layer.forward_layer.go_backwards or not layer.backward_layer.go_backwards:
        raise ValueError("layer: expected a forward_layer forwards and a backward_layer backwards")
    return [layer.forward_layer, layer.backward_layer]


def _kind(layer: Any) -> str:
    kind = next((own for theirs, own in KINDS.items() if theirs in classes_of(layer)), None)
    if kind is None:
        raise ValueError(
            f"layer: expected an LSTM, a GRU, a SimpleRNN or a Bidirectional of one of them of "
            f"Keras's, got {layer!r}"
        )
    if not layer.built:
        raise ValueError(
            f"layer: expected a built layer, got {layer.name!r} without weights; call it once, or "
            f"layer.build((None, None, input_size))"
        )
    return kind


def _options(kind: str, layer: Any) -> dict[str, Any]:
    names = ("activation",) if kind == "RNN" else ("activation", "recurrent_activation")
    options: dict[str, Any] = {
        name: activation_from_keras(getattr(layer, name), name, package_of(layer)) for name in names
    }
    if kind == "GRU":
        options["reset_after"] = bool(layer.reset_after)
    return options | dropout_from_keras(kind, layer)


def _weights_from_keras(kind: str, layer: Any) -> list[Tensor]:
    """w_ih, w_hh, and b_ih and b_hh if Keras's layer has a bias."""
    kernel, recurrent, *biases = map(tensor_of_array, layer.get_weights())
    return weights_from_keras(kind, kernel, recurrent, biases[0] if biases else None)


# ---- to Keras ----


def _keras_options(layer: Any, keras: Any) -> tuple[str, dict[str, Any]]:
    """The class and the constructor's keywords of Keras's layer."""
    variant = getattr(layer, "_fastrnn_variant", None)
    lacking = [f"proj_size={layer.proj_size}"] if layer.proj_size else []
    lacking += ["initial_state=True"] if getattr(layer, "_fastrnn_initial_state", False) else []
    options: dict[str, Any] = {"use_bias": layer.bias, "dtype": _dtype_of(layer)}
    if layer.weight_ih_l0.dtype in REDUCED:  # Keras's default cannot be drawn in these
        options["recurrent_initializer"] = "glorot_uniform"
    if variant is None:
        own = layer.nonlinearity if layer.mode.startswith("RNN") else "tanh"
        known = {"activation": own, "recurrent_activation": "sigmoid"}
    else:
        own = variant.activation or getattr(layer, "nonlinearity", "tanh")
        known = {"activation": own, "recurrent_activation": variant.recurrent_activation}
        options["go_backwards"] = variant.reverse
        if layer.mode == "LSTM" and variant.output_activation != own:
            lacking.append(f"output_activation={variant.output_activation!r} beside {own!r}")
        lacks = ("peephole=", "cell_clip=", "input_forget=")
        lacking += [text for text in describe(variant, None) if text.startswith(lacks)]
    kind = layer.mode.partition("_")[0]
    dropout, without = dropout_to_keras(kind, getattr(layer, "_fastrnn_regularised", None))
    options |= dropout
    lacking += without
    if lacking:
        raise ValueError(f"layer: Keras's has nothing like {', '.join(lacking)}")
    if layer.mode.startswith("RNN"):
        del known["recurrent_activation"]
    if layer.mode == "GRU":
        options["reset_after"] = variant is None or variant.reset_after
    options |= {
        option: activation_to_keras(text, option, keras, options["dtype"])
        for option, text in known.items()
    }
    return "SimpleRNN" if kind == "RNN" else kind, options


def _weights_to_keras(spec: Spec, own: Weights) -> list[np.ndarray[Any, Any]]:
    """Kernel, recurrent kernel and bias of one direction of a layer."""
    kind = CELLS[spec.cell].kind
    weights: Sequence[Tensor] = [reordered(kind, own.w_ih.t()), reordered(kind, own.w_hh.t())]
    if spec.bias:
        b_ih, b_hh = (reordered(kind, bias) for bias in (own.b_ih, own.b_hh))
        apart = kind == "GRU" and spec.variant.reset_after
        weights = [*weights, torch.stack([b_ih, b_hh]) if apart else b_ih + b_hh]
    # NumPy has no bfloat16, which float32 holds exactly.
    exact = torch.float64 if own.w_ih.dtype is torch.float64 else torch.float32
    return [weight.to(exact).numpy() for weight in weights]


def _dtype_of(layer: Any) -> str:
    """Keras's name for the dtype of a layer's weights."""
    return str(layer.weight_ih_l0.dtype).removeprefix("torch.")
