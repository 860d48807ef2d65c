"""The names of torch's that it does not document, all of them, from the oldest torch on (2.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch._subclasses import fake_tensor
from torch.autograd import forward_ad, profiler

__all__ = [
    "after_autograd",
    "apply_untransformed",
    "below_autograd",
    "below_transformations",
    "casts_packed_lstm",
    "computes_by_itself",
    "dlpack_exchange_api",
    "empty_strided_on_cpu",
    "has_forward_mode",
    "has_function_mode",
    "has_storage",
    "has_tangents",
    "has_values",
    "is_any_autocast_enabled",
    "is_observed",
    "is_profiled",
    "packs_saved_tensors",
    "torch_function_of",
    "unwrapped",
]

_C: Any = torch._C
_length_of_dispatch_stack = _C._len_torch_dispatch_stack
_innermost_transformation = _C._functorch.peek_interpreter_stack
_is_tracing = _C._is_tracing

is_any_autocast_enabled = _C._is_any_autocast_enabled
"""Whether autocast is on for some device: what torch's own layers ask."""

below_autograd = _C._AutoDispatchBelowAutograd
"""A context in which operators do not look for derivatives."""


def after_autograd(keyset: Any) -> Any:
    """What is left to do of an operator's dispatch when autograd is through with it."""
    return keyset & _C._after_autograd_keyset


def apply_untransformed(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """``function.apply`` without what prepares for ``torch.func``, a tenth of a small call."""
    untransformed: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    return untransformed


def has_forward_mode() -> bool:
    """Whether tensors may have tangents."""
    level: int = forward_ad._current_level
    if level >= 0:
        return True
    # When a compiler runs a graph, the transformations are there, but not the level.
    stack = _C._functorch.get_interpreter_stack() or ()
    return any(one.key() == _C._functorch.TransformType.Jvp for one in stack)


def is_observed() -> bool:
    """Whether a mode is active that has to see the operations on plain tensors.

    Forward-mode derivatives, ``torch.jit.trace``, a mode of ``__torch_dispatch__`` such as
    FakeTensorMode, or a transformation of ``torch.func``.
    """
    if forward_ad._current_level >= 0 or _length_of_dispatch_stack() > 0 or _is_tracing():
        return True
    return _innermost_transformation() is not None


def is_profiled() -> bool:
    """Whether torch's profiler runs."""
    enabled: bool = profiler._is_profiler_enabled
    return enabled


def has_tangents(tensors: Sequence[Tensor]) -> bool:
    """Whether an operator's tensors have tangents, which a compiler's do without any level."""
    if forward_ad._current_level < 0 and _length_of_dispatch_stack() == 0:
        return False
    unpack: Any = forward_ad.unpack_dual
    return any(unpack(one, level=0).tangent is not None for one in tensors)


has_function_mode: Callable[[], bool] = _C._is_torch_function_mode_enabled
"""Whether a mode, such as a default device, sees every function of torch's called."""


def torch_function_of(kind: type) -> Any:
    """What a class of tensors has for ``__torch_function__``, the same for all that inherit it."""
    own: Any = getattr(kind, "__torch_function__", None)
    return getattr(own, "__func__", own)


below_transformations = pyfunctorch.temporarily_clear_interpreter_stack
"""A context without transformations of ``torch.func``, under which torch 2.6 reads no values."""


def unwrapped(tensor: Tensor) -> Tensor:
    """The tensor without levels of ``torch.func.grad``."""
    while _C._functorch.is_gradtrackingtensor(tensor):
        tensor = _C._functorch.get_unwrapped(tensor)
    return tensor


def has_values(tensor: Tensor) -> bool:
    """False for a tensor that a compiler only knows the shape of."""
    return not fake_tensor.is_fake(tensor)


def computes_by_itself(kind: type) -> bool:
    """Whether a class of tensors has a ``__torch_dispatch__`` of its own."""
    own: Any = getattr(kind, "__torch_dispatch__", None)
    return own is not Tensor.__torch_dispatch__


has_storage: Callable[[Tensor], bool] = _C._has_storage
"""False for a tensor that wraps others, as those of ``torch.func`` do."""

_default_hooks = getattr(_C._autograd, "_top_saved_tensors_default_hooks", None)


def packs_saved_tensors() -> bool:
    """Whether what is saved for backward comes back as what ``saved_tensors_hooks`` make of it."""
    return _default_hooks is None or _default_hooks(True) is not None


def _casts_packed_lstm() -> bool:
    one = torch.ones(1, 1, device="cpu")
    state, weight = one[None], one.expand(4, 1)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            y, *_ = torch.lstm(
                one,
                torch.tensor([1], device="cpu"),
                (state, state),
                (weight, weight),
                False,
                1,
                0.0,
                False,
                False,
            )
    except RuntimeError:  # this machine has no kernel for it
        return False
    return bool(y.dtype is torch.bfloat16)


casts_packed_lstm = _casts_packed_lstm()
"""Whether autocast casts all of a packed LSTM of equal lengths, too, as some versions do."""


def dlpack_exchange_api() -> Any:
    """DLPack's C functions for tensors; None before torch 2.10."""
    return getattr(Tensor, "__dlpack_c_exchange_api__", None)


def _empty_strided(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(sizes, strides, dtype=dtype, device="cpu")


empty_strided_on_cpu: Callable[..., Tensor] = getattr(
    _C._dynamo.guards, "_empty_strided_cpu", _empty_strided
)
"""Makes a tensor of these sizes, strides and dtype, as torch's compiler does: at half the price."""
