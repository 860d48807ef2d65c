"""Every check of an argument and every message about one, for the layers and the cells.

What reaches the engine is read through raw addresses, so nothing may pass here whose shape, dtype
or device the engine would have to trust. The type of each exception is the one that ``torch.nn``
raises for the same mistake. The good path is a few attribute reads and tuple comparisons;
whatever needs a loop or a string to explain itself happens only after a comparison has failed.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from . import _torch, cuda, native
from .direct import make_direct
from .layout import weights_of
from .precision import REDUCED
from .spec import GATES, PLAIN, Spec, Variant
from .variants import check_directions

DTYPES = (torch.float32, torch.float64, *REDUCED)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
CELL_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


class Plan(NamedTuple):
    """What one set of options asks of the weights, and its short way; made once for each set."""

    spec: Spec
    shapes: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    direct: Callable[..., Any] | None


@lru_cache(maxsize=1024)
def layer_plan(
    cell: str,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    dropout: float,
    variant: Variant | None = None,
) -> Plan:
    """The plan of a stack of layers.

    Raises
    ------
    ValueError
        A size is out of range, or both directions are to be reversed.
    RuntimeError
        ``dropout`` is no probability.
    """
    for name, size in (
        ("input_size", input_size),
        ("hidden_size", hidden_size),
        ("num_layers", num_layers),
    ):
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero, got {size}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"proj_size must be at least 0 and smaller than hidden_size = {hidden_size}, "
            f"got {proj_size}"
        )
    if not 0 <= dropout <= 1:
        raise RuntimeError(f"dropout: expected a probability between 0 and 1, got {dropout}")
    check_directions(variant, bidirectional)
    spec = Spec(
        cell=cell,
        input_size=input_size,
        hidden_size=hidden_size,
        proj_size=proj_size,
        num_layers=num_layers,
        bidirectional=bool(bidirectional),
        bias=bool(bias),
        dropout=float(dropout),
        variant=variant or PLAIN,
    )
    weights = weights_of(spec)
    names = tuple(f"weights[{i}] ({name})" for i, (name, _) in enumerate(weights))
    return Plan(spec, tuple(shape for _, shape in weights), names, make_direct(spec))


@lru_cache(maxsize=256)
def cell_plan(
    cell: str, input_size: int, hidden_size: int, bias: bool, variant: Variant | None = None
) -> Plan:
    """The plan of a single step; its weights go by the names of the cell functions' arguments."""
    make_plan = layer_plan.__wrapped__ if torch.compiler.is_dynamo_compiling() else layer_plan
    plan = make_plan(cell, input_size, hidden_size, 0, 1, bias, False, 0.0, variant)
    names = (*(CELL_WEIGHTS if bias else CELL_WEIGHTS[:2]), "w_ch")[: len(plan.shapes)]
    return Plan(plan.spec, plan.shapes, names, make_direct(plan.spec, one_step=True))


def sizes_of(cell: str, w_ih: Any, name: str) -> tuple[int, int]:
    """(input_size, hidden_size) as the shape of the first weight tells them."""
    shape = _tensor(w_ih, name, TypeError).shape
    gates = GATES[cell]
    if len(shape) != 2 or shape[0] % gates:
        raise RuntimeError(
            f"{name}: expected shape ({gates} * hidden_size, input_size), got {tuple(shape)}"
        )
    return shape[1], shape[0] // gates


def check_weights(plan: Plan, weights: Sequence[Tensor], like: Tensor) -> None:
    """All weights there, of the plan's shapes, and of the dtype and device of ``like``.

    Raises
    ------
    TypeError
        A weight is None or no Tensor.
    RuntimeError
        The count, a shape, a dtype or a device is wrong.
    """
    dtype, on_cpu = like.dtype, like.is_cpu
    try:
        for weight, shape in zip(weights, plan.shapes, strict=True):
            if weight.shape != shape or weight.dtype is not dtype or weight.is_cpu != on_cpu:
                break
        else:
            if on_cpu or all(weight.device == like.device for weight in weights):
                return
    except (AttributeError, ValueError):
        pass
    _explain_weights(plan, weights, like)


def _explain_weights(plan: Plan, weights: Sequence[Any], like: Tensor) -> NoReturn:
    if len(weights) != len(plan.shapes):
        raise RuntimeError(
            f"weights: expected {len(plan.shapes)} Tensors for {plan.spec}, got {len(weights)}"
        )
    for weight, shape, name in zip(weights, plan.shapes, plan.names, strict=True):
        _tensor(weight, name, TypeError)
        if weight.shape != shape:
            raise RuntimeError(f"{name}: expected shape {shape}, got {tuple(weight.shape)}")
        _same_device(weight, name, like)
        if weight.dtype is not like.dtype:
            raise RuntimeError(f"{name}: expected {like.dtype} as input has, got {weight.dtype}")
    raise AssertionError("check_weights and _explain_weights disagree")


