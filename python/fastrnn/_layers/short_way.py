"""The short way of a call: from torch's tensors straight into the engine.

What Python does is to see whether the call is one for it. It explains nothing: whatever is unusual
or wrong goes the long way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .._call import precision
from .._engine import backends
from .plan import Plan

__all__ = [
    "directly",
    "directly_on_gpu",
    "directly_raised",
    "is_watched",
    "layer_directly",
    "sees_no_short_way",
]


def layer_directly(
    plan: Plan,
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    batch_first: bool,
    lengths: Any = None,
    resets: Any = None,
) -> Any:
    """What a layer returns, whatever the form of its batch; None if this call is none for it."""
    if lengths is None and resets is None and not isinstance(input, PackedSequence):
        done = directly(plan, input, hx, weights, batch_first)
        if done is None and type(input) is Tensor and not sees_no_short_way() and input.dim() == 2:
            return _single_directly(plan, input, hx, weights)
        return done
    if plan.ragged is None or sees_no_short_way() or backends.chosen is not None:
        return None
    form = torch.is_grad_enabled(), torch.get_num_threads()
    if not isinstance(input, PackedSequence):
        rows = None, None, _as_tensor(lengths), _by_step(resets, batch_first)
        return plan.ragged(input, hx, weights, batch_first, *form, *rows)
    if lengths is not None or resets is not None:
        return None
    data, batch_sizes, sorted_indices, unsorted_indices = input
    of_rows = batch_sizes, sorted_indices, None, None
    done = plan.ragged(data, hx, weights, False, *form, *of_rows)
    if done is None:
        return None
    return PackedSequence(done[0], batch_sizes, sorted_indices, unsorted_indices), done[1]


def _as_tensor(lengths: Any) -> Any:
    try:
        return torch.tensor(lengths) if isinstance(lengths, (list, tuple)) else lengths
    except (RuntimeError, TypeError, ValueError):
        return lengths


def _by_step(resets: Any, batch_first: bool) -> Any:
    """A copy, [T, B], which nobody else writes to before backward reads it again."""
    if type(resets) is not Tensor or resets.dim() != 2:
        return resets
    by_step = resets.t() if batch_first else resets
    return by_step.clone(memory_format=torch.contiguous_format)


def _single_directly(plan: Plan, input: Tensor, hx: Any, weights: Sequence[Any]) -> Any:
    """What a layer returns for a single sequence, which is a batch of one."""
    states = hx if isinstance(hx, tuple) else () if hx is None else (hx,)
    if not all(type(one) is Tensor and one.dim() == 2 for one in states):
        return None
    given = tuple(one.unsqueeze(1) for one in states)
    of_batch = given if isinstance(hx, tuple) else given[0] if given else None
    done = directly(plan, input.unsqueeze(1), of_batch, weights, False)
    if done is None:
        return None
    y, last = done
    if isinstance(last, Tensor):
        return y.squeeze(1), last.squeeze(1)
    return y.squeeze(1), tuple(one.squeeze(1) for one in last)


def directly(plan: Plan, input: Any, hx: Any, weights: Sequence[Any], batch_first: bool) -> Any:
    """What the layer or cell returns, by the short way; None if this call is none for it."""
    if plan.direct is None or sees_no_short_way() or backends.chosen is not None:
        return None
    return plan.direct(
        input, hx, weights, batch_first, torch.is_grad_enabled(), torch.get_num_threads(), False
    )


def directly_raised(
    plan: Plan,
    tensors: tuple[Any, Any, Any],
    dtypes: precision.Dtypes | None,
    batch_first: bool,
) -> Any:
    """The same in half precision, by tensors that have been raised; autocast has raised them.

    ``dtypes`` are those of the outputs, None for the one that all arguments have. Matrices of
    bfloat16 stay what they are in calls without gradients: the engine raises them as it reads.
    """
    if plan.direct is None or is_watched() or backends.chosen is not None:
        return None
    if not isinstance(tensors[0], Tensor):
        return None
    dtype = precision.reduced_dtype(tensors)
    if dtypes is None:
        if dtype is None:
            return None
        dtypes = precision.Dtypes(dtype, dtype)
    input, hx = precision.raised(tensors[:2])
    weights = tensors[2]
    low = precision.low_dtype(tensors[0]) is torch.bfloat16
    in_bfloat16 = low and backends.named("cpu").multiplies_bfloat16
    direct: Any = plan.direct_in_bfloat16 if in_bfloat16 else plan.direct
    form = batch_first, torch.is_grad_enabled(), torch.get_num_threads()
    done = None
    if dtype is torch.bfloat16:
        weights = precision.raised_vectors(weights)
        done = direct(input, hx, weights, *form, True)
    if done is None:
        done = direct(input, hx, precision.raised(weights), *form, False)
    return None if done is None else precision.lowered_each(done, dtypes, spec=plan.expected.spec)


def sees_no_short_way() -> bool:
    """Whether somebody has to see more of a call than a short way shows."""
    return _torch.is_any_autocast_enabled() or is_watched()


def is_watched() -> bool:
    """The same, but for autocast."""
    return _torch.is_observed() or _torch.is_profiled() or _torch.has_function_mode()


def directly_on_gpu(
    plan: Plan, input: Any, hx: Any, weights: Sequence[Any], batch_first: bool
) -> Any:
    """The same by the short way on a GPU."""
    if plan.on_gpu is None or not backends.is_on_gpu(input) or sees_no_short_way():
        return None
    if backends.chosen is None and backends.refusal(input, plan.expected.spec) is not None:
        return None
    return plan.on_gpu(input, hx, weights, batch_first)
