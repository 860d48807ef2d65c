"""LSTM, GRU and RNN layers that take the place of ``torch.nn``'s, on an engine of their own.

Everything is imported when it is first touched. So ``import fastrnn`` costs nothing and needs no
torch, and torch, once touched, is loaded before the engine, which then shares torch's pool of
threads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import cells, functional, isa, keras, onnx, reference, regularised, variants
    from ._autograd.operators import decompositions
    from ._engine.cuda.policy import set_cuda_policy
    from ._engine.fallback import set_fallback
    from ._engine.memory import empty_cache
    from ._interop.arrays import from_arrays
    from ._interop.keras_layers import from_keras, to_keras
    from ._interop.onnx_nodes import from_onnx
    from ._layers.cell import Cell
    from ._layers.conversion import convert, revert
    from ._layers.freezing import freeze, thaw
    from ._layers.modules import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
    from ._layers.patching import patch
    from ._layers.recurrent import Recurrent
    from ._layers.recurrent_cell import RecurrentCell
    from ._program.norms import layer_norm, rms_norm

    __version__: str

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "__version__",
    "cells",
    "convert",
    "decompositions",
    "empty_cache",
    "freeze",
    "from_arrays",
    "from_keras",
    "from_onnx",
    "functional",
    "isa",
    "keras",
    "layer_norm",
    "onnx",
    "patch",
    "reference",
    "regularised",
    "revert",
    "rms_norm",
    "set_cuda_policy",
    "set_fallback",
    "thaw",
    "to_keras",
    "variants",
]

_SUBMODULES = (
    *("cells", "functional", "isa", "keras", "onnx", "reference", "regularised", "variants"),
)
_HOME = {
    **dict.fromkeys(("GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"), "_layers.modules"),
    **dict.fromkeys(("convert", "revert"), "_layers.conversion"),
    "Cell": "_layers.cell",
    "Recurrent": "_layers.recurrent",
    "RecurrentCell": "_layers.recurrent_cell",
    "patch": "_layers.patching",
    **dict.fromkeys(("layer_norm", "rms_norm"), "_program.norms"),
    **dict.fromkeys(("from_keras", "to_keras"), "_interop.keras_layers"),
    "decompositions": "_autograd.operators",
    "empty_cache": "_engine.memory",
    **dict.fromkeys(("freeze", "thaw"), "_layers.freezing"),
    "set_cuda_policy": "_engine.cuda.policy",
    "set_fallback": "_engine.fallback",
    "from_arrays": "_interop.arrays",
    "from_onnx": "_interop.onnx_nodes",
}
_LAYERS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "Recurrent", "RecurrentCell")
_FROZEN = {f"Frozen{name}": "_layers.frozen" for name in _LAYERS}  # whom pickles name


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _FROZEN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = _load(name)
    return value


def _load(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    try:
        if name in _SUBMODULES:
            return import_module(f".{name}", __name__)
        return getattr(import_module(f".{(_HOME | _FROZEN)[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f"{__name__}.{name} needs PyTorch, which is not installed: pip install 'fastrnn[torch]'"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
