"""The checks of initial states: ``hx`` of the layers and of the cells."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .checks import describe_value, other_device, other_dtype, tensor_of
from .spec import Spec, cell_of


def layer_states(cell: str, hx: Any, rank: int | None) -> tuple[Any, Any]:
    """h_0 and c_0, or None, out of ``hx``, with as many dimensions as the input.

    ``rank`` is the input's, None if that is packed.

    Raises
    ------
    RuntimeError
        Another number of dimensions, or more than two states for an LSTM.
    AttributeError, TypeError, IndexError
        ``hx`` is of the wrong kind.
    """
    if hx is None:
        return None, None
    if len(cell_of(cell).states) == 1:
        ranks = [tensor_of(hx, "hx", AttributeError).ndim]
        states, which, found = (hx, None), "hx", f"{ranks[0]}-D tensor"
    else:
        states = _layer_state_pair(hx, rank)
        ranks = [tensor_of(s, f"hx[{k}]", AttributeError).ndim for k, s in enumerate(states)]
        which, found = "hx and cx", "({}-D, {}-D) tensors".format(*ranks)
    if rank is not None and any(one != rank for one in ranks):
        form = "batched" if rank == 3 else "unbatched"
        raise RuntimeError(
            f"For {form} {rank}-D input, {which} should also be {rank}-D but got {found}"
        )
    return states


def _layer_state_pair(hx: Any, rank: int | None) -> tuple[Any, Any]:
    """The LSTM layer's (h_0, c_0) out of ``hx``.

    torch takes ``hx[0]`` and ``hx[1]`` of whatever it is given. So one Tensor stacked from both
    states works there for an unbatched input, and works here; anything else that is no pair fails
    there in a way that depends on its length, and raises the same types here.
    """
    words = ""
    if isinstance(hx, (tuple, list)):
        if len(hx) == 2:
            return hx[0], hx[1]
        error: type[Exception] = IndexError
        if len(hx) > 2:
            error, words = RuntimeError, "lstm expects two hidden states; "
    elif not isinstance(hx, Tensor):
        error = AttributeError if hasattr(hx, "__getitem__") else TypeError
    elif rank is None:
        error = TypeError
    elif hx.dim() == 0 or len(hx) < 2:
        error = IndexError
    elif hx.dim() != rank + 1 or (rank == 2 and len(hx) == 2):
        return hx[0], hx[1]
    else:
        error = TypeError
    raise error(f"{words}hx: expected a tuple (h_0, c_0) of two Tensors, got {describe_value(hx)}")


def check_layer_states(spec: Spec, h: Tensor, c: Tensor | None, batch: int) -> None:
    """h_0 [L*D, B, K] and c_0 [L*D, B, H]; RuntimeError if one has another size."""
    count = spec.num_layers * spec.directions
    size = (count, batch, spec.out)
    if h.shape != size:
        hidden = "hidden" if c is None else "hidden[0]"
        raise RuntimeError(f"Expected {hidden} size {size}, got {list(h.shape)}")
    size = (count, batch, spec.widths[-1])
    if c is not None and c.shape != size:
        raise RuntimeError(f"Expected hidden[1] size {size}, got {list(c.shape)}")


def cell_states(cell: str, hx: Any, rank: int) -> tuple[Any, Any]:
    """The cell's h and c, or None, out of ``hx``, each with one dimension or two.

    ``rank`` is the input's. What is no pair fails in other ways than it does for a layer.

    Raises
    ------
    ValueError
        Another number of dimensions.
    RuntimeError, AttributeError, TypeError
        ``hx`` is of the wrong kind.
    """
    if hx is None:
        return None, None
    kind, _, states, *_ = cell_of(cell)
    if len(states) == 1:
        _check_cell_rank(hx, "hx", f"{kind}Cell: Expected hidden")
        return hx, None
    error: type[Exception] = AttributeError if hasattr(hx, "__iter__") else TypeError
    words = ""
    if isinstance(hx, (tuple, list, Tensor)):
        for place, state in enumerate(hx):
            _check_cell_rank(state, f"hx[{place}]", f"{kind}Cell: Expected hx[{place}]")
        # Of what comes with one sequence torch takes hx[0] and hx[1], whatever comes behind.
        is_taken = rank == 1 and (not isinstance(hx, Tensor) or hx.ndim == 2)
        if isinstance(hx, Tensor):
            error, is_pair = TypeError, is_taken and len(hx) >= 2
        else:
            error, is_pair = RuntimeError, len(hx) == 2 or (is_taken and len(hx) > 2)
            words = "lstm_cell expects two hidden states; "
        if is_pair:
            return hx[0], hx[1]
        if is_taken:
            error = IndexError
    raise error(f"{words}hx: expected a tuple (h, c) of two Tensors, got {describe_value(hx)}")


def _check_cell_rank(state: Any, name: str, words: str) -> None:
    rank = tensor_of(state, name, AttributeError).ndim
    if rank not in (1, 2):
        raise ValueError(f"{words} to be 1D or 2D, got {rank}D instead")


def check_cell_states(spec: Spec, h: Tensor, c: Tensor | None, data: Tensor) -> None:
    """A cell's states, [B, H], or [H] for one sequence.

    Raises
    ------
    RuntimeError
        One has another size; IndexError, as in torch, where a dimension is missing.
    """
    states = (h,) if c is None else (h, c)
    for place, (state, units) in enumerate(zip(states, spec.widths, strict=True)):
        shape = (*data.shape[:-1], units)
        if state.shape == shape:
            continue
        batch = (1, *shape)[-2]
        given = state if data.ndim == 2 else state[None]
        if given.size(0) != batch:
            raise RuntimeError(
                f"Input batch size {batch} doesn't match hidden{place} batch size {given.size(0)}"
            )
        if given.size(1) != units:
            raise RuntimeError(
                f"hidden{place} has inconsistent hidden_size: got {given.size(1)}, expected {units}"
            )
        raise RuntimeError(f"hx: expected size {shape}, got {list(state.shape)}")


def check_devices(h: Tensor | None, c: Tensor | None, data: Tensor) -> None:
    """RuntimeError where a state is not on the device of ``data``."""
    for name, state in _named(h, c):
        if state.device != data.device:
            raise RuntimeError(other_device("hidden", state, name, data))


def check_dtypes(h: Tensor | None, c: Tensor | None, data: Tensor) -> None:
    """RuntimeError where a state has another dtype than ``data``."""
    for name, state in _named(h, c):
        if state.dtype is not data.dtype:
            raise RuntimeError(other_dtype(state, name, data.dtype))


def _named(h: Tensor | None, c: Tensor | None) -> list[tuple[str, Tensor]]:
    """The states that there are, with their names in messages."""
    if h is None:
        return []
    return [("hx", h)] if c is None else [("hx[0]", h), ("hx[1]", c)]
