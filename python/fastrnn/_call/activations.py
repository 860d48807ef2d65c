"""The activations that a layer can have: their names and parameters."""

from __future__ import annotations

import math
import re

from .spec import CELLS, Variant

__all__ = ["ACTIVATIONS", "own_activation", "parse_activation"]

ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "tanh": (),
    "sigmoid": (),
    "relu": (),
    "hard_sigmoid": (1 / 6, 0.5),
    "hard_sigmoid_onnx": (0.2, 0.5),
    "softsign": (),
    "softplus": (),
    "elu": (1.0,),
    "leaky_relu": (0.01,),
    "identity": (),
    "affine": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "thresholded_relu": (1.0,),
    "silu": (),
    "gelu": (),
    "gelu_tanh": (),
    "selu": (),
    "mish": (),
    "relu6": (),
    "hard_tanh": (),
    "hard_silu": (),
}
"""The parameters alpha and beta that each has unless others are given in parentheses.

Those of torch, whose ``hard_sigmoid`` is also Keras 3's. The slope of ``hard_sigmoid_onnx`` is that
of ONNX and of Keras 2.
"""

_CALL = re.compile(r"(\w+)\s*(?:\(([^()]*)\))?")


def parse_activation(text: str, option: str = "activation") -> tuple[str, tuple[float, ...]]:
    """The name and the parameters of an activation such as "elu" or "hard_sigmoid(0.2, 0.5)".

    Raises
    ------
    ValueError
        It is no activation of `ACTIVATIONS`, or has other parameters.
    """
    match = _CALL.fullmatch(text.strip()) if isinstance(text, str) else None
    name, given = match.groups() if match else (None, None)
    if name not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"{option}: expected one of {known}, got {text!r}")
    defaults = ACTIVATIONS[name]
    if given is None:
        return name, defaults
    try:
        values = tuple(float(value) for value in given.split(","))
    except ValueError:
        values = ()
    if len(values) != len(defaults) or not all(map(math.isfinite, values)):
        raise ValueError(
            f"{option}: expected {len(defaults)} numbers as parameters of {name}, got {text!r}"
        )
    if name in ("elu", "leaky_relu", "thresholded_relu") and values[0] < 0:
        raise ValueError(f"{option}: expected a parameter of at least 0, got {text!r}")
    return name, values


def own_activation(cell: str, variant: Variant) -> str:
    """The activation of the candidate g or n, or of an RNN's h."""
    return variant.activation or CELLS[cell].activation
