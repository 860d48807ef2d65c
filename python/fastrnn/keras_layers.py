"""Layers of Keras 3 into layers of this package and back, weights copied, on any backend.

Keras keeps a kernel [I, G*H] and a recurrent kernel [H, G*H], which are torch's weights transposed,
gates of the GRU in the order z r h (torch r z n), and one bias [G*H], but for its GRU of the form
``reset_after``, which has two as torch has, [2, 3*H].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import modules
from .variants import describe, parse_activation

if TYPE_CHECKING:
    import numpy as np

__all__ = ["from_keras", "to_keras"]

_GATES = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}  # torch's places, and Keras's
_KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
_ACTIVATIONS = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "relu": "relu",
    "hard_sigmoid": "hard_sigmoid",
    "softsign": "softsign",
    "softplus": "softplus",
    "elu": "elu",
    "leaky_relu": "leaky_relu(0.2)",
    "linear": "identity",
}
"""For each name of ``keras.activations`` ours, with the parameters that Keras's has."""


def from_keras(layer: Any) -> Any:
    """The layer that computes what a recurrent layer of Keras does.

    Keras's ``return_sequences``, ``return_state`` and ``stateful`` are not taken over: a layer here
    always returns the outputs of all steps and the final states, and takes initial ones. A layer
    that goes backwards becomes one with ``reverse=True``, whose outputs are in the input's order;
    Keras returns them in the order of its steps. Instead of a mask, give ``lengths``.

    Parameters
    ----------
    layer : keras.layers.LSTM, GRU, SimpleRNN, or Bidirectional of one of them
        Built, that is: called once, or ``layer.build((None, None, I))``.

    Returns
    -------
    LSTM, GRU or RNN
        With ``batch_first=True``, one layer, of the kernel's dtype, on the CPU, with copies of the
        weights.

    Raises
    ------
    ValueError
        It is another layer, is not built, or does something that layers here do not.
    ImportError
        Keras 3 is not installed.
    """
    import keras

    both = isinstance(layer, keras.layers.Bidirectional)
    directions = _directions(layer) if both else [layer]
    kind = _kind(directions[0])
    given = [_options(kind, direction) for direction in directions]
    if given[0] != given[-1]:
        raise ValueError(f"layer: expected directions of equal options, got {given}")
    for direction in directions:
        _warn_of_dropout(direction)
    weights = [w for direction in directions for w in _weights_from_keras(kind, direction)]
    w_ih, w_hh, *_ = weights
    own = getattr(modules, kind)(
        w_ih.shape[1],
        w_hh.shape[1],
        bias=directions[0].use_bias,
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

    It returns the outputs of all steps. Keras's two biases that are always added become one.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Its input has the batch in front in Keras, whatever ``batch_first`` says here.

    Returns
    -------
    keras.layers.LSTM, GRU, SimpleRNN, or Bidirectional of one of them
        Built, with copies of the weights; a ``keras.Sequential`` of them, with ``Dropout`` between
        if ``layer`` has dropout, if there is more than one layer. One with ``reverse=True`` goes
        backwards, and returns its outputs in the order of its steps.

    Raises
    ------
    ValueError
        ``layer`` has a projection or an option that Keras's layers lack.
    ImportError
        Keras 3 is not installed.
    """
    import keras

    kind, options = _keras_options(layer)
    D = 2 if layer.bidirectional else 1
    inputs = layer.input_size
    stack: list[Any] = []
    for k in range(layer.num_layers):
        made = getattr(keras.layers, kind)(layer.hidden_size, return_sequences=True, **options)
        made = keras.layers.Bidirectional(made) if layer.bidirectional else made
        made.build((None, None, inputs))
        suffixes = (f"_l{k}", f"_l{k}_reverse")[:D]
        made.set_weights([w for suffix in suffixes for w in _weights_to_keras(layer, suffix)])
        if layer.dropout and stack:
            stack.append(keras.layers.Dropout(layer.dropout))
        stack.append(made)
        inputs = D * layer.hidden_size
    if len(stack) == 1:
        return stack[0]
    return keras.Sequential([keras.Input((None, layer.input_size)), *stack])


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
    import keras

    for name, kind in _KINDS.items():
        if isinstance(layer, getattr(keras.layers, name)):
            if not layer.built:
                raise ValueError(
                    f"layer: expected a built layer, got {layer.name!r} without weights; call it "
                    f"once, or layer.build((None, None, input_size))"
                )
            return kind
    raise ValueError(
        f"layer: expected an LSTM, a GRU, a SimpleRNN or a Bidirectional of one of them, "
        f"got {layer!r}"
    )


def _options(kind: str, layer: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"activation": _activation(layer.activation, "activation")}
    if kind != "RNN":
        given = layer.recurrent_activation
        options["recurrent_activation"] = _activation(given, "recurrent_activation")
    if kind == "GRU":
        options["reset_after"] = bool(layer.reset_after)
    return options


def _activation(function: Any, option: str) -> str:
    """The name of one of ``keras.activations``, or of a layer that is given in its place."""
    import keras

    if isinstance(function, keras.layers.LeakyReLU):
        return f"leaky_relu({float(function.negative_slope)})"
    if isinstance(function, keras.layers.ELU):
        return f"elu({float(function.alpha)})"
    name = getattr(function, "__name__", None)
    if name in _ACTIVATIONS and function is getattr(keras.activations, name):
        return _ACTIVATIONS[name]
    raise ValueError(
        f"layer.{option}: expected one of {', '.join(_ACTIVATIONS)}, LeakyReLU or ELU, "
        f"got {function!r}"
    )


def _warn_of_dropout(layer: Any) -> None:
    if layer.dropout or layer.recurrent_dropout:
        warnings.warn(
            f"{layer.name}: its dropout={layer.dropout} and "
            f"recurrent_dropout={layer.recurrent_dropout} act on each step's input and state while "
            f"training; the new layer has none",
            stacklevel=3,
        )


def _weights_from_keras(kind: str, layer: Any) -> list[Tensor]:
    """w_ih, w_hh, and b_ih and b_hh if Keras's layer has a bias."""
    kernel, recurrent, *biases = (torch.from_numpy(w.copy()) for w in layer.get_weights())
    weights = [_gates(kind, kernel).t(), _gates(kind, recurrent).t()]
    if not biases:
        return weights
    b_ih, b_hh = biases[0] if biases[0].dim() == 2 else (biases[0], torch.zeros_like(biases[0]))
    return [*weights, _gates(kind, b_ih), _gates(kind, b_hh)]


def _gates(kind: str, weight: Tensor) -> Tensor:
    """The blocks of the last dimension in the other's order; either way, it is the same."""
    blocks = weight.chunk(len(_GATES[kind]), dim=-1)
    return torch.cat([blocks[place] for place in _GATES[kind]], dim=-1)


# ---- to Keras ----


def _keras_options(layer: Any) -> tuple[str, dict[str, Any]]:
    """The class and the constructor's keywords of Keras's layer."""
    variant = getattr(layer, "variant", None)
    lacking = [f"proj_size={layer.proj_size}"] if layer.proj_size else []
    lacking += ["initial_state=True"] if getattr(layer, "initial_state", False) is True else []
    options: dict[str, Any] = {"use_bias": layer.bias}
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
    if lacking:
        raise ValueError(f"layer: Keras's has nothing like {', '.join(lacking)}")
    if layer.mode.startswith("RNN"):
        del known["recurrent_activation"]
    if layer.mode == "GRU":
        options["reset_after"] = variant is None or variant.reset_after
    options |= {option: _activation_to_keras(text, option) for option, text in known.items()}
    kind = layer.mode.partition("_")[0]
    return "SimpleRNN" if kind == "RNN" else kind, options


def _activation_to_keras(text: str, option: str) -> Any:
    import keras

    name, parameters = parse_activation(text)
    if name == "leaky_relu":
        return keras.layers.LeakyReLU(negative_slope=parameters[0])
    if name == "elu":
        return keras.layers.ELU(alpha=parameters[0])
    for keras_name, own in _ACTIVATIONS.items():
        if own == text:
            return getattr(keras.activations, keras_name)
    raise ValueError(f"layer: Keras's has nothing like {option}={text!r}")


def _weights_to_keras(layer: Any, suffix: str) -> list[np.ndarray[Any, Any]]:
    """Kernel, recurrent kernel and bias of one direction of a layer."""
    kind = layer.mode.partition("_")[0]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if layer.bias else 2]
    w_ih, w_hh, *biases = (getattr(layer, name + suffix).detach().cpu() for name in names)
    weights: Sequence[Tensor] = [_gates(kind, w_ih.t()), _gates(kind, w_hh.t())]
    if biases:
        b_ih, b_hh = (_gates(kind, bias) for bias in biases)
        variant = getattr(layer, "variant", None)
        apart = kind == "GRU" and (variant is None or variant.reset_after)
        weights = [*weights, torch.stack([b_ih, b_hh]) if apart else b_ih + b_hh]
    return [weight.numpy() for weight in weights]
