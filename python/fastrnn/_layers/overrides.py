"""Classes and modes that are asked before a function of torch's computes, and what they see.

``__torch_function__`` of a class or of a mode sees a call as one call of a function of
`fastrnn.functional`. A class that answers for torch's own functions knows nothing of ours; where a
module can, it leaves the call to torch's layer, which asks that class about ``torch.gru`` and its
like. Modes see ours: a default device is such a mode, and no reason to compute with another engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import handle_torch_function, has_torch_function

from .. import _torch, variants
from .._call.spec import PLAIN, Spec

__all__ = ["asked", "asked_of_cell", "asked_of_layer", "by_torch", "seen"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_SEEN: dict[str, Callable[..., Any]] = {}


def seen(function: FunctionT) -> FunctionT:
    """``function``, as which classes and modes see the calls of what its name tells."""
    _SEEN[function.__name__] = function
    return function


def asked(input: Any, hx: Any, weights: Sequence[Any]) -> tuple[Any, ...]:
    """The tensors whose classes are to be asked; empty if neither they nor a mode are."""
    if torch.compiler.is_compiling():
        return ()
    packed = isinstance(input, PackedSequence)
    states = hx if isinstance(hx, (tuple, list)) else (hx,)
    given = tuple(t for t in (input[0] if packed else input, *states, *weights) if t is not None)
    if not has_torch_function(given):
        return ()
    # What a class makes of the functions that it does not know cannot make a PackedSequence.
    return () if packed and not _torch.has_function_mode() else given


def _answers_for_torch(tensors: Sequence[Any]) -> bool:
    plain = _torch.torch_function_of(Tensor)
    kinds = {type(tensor) for tensor in tensors if has_torch_function((tensor,))}
    return any(_torch.torch_function_of(kind) is not plain for kind in kinds)


def _asked_about_torch(module: Any, given: Sequence[Any], input: Any, hx: Any) -> Any:
    """What torch's layer returns for the parameters of ``module``; None if ours is to compute."""
    if module is None or _torch.has_function_mode() or not _answers_for_torch(given):
        return None
    return by_torch(module, input, hx)


def by_torch(module: Any, input: Any, hx: Any) -> Any:
    """What the class of torch's that the module's derives from makes of its parameters."""
    # Not any class of torch's: that of a parametrized layer derives from ours.
    home = torch.nn.RNNBase.__module__
    own: Any = next(base for base in type(module).__mro__ if base.__module__ == home)
    return own.forward(module, input, hx)


def asked_of_layer(
    given: tuple[Any, ...],
    spec: Spec,
    tensors: tuple[Any, Any, Any],
    batch_first: bool,
    module: Any,
    extras: dict[str, Any],
) -> Any:
    """What those who are asked make of a layer's call; ``extras`` are what torch's has not.

    ``tensors`` are input, hx and weights.
    """
    input, hx, weights = tensors
    is_torchs = spec.variant == PLAIN and not any(
        value is not None and value is not False for value in extras.values()
    )
    returned = _asked_about_torch(module, given, input, hx) if is_torchs else None
    if returned is not None:
        return returned
    keywords: dict[str, Any] = {
        "bias": spec.bias,
        "num_layers": spec.num_layers,
        "dropout": spec.dropout,
        "training": spec.dropout > 0,
        "bidirectional": spec.bidirectional,
        "batch_first": batch_first,
        **extras,
    }
    if spec.program is not None:
        function, sizes = _SEEN["recurrent"], (spec.input_size, spec.hidden_size)
        own = {"proj_size": spec.proj_size, "reverse": spec.variant.reverse}
        keywords |= {name: value for name, value in own.items() if value}
        return handle_torch_function(function, given, spec.cell, sizes, *tensors, **keywords)
    kind, _, nonlinearity = spec.cell.partition("_")
    keywords |= variants.options_of(kind.upper(), spec.variant)
    if kind == "lstm":
        keywords["proj_size"] = spec.proj_size
    if nonlinearity:
        keywords["nonlinearity"] = nonlinearity
    return handle_torch_function(_SEEN[kind], given, input, hx, weights, **keywords)


def asked_of_cell(
    given: tuple[Any, ...],
    spec: Spec,
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    module: Any,
) -> Any:
    """What those who are asked make of a cell's call; ``weights`` as `functional` takes them."""
    returned = _asked_about_torch(module, given, input, hx) if spec.variant == PLAIN else None
    if returned is not None:
        return returned
    if spec.program is not None:
        function = _SEEN["recurrent_cell"]
        sizes = spec.input_size, spec.hidden_size, spec.bias
        return handle_torch_function(function, given, spec.cell, sizes, input, hx, weights)
    kind, _, nonlinearity = spec.cell.partition("_")
    keywords = variants.options_of(f"{kind.upper()}Cell", spec.variant)
    if nonlinearity:
        keywords["nonlinearity"] = nonlinearity
    if kind == "lstm":
        keywords["w_ch"] = weights[4]
    function = _SEEN[f"{kind}_cell"]
    return handle_torch_function(function, given, input, hx, *weights[:4], **keywords)
