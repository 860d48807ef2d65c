"""Half precision: what it is computed in, and which dtypes come out.

The engine computes in float32 and float64. Tensors of bfloat16 and float16 are raised to float32
for it, and what it returns is rounded once, at the end. Both are casts of torch's, which autograd,
compilers and ``torch.func`` see: every gradient has the dtype of what it belongs to.

Under `torch.autocast` torch's own layers round to the dtype of autocast in many places, and what
comes out in which dtype follows from where they do. The dtypes here are theirs. Kernels of 16 bits
get what autocast makes of all tensors instead, as cuDNN's do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .arguments import Arguments, batch_of
from .spec import Outputs, Spec

__all__ = [
    "REDUCED",
    "Dtypes",
    "as_autocast_casts",
    "full_precision",
    "joined",
    "low_dtype",
    "lowered",
    "lowered_each",
    "raised",
    "raised_vectors",
    "reduced_dtype",
    "run",
    "under_autocast",
]

REDUCED = (torch.bfloat16, torch.float16)
_DEVICES = ("cpu", "cuda")
_CAST_BY_AUTOCAST = (torch.float32, *REDUCED)


class Dtypes(NamedTuple):
    """Of the outputs of a call: of y and every h, and of every c."""

    h: torch.dtype
    c: torch.dtype


def under_autocast(
    spec: Spec, input: Any, hx: Any, weights: Any, *, one_step: bool = False
) -> Dtypes | None:
    """What torch's layer, or for ``one_step`` its cell, returns; None where autocast is off.

    It is off for float64, for devices that it is not enabled for, and for what is no Tensor.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if not (isinstance(data, Tensor) and isinstance(weights[0], Tensor)):
        return None
    device = data.device.type
    if device not in _DEVICES or not torch.is_autocast_enabled(device):
        return None
    if data.dtype not in _CAST_BY_AUTOCAST or weights[0].dtype not in _CAST_BY_AUTOCAST:
        return None
    low = torch.get_autocast_dtype(device)
    # Only on the CPU a state is multiplied, and so promoted, in the dtype that it comes in.
    if device != "cpu" or spec.cell.startswith("rnn"):
        return Dtypes(low, low)
    state = hx[-1] if spec.has_cell_state and isinstance(hx, (tuple, list)) and hx else hx
    if not isinstance(state, Tensor):
        state = None
    promoted = torch.promote_types(low, data.dtype if state is None else state.dtype)
    if spec.proj_size:
        return Dtypes(low, promoted)
    if spec.cell == "lstm" and not one_step and _is_layer_of_onednn(input, state):
        return Dtypes(low, low)
    return Dtypes(promoted, promoted)


def _is_layer_of_onednn(input: Any, state: Tensor | None) -> bool:
    """Whether torch's LSTM is one operation, of which everything is cast.

    Not for float16 or a batch of no rows, for bfloat16 if the processor has it, and a packed batch
    at the most if its lengths are equal.
    """
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else input
    if data.dtype is torch.float16 or _is_empty(data):
        return False
    if data.dtype is torch.bfloat16 and not _torch.casts_lstm_of_bfloat16:
        return False
    if not packed:
        return True
    if not _torch.casts_packed_lstm:
        return False
    _, batch_sizes, row_index, _ = input
    if state is not None and state.dim() != 3:
        state = None  # to be refused
    batch = batch_of(data, state, False, batch_sizes, row_index)
    of_equal_lengths: bool = batch * batch_sizes.shape[0] == data.shape[0]
    return of_equal_lengths


def _is_empty(data: Tensor) -> bool:
    """Whether it has no numbers; a size that a tracer does not know yet is none of 0."""
    if torch.compiler.is_dynamo_compiling():
        return 0 in data.shape
    return any(isinstance(size, int) and size == 0 for size in data.shape)


def raised(value: Any) -> Any:
    """``value`` with float32 for every bfloat16 or float16 Tensor in it."""
    return _recast(value, REDUCED, torch.float32)


def raised_vectors(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """``weights`` of which those are raised that are no matrices."""
    return tuple(weight if weight.dim() > 1 else raised(weight) for weight in weights)


def as_autocast_casts(value: Any, dtype: torch.dtype) -> Any:
    """``value`` with the dtype of autocast for every Tensor in it that autocast would cast."""
    return _recast(value, _CAST_BY_AUTOCAST, dtype)


def _recast(value: Any, dtypes: Sequence[torch.dtype], dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype in dtypes else value
    if isinstance(value, PackedSequence):
        return PackedSequence(_recast(value.data, dtypes, dtype), *value[1:])
    if isinstance(value, (tuple, list)):
        return tuple(_recast(part, dtypes, dtype) for part in value)
    return value


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat``, which under autocast refuses half precision that is not autocast's own.

    Such tensors are raised to float32, in which everything is computed then.
    """
    device = parts[0].device.type
    if device in _DEVICES and torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        parts = [raised(part) if part.dtype is not low else part for part in parts]
    return torch.cat(list(parts), dim)


def low_dtype(data: Tensor) -> torch.dtype:
    """What a call of half precision is asked for: its input's dtype, or else that of autocast."""
    return data.dtype if data.dtype in REDUCED else torch.get_autocast_dtype(data.device.type)


def lowered(value: Any, dtype: torch.dtype) -> Any:
    """The outputs of a layer or cell, in torch's form, rounded to ``dtype``."""
    if isinstance(value, Tensor):
        return value.to(dtype)
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.to(dtype), *value[1:])
    return tuple(lowered(part, dtype) for part in value)


def reduced_dtype(tensors: tuple[Any, Any, Any]) -> torch.dtype | None:
    """The half precision that an input, its states and weights have; None if they have no one."""
    input, hx, weights = tensors
    dtype: torch.dtype | None = getattr(input, "dtype", None)
    states = hx if isinstance(hx, (tuple, list)) else () if hx is None else (hx,)
    if dtype not in REDUCED or not isinstance(input, Tensor):
        return None
    alike = (isinstance(one, Tensor) and one.dtype is dtype for one in (*states, *weights))
    return dtype if all(alike) else None


def lowered_each(value: Any, dtypes: Dtypes, spec: Spec) -> Any:
    """The outputs of a layer or cell, in torch's form, each rounded to its dtype."""
    if dtypes.h is dtypes.c or not spec.has_cell_state:
        return lowered(value, dtypes.h)
    first, last = value
    of_c = last.to(dtypes.c) if isinstance(last, Tensor) else lowered_each(last, dtypes, spec)
    return first.to(dtypes.h), of_c


def run(
    run_raised: Callable[..., Outputs],
    dtypes: Dtypes,
    products: str,
    spec: Spec,
    arguments: Arguments,
    **options: Any,
) -> Outputs:
    """``run_raised``, which runs checked arguments, for tensors of half precision.

    ``products``: as in a `Spec`.
    """
    y, h_n, c_n, h_all, c_all = run_raised(
        spec if products == spec.products else replace(spec, products=products),
        arguments.with_inputs(raised(arguments.inputs())),
        **options,
    )
    return Outputs(
        y.to(dtypes.h),
        h_n.to(dtypes.h),
        None if c_n is None else c_n.to(dtypes.c),
        None if h_all is None else h_all.to(dtypes.h),
        None if c_all is None else c_all.to(dtypes.c),
    )


@contextmanager
def full_precision() -> Iterator[None]:
    """For equations that stand for the engine: autocast, if it is on, does not reach them."""
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
