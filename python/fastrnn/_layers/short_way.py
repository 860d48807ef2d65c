"""The short way of a call: from torch's tensors straight into the engine.

What Python does is to see whether the call is one for it. It explains nothing: whatever is unusual
or wrong goes the long way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _core, _torch
from .._call import precision
from .._engine import backends
from .plan import Plan

__all__ = [
    "cell_directly",
    "cell_raised",
    "directly_on_gpu",
    "is_watched",
    "layer_directly",
    "layer_raised",
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
    """What a layer returns; None if this call is none for the short way."""
    call = plan.call
    if call is None or sees_no_short_way() or backends.chosen is not None:
        return None
    if lengths is None and resets is None:
        grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
        done = call(input, hx, weights, batch_first, grad, threads, False)
        if done is not None:
            return done
    return _unusual_layer(plan.direct, input, hx, weights, batch_first, lengths, resets)


def cell_directly(plan: Plan, input: Any, hx: Any, weights: Sequence[Any]) -> Any:
    """What a cell returns; None if this call is none for the short way."""
    call = plan.call
    if call is None or sees_no_short_way() or backends.chosen is not None:
        return None
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    done = call(input, hx, weights, False, grad, threads, False)
    return _unusual_cell(plan.direct, input, hx, weights) if done is None else done


def layer_raised(
    plan: Plan,
    tensors: tuple[Any, Any, Any],
    dtypes: precision.Dtypes | None,
    batch_first: bool,
    lengths: Any = None,
    resets: Any = None,
) -> Any:
    """The same in half precision, by tensors that have been raised; autocast has raised them.

    ``tensors`` are the input, the states and the weights, ``dtypes`` those of the outputs, None for
    the one that all arguments have. Matrices of bfloat16 stay what they are in dense calls without
    gradients: the engine raises them as it reads.
    """
    call = _raised(plan, tensors, dtypes)
    if call is None:
        return None
    done = None
    weights = None
    if lengths is None and resets is None and isinstance(call.input, Tensor):
        done, weights = call.done(batch_first)
    if done is None:
        weights = precision.raised(tensors[2]) if weights is None else weights
        form = batch_first, lengths, resets
        done = _unusual_layer(call.direct, call.input, call.hx, weights, *form)
    return None if done is None else precision.lowered_each(done, call.dtypes, plan.expected.spec)


def cell_raised(plan: Plan, tensors: tuple[Any, Any, Any], dtypes: precision.Dtypes | None) -> Any:
    """What `cell_directly` is to `layer_directly`."""
    call = _raised(plan, tensors, dtypes)
    if call is None:
        return None
    done, weights = call.done(False)
    if done is None:
        done = _unusual_cell(call.direct, call.input, call.hx, weights)
    return None if done is None else precision.lowered_each(done, call.dtypes, plan.expected.spec)


class _Raised(NamedTuple):
    """A call of half precision, whose input and states have been raised.

    ``halved``: whether those of all weights that are matrices may stay what they are.
    """

    direct: _core.Direct
    input: Any
    hx: Any
    weights: Sequence[Any]
    halved: bool
    dtypes: precision.Dtypes

    def done(self, batch_first: bool) -> tuple[Any, Any]:
        """What is returned of a dense batch, or None and the weights, raised."""
        grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
        done, form = None, (batch_first, grad, threads)
        if self.halved:
            weights: Any = precision.raised_vectors(self.weights)
            done = self.direct.call(self.input, self.hx, weights, *form, True)
        if done is None:
            weights = precision.raised(self.weights)
            done = self.direct.call(self.input, self.hx, weights, *form, False)
        return done, weights


def _raised(
    plan: Plan, tensors: tuple[Any, Any, Any], dtypes: precision.Dtypes | None
) -> _Raised | None:
    direct, in_bfloat16 = plan.direct, plan.in_bfloat16
    if direct is None or in_bfloat16 is None or is_watched() or backends.chosen is not None:
        return None
    input, hx, weights = tensors
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor):
        return None
    dtype = precision.reduced_dtype((data, hx, weights))
    if dtypes is None:
        if dtype is None:
            return None
        dtypes = precision.Dtypes(dtype, dtype)
    low = precision.low_dtype(data) is torch.bfloat16
    if low and backends.named("cpu").multiplies_bfloat16:
        direct = in_bfloat16
    input, hx = precision.raised((input, hx))
    return _Raised(direct, input, hx, weights, dtype is torch.bfloat16, dtypes)


def _unusual_layer(
    direct: Any,
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    batch_first: bool,
    lengths: Any,
    resets: Any,
) -> Any:
    """Of a batch that is ragged, or a single sequence, or lies apart in memory; else None."""
    packed = isinstance(input, PackedSequence)
    ragged = lengths is not None or resets is not None
    data = input.data if packed else input
    states = _states_of(hx)
    if states is None or not _is_plain(data) or (packed and ragged):
        return None
    single = not packed and data.dim() == 2
    if single:
        if ragged or any(one.dim() != 2 for one in states):
            return None
        data, states = data.unsqueeze(1), [one.unsqueeze(1) for one in states]
    given = _together(data, states, hx)
    if given is None:
        return None
    data, given_hx = given
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    if packed:
        _, batch_sizes, sorted_indices, unsorted_indices = input
        of_rows: tuple[Any, ...] = batch_sizes, sorted_indices, None, None
        done = direct.call_ragged(data, given_hx, weights, False, grad, threads, *of_rows)
        if done is None:
            return None
        return PackedSequence(done[0], batch_sizes, sorted_indices, unsorted_indices), done[1]
    if ragged:
        of_rows = None, None, _as_tensor(lengths), _by_step(resets, batch_first)
        return direct.call_ragged(data, given_hx, weights, batch_first, grad, threads, *of_rows)
    if data is input and given_hx is hx:
        return None
    time_second = batch_first and not single
    done = direct.call(data, given_hx, weights, time_second, grad, threads, False)
    return _squeezed(done, 1) if single else done


def _unusual_cell(direct: Any, input: Any, hx: Any, weights: Sequence[Any]) -> Any:
    """Of a single sequence, or what lies apart in memory; else None."""
    states = _states_of(hx)
    if states is None or not _is_plain(input):
        return None
    single, data = input.dim() == 1, input
    if single:
        if any(one.dim() != 1 for one in states):
            return None
        data, states = data.unsqueeze(0), [one.unsqueeze(0) for one in states]
    given = _together(data, states, hx)
    if given is None or (given[0] is input and given[1] is hx):
        return None
    data, given_hx = given
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    done = direct.call(data, given_hx, weights, False, grad, threads, False)
    return _squeezed(done, 0) if single else done


def _is_plain(tensor: Any) -> bool:
    return type(tensor) is Tensor or type(tensor) is torch.nn.Parameter


def _states_of(hx: Any) -> list[Tensor] | None:
    """None if one is anything but a plain tensor."""
    states = list(hx) if isinstance(hx, tuple) else [] if hx is None else [hx]
    return states if all(map(_is_plain, states)) else None


def _together(data: Tensor, states: list[Tensor], hx: Any) -> tuple[Tensor, Any] | None:
    """The input and ``hx`` with their features next to one another; None of an empty input."""
    if data.dim() < 2 or 0 in data.shape:
        return None
    data = data if data.stride(-1) == 1 else data.contiguous()
    made = [one if one.is_contiguous() else one.contiguous() for one in states]
    old = hx if isinstance(hx, tuple) else (hx,)
    if hx is None or all(one is other for one, other in zip(made, old, strict=True)):
        return data, hx
    return data, tuple(made) if isinstance(hx, tuple) else made[0]


def _squeezed(done: Any, dim: int) -> Any:
    """The outputs without the dimension of sequences."""
    if isinstance(done, tuple):
        return tuple(_squeezed(one, dim) for one in done)
    return None if done is None else done.squeeze(dim)


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
