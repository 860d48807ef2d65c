"""Where Keras's recurrent layers run through their steps, and what stands there instead."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from . import keras_calls
from .keras_activations import is_version_2

__all__ = ["accelerate", "restore"]

_lock = threading.Lock()
_originals: dict[type, Callable[..., Any]] = {}
"""Keras's own ``inner_loop`` of each class that has one, while ours stand in for them."""
_warned: set[tuple[str, str]] = set()
"""The layers that are left to Keras, and why."""


def accelerate() -> ExitStack:
    """Have Keras 3 on its torch backend run recurrent layers through fastrnn's engine.

    One line, before or after models are built. From then on every ``keras.layers.LSTM``, ``GRU``,
    ``SimpleRNN``, ``Bidirectional`` of them and ``RNN`` of their cells, derived classes too,
    computes all its steps in one call of the engine, in ``fit``, ``predict``, ``train_on_batch``
    and wherever else it is called. The layers, their variables, what is saved and loaded, seeds and
    results, to rounding, are Keras's.

    Served are masks of any form, ``zero_output_for_mask``, ``go_backwards``, ``return_state``,
    ``initial_state``, ``stateful``, ``unroll``, ``use_bias``, ``reset_after``, ``dropout`` and
    ``recurrent_dropout`` with Keras's own masks, float32, float64, mixed precision, and the
    activations of `fastrnn.from_keras`. A layer with something else is left to Keras, and a warning
    names layer and reason once: other cells and activations, ``use_cudnn=True``, hooks on a cell,
    tensors on another device than the CPU.

    Holds for the whole process. A second call changes nothing.

    Returns
    -------
    context manager
        ``with fastrnn.keras.accelerate():`` ends it as `restore` does, but not where an earlier
        call began it. Need not be used.

    Raises
    ------
    ImportError
        Keras 3 is not installed.
    RuntimeError
        Keras's backend is another than torch.

    Examples
    --------
    >>> fastrnn.keras.accelerate()
    >>> model.fit(x, y)
    """
    keras = _keras_on_torch()
    layers = (getattr(keras.layers, name) for name in ("RNN", "LSTM", "GRU", "SimpleRNN"))
    with _lock:
        if _originals:
            return ExitStack()
        for own in layers:
            if "inner_loop" in vars(own):
                _originals[own] = own.inner_loop
                own.inner_loop = _standing_in_for(own.inner_loop)
    ending = ExitStack()
    ending.callback(restore)
    return ending


def restore() -> None:
    """Give Keras's recurrent layers back what `accelerate` took; nothing if it took nothing."""
    with _lock:
        for own, original in _originals.items():
            own.inner_loop = original  # type: ignore[attr-defined]
        _originals.clear()
        _warned.clear()


def _keras_on_torch() -> ModuleType:
    import keras

    if is_version_2(keras):
        raise ImportError(f"Keras 3 is not installed, but {keras.__version__}")
    backend = keras.backend.backend()
    if backend != "torch":
        raise RuntimeError(
            f"fastrnn.keras.accelerate: expected Keras on its torch backend, got {backend!r}; set "
            f"the environment variable KERAS_BACKEND to torch before keras is imported"
        )
    module: ModuleType = keras
    return module


def _standing_in_for(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def inner_loop(
        self: Any, sequences: Any, initial_state: Any, mask: Any, training: Any = False
    ) -> Any:
        try:
            results = keras_calls.compute(self, sequences, initial_state, mask, training)
        except keras_calls.Unserved as reason:
            _warn(self, str(reason))
            results = None
        if results is not None:
            return results
        return original(self, sequences, initial_state, mask, training=training)

    return inner_loop


def _warn(layer: Any, reason: str) -> None:
    if (layer.name, reason) not in _warned:
        _warned.add((layer.name, reason))
        warnings.warn(
            f"fastrnn.keras.accelerate() leaves {type(layer).__name__} {layer.name!r} to Keras: "
            f"{reason}",
            stacklevel=2,
        )