def check_input(
    data: Tensor, plan: Plan, weights: Sequence[Any], mismatch: type[Exception]
) -> None:
    """The features, the dtype and the device that the first weight asks for.

    Another dtype is an error of type ``mismatch``. Under autocast, where torch's layers do not look
    before a matrix product fails, it is a RuntimeError.

    Raises
    ------
    NotImplementedError
        The engine has no kernels for this dtype or device.
    RuntimeError
        Wrong number of features, or tensors on several devices.
    """
    weight = _tensor(weights[0], plan.names[0], AttributeError)
    if data.shape[-1] != plan.spec.input_size:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size: "
            f"expected {plan.spec.input_size}, got {data.shape[-1]}"
        )
    if data.dtype is not weight.dtype:
        error = RuntimeError if _torch.is_any_autocast_enabled() else mismatch
        raise error(_other_dtype(data, "input", weight.dtype))
    if not data.is_cpu or not weight.is_cpu:
        _same_device(data, "input", weight, plan.names[0])
    if not (data.is_cpu or data.is_meta):
        _check_device(data, plan.spec)
    if data.dtype not in DTYPES:
        raise NotImplementedError(
            f"input: expected one of {', '.join(map(str, DTYPES))}, got {data.dtype}"
        )


def _check_device(data: Tensor, spec: Spec) -> None:
    """NotImplementedError where this build has nothing that computes this on such a device."""
    if not data.is_cuda:
        raise NotImplementedError(
            f"input: fastrnn computes on the CPU and on CUDA devices, got a Tensor on {data.device}"
        )
    if not cuda.is_built():
        raise NotImplementedError(
            f"input: this build of fastrnn computes on the CPU, got a Tensor on {data.device}; "
            f"{cuda.HOW_TO_BUILD}"
        )
    if native.cell_name(spec) not in GATES:
        raise NotImplementedError(
            f"input: the CUDA kernels have torch's own cells and reverse=True, not {spec.variant}; "
            f"this layer computes on the CPU"
        )


def check_state(state: Tensor, name: str, shape: tuple[int, ...], data: Tensor) -> Tensor:
    """A state of exactly this shape with the dtype and device of ``data``; RuntimeError if not."""
    if state.shape != shape:
        raise RuntimeError(f"{name}: expected size {shape}, got {list(state.shape)}")
    _same_device(state, name, data)
    if state.dtype is not data.dtype:
        raise RuntimeError(_other_dtype(state, name, data.dtype))
    return state


def layer_state_pair(hx: Any, rank: int | None) -> tuple[Any, Any]:
    """The LSTM layer's (h_0, c_0) out of ``hx``, for an input of ``rank`` (None if packed).

    torch takes ``hx[0]`` and ``hx[1]`` of whatever it is given. So one Tensor stacked from both
    states works there for an unbatched input, and works here; anything else that is no pair fails
    there in a way that depends on its length, and raises the same types here.
    """
    if isinstance(hx, (tuple, list)):
        if len(hx) == 2:
            return hx[0], hx[1]
        error: type[Exception] = IndexError if len(hx) < 2 else RuntimeError
    elif not isinstance(hx, Tensor):
        error = AttributeError if hasattr(hx, "__getitem__") else TypeError
    elif rank is None:
        error = TypeError
    elif hx.dim() == 0 or len(hx) < 2:
        error = IndexError
    elif hx.dim() != rank + 1:
        error = RuntimeError
    elif rank == 2 and len(hx) == 2:
        return hx[0], hx[1]
    else:
        error = TypeError
    raise error(f"hx: expected a tuple (h_0, c_0) of two Tensors, got {_describe(hx)}")


def cell_state_pair(hx: Any, rank: int) -> tuple[Any, Any]:
    """The same for the LSTM cell, where other types fail in other ways."""
    if isinstance(hx, (tuple, list)):
        if len(hx) == 2:
            return hx[0], hx[1]
        error: type[Exception] = RuntimeError
    elif not isinstance(hx, Tensor):
        error = TypeError
    elif hx.dim() not in (2, 3):
        error = ValueError
    elif rank == 1 and hx.dim() == 2 and len(hx) == 2:
        return hx[0], hx[1]
    else:
        error = TypeError
    raise error(f"hx: expected a tuple (h, c) of two Tensors, got {_describe(hx)}")


def rank_of(value: Any, name: str) -> int:
    """``value.ndim``; AttributeError, as torch's own call of it raises, for what is no Tensor."""
    rank: int = _tensor(value, name, AttributeError).ndim
    return rank


