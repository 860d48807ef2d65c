"""The states of a program as its callers have them, and as a call has them: h and c.

Callers have one tensor for each state that a cell names. A call has the first of
`Program.internal_states` as h, and the others side by side, along the features, as c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._program.program import Program
from . import precision
from .checks import describe_value, other_device, other_dtype, tensor_of

__all__ = ["apart", "are_as_given", "given", "initial", "joined"]


def joined(program: Program, states: Sequence[Tensor]) -> Any:
    """h, or (h, c), out of the states in the order in which the cell names them."""
    if program.output is not None:
        states = (torch.zeros_like(states[0]), *states)
    h, *others = states
    if not others:
        return h
    return h, others[0] if len(others) == 1 else precision.joined(others, -1)


def are_as_given(program: Program, hx: Any) -> bool:
    """Whether h, or (h, c), is what a caller gives as ``hx``, as long as that is right."""
    if program.output is not None or len(program.states) > 2:
        return False
    return hx is not None or not any(program.initial)


def apart(program: Program, states: Any) -> Any:
    """The inverse of `joined`: a Tensor if there is one state, else a tuple of them."""
    if isinstance(states, Tensor):
        return states
    h, c = states
    count = len(program.states)
    own: tuple[Tensor, ...] = () if program.output is not None else (h,)
    others = count - len(own)
    own += (c,) if others == 1 else c.chunk(others, -1)
    return own[0] if len(own) == 1 else own


def initial(program: Program, shape: Sequence[int], like: Tensor) -> Any:
    """h, or (h, c), of the states that a call begins with; None where all of them are zeros."""
    if not any(program.initial):
        return None
    return joined(program, [like.new_full(shape, value) for value in program.initial])


def given(program: Program, hx: Any, shape: Sequence[int], data: Tensor, *, form: str = "") -> Any:
    """h, or (h, c), out of the caller's ``hx``, whose states are of this shape.

    ``form`` describes the input of a layer in messages, as "batched 3-D"; a single step has none.

    Raises
    ------
    RuntimeError
        A state has another size, dtype or device than it has to have, a layer's also another number
        of dimensions; or there are more states than the cell has.
    ValueError
        A single step's has another number of dimensions.
    IndexError, TypeError, AttributeError
        There are fewer states, or ``hx`` is of the wrong kind.
    """
    names, kind = program.states, program.name
    if len(names) == 1:
        states = [tensor_of(hx, "hx", AttributeError)]
    else:
        states = _one_for_each(names, hx, kind)
    _check_ranks(states, len(shape), kind, form)
    for place, state in enumerate(states):
        own = f"[{place}]" if len(names) > 1 else ""
        _check_size(state, tuple(shape), place, own, form)
        if state.device != data.device:
            raise RuntimeError(other_device("hidden", state, f"hx{own}", data))
        if state.dtype is not data.dtype and not _torch.is_any_autocast_enabled():
            raise RuntimeError(other_dtype(state, f"hx{own}", data.dtype))
    return joined(program, states)


def _one_for_each(names: Sequence[str], hx: Any, kind: str) -> list[Tensor]:
    count, tensors = len(names), ", ".join(names)
    if isinstance(hx, (tuple, list)) and len(hx) == count:
        return [tensor_of(s, f"hx[{place}]", AttributeError) for place, s in enumerate(hx)]
    error: type[Exception] = TypeError
    if isinstance(hx, (tuple, list)):
        error = IndexError if len(hx) < count else RuntimeError
    raise error(
        f"{kind} expects {count} hidden states; hx: expected a tuple ({tensors}) of {count} "
        f"Tensors, got {describe_value(hx)}"
    )


def _check_ranks(states: Sequence[Tensor], rank: int, kind: str, form: str) -> None:
    ranks = [state.ndim for state in states]
    if all(one == rank for one in ranks):
        return
    if not form:
        raise ValueError(f"{kind}Cell: Expected hidden to be {rank}D, got {ranks}D instead")
    if len(ranks) == 1:
        which, found = "hx", f"{ranks[0]}-D tensor"
    else:
        which = "the states in hx"
        found = f"({', '.join(f'{one}-D' for one in ranks)}) tensors"
    raise RuntimeError(f"For {form} input, {which} should also be {rank}-D but got {found}")


def _check_size(state: Tensor, shape: tuple[int, ...], place: int, own: str, form: str) -> None:
    if state.shape == shape:
        return
    if form:
        raise RuntimeError(f"Expected hidden{own} size {shape}, got {list(state.shape)}")
    if state.shape[:-1] != shape[:-1]:
        raise RuntimeError(
            f"Input batch size {shape[0]} doesn't match hidden{place} batch size {state.size(0)}"
        )
    raise RuntimeError(
        f"hidden{place} has inconsistent hidden_size: got {state.size(-1)}, expected {shape[-1]}"
    )
