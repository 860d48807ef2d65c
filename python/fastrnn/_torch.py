"""The names of torch's that it does not document, all of them, from the oldest torch on (2.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch._subclasses import fake_tensor, functional_tensor
from torch.autograd import forward_ad, profiler
from torch.fx import _symbolic_trace

__all__ = [
    "above_autograd",
    "after_autograd",
    "any_wrapped",
    "apply_untransformed",
    "below_autograd",
    "below_transformations",
    "casts_lstm_of_bfloat16",
    "casts_packed_lstm",
    "computes_by_itself",
    "constant",
    "constant_to_compilers",
    "dlpack_exchange_api",
    "empty_strided_on_cpu",
    "empty_strided_on_cuda",
    "has_forward_mode",
    "has_function_mode",
    "has_storage",
    "has_tangents",
    "has_values",
    "is_any_autocast_enabled",
    "is_functionalized",
    "is_fx_tracing",
    "is_observed",
    "is_profiled",
    "is_tracing",
    "is_transformed",
    "packs_saved_tensors",
    "past_functionalize",
    "raw_stream",
    "rnn_fp32_precision",
    "set_grad_enabled",
    "torch_function_of",
    "untraced",
    "unwrapped",
    "with_functional_vmap",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_C: Any = torch._C
_length_of_dispatch_stack = _C._len_torch_dispatch_stack
_innermost_transformation = _C._functorch.peek_interpreter_stack

is_tracing: Callable[[], bool] = _C._is_tracing
"""Whether ``torch.jit.trace`` is at work."""

is_any_autocast_enabled = _C._is_any_autocast_enabled
"""Whether autocast is on for some device: what torch's own layers ask."""

below_autograd = _C._AutoDispatchBelowAutograd
"""A context in which operators do not look for derivatives."""


@contextmanager
def above_autograd() -> Iterator[None]:
    """Within an operator, where nothing looks for derivatives any more, a context where all do."""
    with ExitStack() as stack:
        for name in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor"):
            key = getattr(_C.DispatchKey, name)
            stack.enter_context(_C._SetExcludeDispatchKeyGuard(key, False))
        stack.enter_context(torch.enable_grad())
        yield


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
    if forward_ad._current_level >= 0 or _length_of_dispatch_stack() > 0 or is_tracing():
        return True
    return _innermost_transformation() is not None


_HAS_FX_FLAG = hasattr(_symbolic_trace, "_is_fx_tracing_flag")


def is_fx_tracing() -> bool:
    """Whether a tracer of torch.fx may be at work."""
    return not _HAS_FX_FLAG or _symbolic_trace._is_fx_tracing_flag


def is_transformed() -> bool:
    """Whether a transformation of ``torch.func`` is active, whose tensors may have no memory."""
    return _innermost_transformation() is not None


def any_wrapped(tensors: Sequence[Tensor | None]) -> bool:
    """Whether one is of a transformation of ``torch.func`` or of autograd's own, older vmap."""
    return any(
        tensor is not None
        and (
            _C._functorch.is_functorch_wrapped_tensor(tensor)
            or _C._functorch.is_legacy_batchedtensor(tensor)
        )
        for tensor in tensors
    )