def check_packed(
    data: Tensor, batch_sizes: Tensor, sorted_indices: Tensor | None, batch: int | None = None
) -> int:
    """The number of sequences in a packed batch whose indices are safe to follow.

    ``batch`` is what that number has to be, if something else has told it already.

    torch's own packing always makes such batches, but a PackedSequence is a tuple that anyone can
    fill, and the engine follows its numbers through memory.

    Raises
    ------
    RuntimeError
        The parts contradict each other.
    """
    if data.dim() != 2:
        raise RuntimeError(f"input: expected packed data of 2 dimensions, got {data.dim()}")
    _check_index(batch_sizes, "input.batch_sizes")
    sizes: list[int] = batch_sizes.tolist()
    if not sizes:
        raise RuntimeError("input: expected a sequence length larger than 0, got 0")
    if sizes[-1] < 1 or sizes != sorted(sizes, reverse=True) or sum(sizes) != len(data):
        raise RuntimeError(
            f"input.batch_sizes: expected positive sizes that never rise and add up to the "
            f"{len(data)} rows of input.data, got {reprlib.repr(sizes)}"
        )
    if batch is not None and sizes[0] != batch:
        raise RuntimeError(f"input.batch_sizes: expected {batch} sequences, got {sizes[0]}")
    if sorted_indices is not None and data.is_cuda:  # index_select looks at the values
        _check_index(sorted_indices, "input.sorted_indices", data.device)
    elif sorted_indices is not None:
        _check_index(sorted_indices, "input.sorted_indices")
        order = sorted_indices.tolist()
        if sorted(order) != list(range(sizes[0])):
            raise RuntimeError(
                f"input.sorted_indices: expected a permutation of {sizes[0]} sequences, "
                f"got {reprlib.repr(order)}"
            )
    return sizes[0]


def check_lengths(
    lengths: Any, steps: int, batch: int, device: torch.device, *, known: bool = True
) -> Tensor:
    """``lengths`` as a Tensor [B] int64 that is nobody else's, on the CPU or the CUDA ``device``.

    Where their values are not ``known`` yet, they are checked once they are. Values that already
    lie on a GPU are not checked, since the program would have to wait for them: there a length
    below 0 counts as 0 and one above T as T.

    Raises
    ------
    ValueError
        They are not one integer for each sequence, each of them 0 to T.
    """
    try:
        given = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device="cpu")
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"lengths: expected {batch} integers, got {lengths!r}") from None
    if given.dim() != 1 or given.shape[0] != batch:
        raise ValueError(
            f"lengths: expected shape {(batch,)}, one for each sequence, got {tuple(given.shape)}"
        )
    if given.dtype not in INTEGERS and batch > 0:
        raise ValueError(f"lengths: expected integers, got {given.dtype}")
    if given.is_cuda and device.type == "cuda":
        return given.to(device, torch.int64, copy=True, memory_format=torch.contiguous_format)
    checked = given.to("cpu", torch.int64, copy=True)
    values: list[int] = checked.tolist() if known else []
    if values and (min(values) < 0 or max(values) > steps):
        raise ValueError(
            f"lengths: expected numbers from 0 to the {steps} steps of input, "
            f"got {reprlib.repr(values)}"
        )
    return checked.to(device, non_blocking=True) if device.type == "cuda" else checked


def check_resets(resets: Any, shape: Sequence[int]) -> Tensor:
    """``resets`` if it is a bool Tensor of this shape, that of input without its features.

    Raises
    ------
    ValueError
        It is not.
    """
    flags = _tensor(resets, "resets", ValueError)
    if flags.dtype is not torch.bool:
        raise ValueError(f"resets: expected torch.bool, got {flags.dtype}; convert it with .bool()")
    if flags.shape != shape:
        raise ValueError(
            f"resets: expected shape {tuple(shape)}, that of input without its features, "
            f"got {tuple(flags.shape)}"
        )
    return flags


def check_absent(name: str, value: Any) -> None:
    """Refuse an argument that says again what a PackedSequence says, or cannot be packed with it.

    Raises
    ------
    ValueError
        It is there.
    """
    if value is not None:
        raise ValueError(
            f"{name}: expected None with a PackedSequence, got {_describe(value)}; "
            f"give a padded input instead, with lengths"
        )


def _check_index(index: Tensor, name: str, device: torch.device | None = None) -> None:
    device = device or torch.device("cpu")
    if index.dtype is not torch.int64 or index.dim() != 1 or index.device != device:
        raise RuntimeError(
            f"{name}: expected a one-dimensional torch.int64 Tensor on {device}, "
            f"got {_describe(index)} of {index.dtype} on {index.device}"
        )


def _tensor(value: Any, name: str, error: type[Exception]) -> Tensor:
    if isinstance(value, Tensor):
        return value
    raise error(f"{name}: expected a Tensor, got {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return type(value).__name__


def _other_dtype(value: Tensor, name: str, dtype: torch.dtype) -> str:
    return (
        f"{name}: expected {dtype} as the weights have, got {value.dtype}; "
        f"convert it with .to({dtype}) or the module with .to({value.dtype})"
    )


def _same_device(value: Tensor, name: str, like: Tensor, like_name: str = "input") -> None:
    if value.device != like.device:
        raise RuntimeError(
            f"{name}: expected a Tensor on {like.device} as {like_name} is, "
            f"got one on {value.device}"
        )
