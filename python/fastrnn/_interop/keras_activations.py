"""Activations of Keras as those of `fastrnn.variants`, and back.

Keras 3 and Keras 2 (``keras`` before 3, ``tf_keras``) go by the same names and do not compute the
same: the slope of ``hard_sigmoid`` is 1/6 in one and 0.2 in the other, and what LeakyReLU calls
``negative_slope`` in one is its ``alpha`` in the other.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

from ..variants import parse_activation

__all__ = ["activation_from_keras", "activation_to_keras", "classes_of", "package_of"]

_PACKAGES = ("keras", "tf_keras")
_PLAIN = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "softsign": "softsign",
    "softplus": "softplus",
    "linear": "identity",
    "silu": "silu",
    "selu": "selu",
    "mish": "mish",
    "relu6": "relu6",
    "hard_tanh": "hard_tanh",
    "hard_silu": "hard_silu",
}
"""For the names of ``keras.activations`` without parameters ours, of Keras 3."""
_PARAMETERS: dict[str, dict[str, float | None]] = {
    "relu": {"negative_slope": 0.0, "max_value": None, "threshold": 0.0},
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": False},
}
"""Of those with parameters, what these are unless they are given, by the names of Keras 3."""
_LAYERS = {
    "ReLU": ("relu", ("negative_slope", "max_value", "threshold")),
    "LeakyReLU": ("leaky_relu", ("negative_slope", "alpha")),
    "ELU": ("elu", ("alpha",)),
    "ThresholdedReLU": ("relu", ("theta",)),
}
"""For each layer that may stand in the place of a function that, and the attributes to read."""
_OTHER_NAMES = {"alpha": "negative_slope", "theta": "threshold"}
"""What Keras 2 calls parameters of "relu" and "leaky_relu"."""


def classes_of(value: Any) -> set[str]:
    """The names of the classes of Keras's, of any version, that an object is an instance of."""
    return {own.__name__ for own in type(value).__mro__ if _root(own) in _PACKAGES}


def package_of(layer: Any) -> ModuleType:
    """The package, ``keras`` or ``tf_keras``, that a layer's class comes from."""
    root = next(_root(own) for own in type(layer).__mro__ if _root(own) in _PACKAGES)
    return sys.modules[root]


def is_version_2(package: Any) -> bool:
    """Whether it is Keras 2, or an older one."""
    return int(package.__version__.partition(".")[0]) < 3


def activation_from_keras(function: Any, option: str, package: Any) -> str:
    """Ours for what a layer of Keras's has as an activation.

    Parameters
    ----------
    function : callable
        One of ``package.activations``, as it is or as a ``functools.partial`` with keywords, or
        a layer: Activation, ReLU, LeakyReLU, ELU, ThresholdedReLU.
    option : str
        The layer's attribute, for the message.
    package : module
        Keras, of the version that the layer is of.

    Returns
    -------
    str
        As `fastrnn.variants` has it.

    Raises
    ------
    ValueError
        There is no such activation here.
    """
    name, given = _name_and_parameters(function, package)
    if name in _PLAIN and not given:
        return "hard_sigmoid_onnx" if _is_old_hard_sigmoid(name, package) else _PLAIN[name]
    own = _with_parameters(name, given) if name in _PARAMETERS else None
    if own is None:
        known = ", ".join(sorted((*_PLAIN, *_PARAMETERS)))
        raise ValueError(
            f"layer.{option}: expected one of {known} of {package.__name__}.activations, or "
            f"{', '.join(_LAYERS)}, got {getattr(function, '__name__', None) or repr(function)}"
        )
    return own


def activation_to_keras(text: str, option: str, keras: Any, dtype: str) -> Any:
    """Keras 3's for one of ours, of a layer of ``dtype``; ValueError where there is none."""
    name, parameters = parse_activation(text)
    if name == "leaky_relu":
        return keras.layers.LeakyReLU(negative_slope=parameters[0], dtype=dtype)
    if name == "elu":
        return keras.layers.ELU(alpha=parameters[0], dtype=dtype)
    if name == "thresholded_relu":
        return keras.layers.ReLU(threshold=parameters[0], dtype=dtype)
    if name == "gelu_tanh":
        return _gelu_tanh(keras)
    for keras_name, own in (*_PLAIN.items(), ("relu", "relu"), ("gelu", "gelu")):
        if own == text:
            return getattr(keras.activations, keras_name)
    raise ValueError(f"layer: Keras's has nothing like {option}={text!r}")


@functools.cache
def _gelu_tanh(keras: Any) -> Any:
    """Keras's gelu with ``approximate=True`` as a function that Keras can copy and save.

    A ``functools.partial`` it can not, as Bidirectional does with the layer that it is given.
    """

    @keras.saving.register_keras_serializable("fastrnn")  # type: ignore[untyped-decorator]
    def gelu_tanh(x: Any) -> Any:
        return keras.activations.gelu(x, approximate=True)

    return gelu_tanh


def _root(own: type) -> str:
    return own.__module__.partition(".")[0]


def _is_old_hard_sigmoid(name: str, package: Any) -> bool:
    return name == "hard_sigmoid" and is_version_2(package)


def _name_and_parameters(function: Any, package: Any) -> tuple[str, dict[str, Any]]:
    """What Keras calls it, and the parameters that differ from the function's; "" if unknown."""
    if isinstance(function, functools.partial):
        name, given = _name_and_parameters(function.func, package)
        return ("" if function.args else name), given | function.keywords
    for kind in classes_of(function):
        if kind == "Activation":
            return _name_and_parameters(function.activation, package)
        if kind in _LAYERS:
            name, attributes = _LAYERS[kind]
            found = {one: getattr(function, one) for one in attributes if hasattr(function, one)}
            return name, found
    name = getattr(function, "__name__", "")
    if name == "gelu_tanh" and not is_version_2(package) and function is _gelu_tanh(package):
        return "gelu", {"approximate": True}
    known = getattr(package.activations, name, None) if name in {*_PLAIN, *_PARAMETERS} else None
    return (name if function is known else ""), {}


def _with_parameters(name: str, given: dict[str, Any]) -> str | None:
    """Ours for "relu", "leaky_relu", "elu" or "gelu" with parameters; None if there is none."""
    if name != "elu":
        given = {_OTHER_NAMES.get(key, key): value for key, value in given.items()}
    if not set(given) <= set(_PARAMETERS[name]):
        return None
    if name == "gelu":
        return "gelu_tanh" if given.get("approximate") else "gelu"
    values = _PARAMETERS[name] | {
        key: None if value is None else float(value) for key, value in given.items()
    }
    if name == "elu":
        return f"elu({values['alpha']})"
    slope, threshold = values["negative_slope"], values.get("threshold", 0.0)
    if values.get("max_value") is not None:
        return "relu6" if values["max_value"] == 6 and not (slope or threshold) else None
    if slope and threshold:
        return None
    if threshold:
        return f"thresholded_relu({threshold})"
    return f"leaky_relu({slope})" if slope else "relu"