def with_functional_vmap(
    function: Callable[..., tuple[Tensor, ...]], tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``function(*tensors)`` under ``torch.func.vmap`` where autograd's own vmap is active.

    That one, of ``is_grads_batched``, knows no rule for operators that torch does not have.
    """
    level: int = _C._vmapmode_increment_nesting() - 1
    _C._vmapmode_decrement_nesting()
    return _below_level(level, function, tensors)


def _below_level(
    level: int, function: Callable[..., tuple[Tensor, ...]], tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    if level == 0:
        return function(*tensors)
    apart: list[Tensor] = [torch._remove_batch_dim(one, level, 1, 0) for one in tensors]
    samples = next((len(one) for one in apart if len(one) != 1), 1)  # 1 where it is no level's
    apart = [one.expand(samples, *one.shape[1:]) for one in apart]
    found = _below_level(level - 1, torch.func.vmap(function), apart)
    return tuple(torch._add_batch_dim(one, 0, level) for one in found)


def is_functionalized() -> bool:
    """Whether ``torch.func.functionalize`` is active, at whatever level."""
    stack = _C._functorch.get_interpreter_stack() or ()
    return any(one.key() == _C._functorch.TransformType.Functionalize for one in stack)


def past_functionalize(operator: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """An operator's results, if ``functionalize`` is the innermost transformation; else None."""
    innermost = _innermost_transformation()
    if innermost.key() != _C._functorch.TransformType.Functionalize:
        return None
    level = functional_tensor.FunctorchFunctionalizeAPI(
        pyfunctorch.FunctionalizeInterpreter(innermost)
    )
    plain = level.unwrap_tensors(tuple(arguments))
    with level.redispatch_to_next():
        results = operator(*plain)
    return level.wrap_tensors(results)


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
    """False for a tensor that a compiler only knows the shape of, and under functionalize."""
    if torch.compiler.is_dynamo_compiling():  # which does not trace into the question
        return False
    return not (fake_tensor.is_fake(tensor) or is_functionalized())


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


casts_packed_lstm: bool
"""Whether autocast casts all of a packed LSTM of equal lengths, too, as some versions do."""


def _casts_packed_lstm() -> bool:
    one = torch.ones(1, 1, dtype=torch.float32, device="cpu")  # whatever the defaults are
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
    except RuntimeError:  # it was cast, and this processor has no kernel for what it became
        return True
    return bool(y.dtype is torch.bfloat16)


def __getattr__(name: str) -> Any:
    """What torch has to be asked by a call, when somebody wants to know it."""
    if name != "casts_packed_lstm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = _casts_packed_lstm()
    if not _length_of_dispatch_stack():  # an exporter's modes see to it that nothing is cast
        globals()[name] = value
    return value


casts_lstm_of_bfloat16: bool = _C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether a bfloat16 input gets to that operation, too; on some processors it does not."""


def dlpack_exchange_api() -> Any:
    """DLPack's C functions for tensors; None before torch 2.10."""
    return getattr(Tensor, "__dlpack_c_exchange_api__", None)


def _empty_strided(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(sizes, strides, dtype=dtype, device="cpu")


empty_strided_on_cpu: Callable[..., Tensor] = getattr(
    _C._dynamo.guards, "_empty_strided_cpu", _empty_strided
)
"""Makes a tensor of these sizes, strides and dtype, as torch's compiler does: at half the price."""


def _empty_strided_on_cuda(
    sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    return torch.empty_strided(sizes, strides, dtype=dtype, device="cuda")


empty_strided_on_cuda: Callable[..., Tensor] = getattr(
    _C._dynamo.guards, "_empty_strided_cuda", _empty_strided_on_cuda
)
"""The same on the current GPU."""


def _raw_stream(device: int) -> int:
    handle: int = torch.cuda.current_stream(device).cuda_stream
    return handle


raw_stream: Callable[[int], int] = getattr(_C, "_cuda_getCurrentRawStream", _raw_stream)
"""The handle of the current stream on a GPU, by its number, as torch's compiler asks for it."""

set_grad_enabled: Callable[[bool], None] = _C._set_grad_enabled
"""``torch.set_grad_enabled`` without a context."""


def _rnn_fp32_precision() -> str:
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


rnn_fp32_precision: Callable[[], str] = (
    partial(_C._get_fp32_precision_getter, "cuda", "rnn")
    if hasattr(_C, "_get_fp32_precision_getter")  # torch 2.9 or later
    else _rnn_fp32_precision
)
"""``torch.backends.cudnn.rnn.fp32_precision``, in a tenth of the time, or what it was before."""


def constant_to_compilers(function: _Function) -> _Function:
    """``torch.compiler.assume_constant_result``, which would import all of the compiler at once."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def untraced(function: Callable[..., Any]) -> Any:
    """``function`` as torch's compiler calls it without a look into it."""
    return torch.compiler.disable(function)  # type: ignore[no-untyped-call]


@constant_to_compilers
def _knows_guard_scalar() -> bool:
    rules: Any = torch._dynamo.trace_rules.torch_name_rule_map
    return any("torch.fx.experimental.symbolic_shapes.guard_scalar" in each for each in rules)


def constant(value: Any) -> Any:
    """A number, or a comparison of one, as one that a compiler that traces this may compute with.

    With dynamic shapes, and where it has seen another number in its place before, it takes a float
    for a variable. What this returns is a constant of the graph, and another number another graph.
    """
    if not isinstance(value, (bool, float)) or not _knows_guard_scalar():  # since torch 2.7
        return value
    return torch.fx.experimental.symbolic_shapes.guard_scalar(value)
