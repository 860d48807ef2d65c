"""Every check of an argument and every message about one, for the layers and the cells.

What reaches the engine is read through raw addresses, so nothing may pass here whose shape, dtype
or device the engine would have to trust. The type of each exception is the one that ``torch.nn``
raises for the same mistake, and where torch has a sentence for it (those of torch 2.13), the
message begins with that sentence. The checks come in torch's order, so that of two mistakes both
name the same. The good path is a few attribute reads and tuple comparisons; whatever needs a loop
or a string to explain itself happens only after a comparison has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from .. import _torch
from .._autograd.direct import make_direct
from .._engine import cuda, native
from ..variants import check_directions
from .layout import weights_of
from .precision import REDUCED
from .spec import GATES, PLAIN, Spec, Variant

DTYPES = (torch.float32, torch.float64, *REDUCED)
CELL_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")
KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
"""What torch's messages call the layers; the cells are the same with "Cell" behind."""


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
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, size in sizes.items():
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero, got {size}")
    if proj_size < 0:
        raise ValueError(
            f"proj_size should be a positive integer or zero to disable projections, "
            f"got {proj_size}"
        )
    if proj_size >= hidden_size:
        raise ValueError(
            f"proj_size has to be smaller than hidden_size = {hidden_size}, got {proj_size}"
        )
    if not 0 <= dropout <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout}")
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
    """The plan of a single step, of any number of features and units, as of torch's cells.

    Its weights go by the names of the cell functions' arguments.
    """
    spec = Spec(
        cell=cell,
        input_size=input_size,
        hidden_size=hidden_size,
        proj_size=0,
        num_layers=1,
        bidirectional=False,
        bias=bias,
        dropout=0.0,
        variant=variant or PLAIN,
    )
    shapes = tuple(shape for _, shape in weights_of(spec))
    names = (*(CELL_WEIGHTS if bias else CELL_WEIGHTS[:2]), "w_ch")[: len(shapes)]
    direct = make_direct(spec, one_step=True) if input_size and hidden_size else None
    return Plan(spec, shapes, names, direct)


def sizes_of(cell: str, w_ih: Any, name: str) -> tuple[int, int]:
    """(input_size, hidden_size) as the shape of a layer's first weight tells them."""
    shape = tensor_of(w_ih, name, TypeError).shape
    gates = GATES[cell]
    if len(shape) != 2 or shape[0] % gates:
        raise RuntimeError(
            f"{name}: expected shape ({gates} * hidden_size, input_size), got {tuple(shape)}"
        )
    return shape[1], shape[0] // gates


def cell_sizes_of(w_ih: Any, w_hh: Any) -> tuple[int, int]:
    """(input_size, hidden_size) as torch's cells take them from both weights."""
    for weight, name in ((w_ih, "w_ih"), (w_hh, "w_hh")):
        if tensor_of(weight, name, TypeError).dim() != 2:
            raise RuntimeError(f"{name}: expected 2 dimensions, got {tuple(weight.shape)}")
    return w_ih.shape[1], w_hh.shape[1]


def check_weights(plan: Plan, weights: Sequence[Tensor], like: Tensor) -> None:
    """All weights there, of the plan's shapes, and of a dtype and device that ``like`` shares.

    Raises
    ------
    TypeError
        A weight is None or no Tensor.
    RuntimeError
        The count, a shape, a dtype or a device is wrong.
    NotImplementedError
        The engine has no kernels for this dtype or device.
    """
    dtype, on_cpu = like.dtype, like.is_cpu
    try:
        for weight, shape in zip(weights, plan.shapes, strict=True):
            if weight.shape != shape or weight.dtype is not dtype or weight.is_cpu != on_cpu:
                break
        else:
            if on_cpu or all(weight.device == like.device for weight in weights):
                return _check_kernels(like, plan.spec)
    except (AttributeError, ValueError):
        pass
    _explain_weights(plan, weights, like)


def _explain_weights(plan: Plan, weights: Sequence[Any], like: Tensor) -> NoReturn:
    if len(weights) != len(plan.shapes):
        raise RuntimeError(
            f"{_other_count(plan, len(weights))}; weights: expected {len(plan.shapes)} Tensors "
            f"for {plan.spec}, got {len(weights)}"
        )
    for weight, shape, name in zip(weights, plan.shapes, plan.names, strict=True):
        tensor_of(weight, name, TypeError)
        if weight.shape != shape:
            words = f"{name}: expected shape {shape}, got {tuple(weight.shape)}"
            if name in CELL_WEIGHTS[:2] and weight.dim() == 2:
                words = (
                    f"weight{name[1:]} first dim must be {GATES[plan.spec.cell]} * hidden_size = "
                    f"{shape[0]}, but got {weight.shape[0]}; {words}"
                )
            raise RuntimeError(words)
        if weight.device != like.device:
            raise RuntimeError(other_device("parameter", weight, name, like))
        if weight.dtype is not like.dtype and weight is weights[0]:
            raise RuntimeError(other_dtype(like, "input", weight.dtype))
        if weight.dtype is not like.dtype:
            raise RuntimeError(f"{name}: expected {like.dtype} as input has, got {weight.dtype}")
    raise AssertionError("check_weights and _explain_weights disagree")


def _other_count(plan: Plan, count: int) -> str:
    """What torch says of a wrong number of weights, which it counts in sets of a direction."""
    directions = 2 if plan.spec.bidirectional else 1
    of_one = len(plan.shapes) // (plan.spec.num_layers * directions)
    if count % of_one:
        return "got an incorrect number of RNN parameters"
    if count // of_one % directions:
        return "Odd number of params or hiddens given to a bidirectional RNN"
    return "Expected more weights in stacked_rnn"


def check_input(
    data: Tensor, plan: Plan, weights: Sequence[Any], mismatch: type[Exception]
) -> None:
    """The dtype and the features that a layer's first weight asks for.

    Another dtype is an error of type ``mismatch``. Under autocast, where torch's layers do not look
    before a matrix product fails, it is a RuntimeError; so is a wrong number of features.
    """
    weight = tensor_of(weights[0], plan.names[0], AttributeError)
    if data.dtype is not weight.dtype:
        if mismatch is RuntimeError or _torch.is_any_autocast_enabled():
            raise RuntimeError(other_dtype(data, "input", weight.dtype))
        raise mismatch(
            f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype}). Convert "
            f"input: input.to({weight.dtype}), or convert model: model.to({data.dtype})"
        )
    if data.shape[-1] != plan.spec.input_size:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. "
            f"Expected {plan.spec.input_size}, got {data.shape[-1]}"
        )


def check_cell_input(data: Tensor, plan: Plan) -> None:
    """RuntimeError where a cell's input has another number of features than its weights ask for."""
    if data.shape[-1] != plan.spec.input_size:
        raise RuntimeError(
            f"input has inconsistent input_size: got {data.shape[-1]} "
            f"expected {plan.spec.input_size}"
        )


def _check_kernels(data: Tensor, spec: Spec) -> None:
    """NotImplementedError where this build computes nothing of this dtype, or on this device."""
    if not (data.is_cpu or data.is_meta):
        _check_device(data, spec)
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


def check_rank(input: Any, cell: str, ranks: tuple[int, int], suffix: str = "") -> int:
    """The number of dimensions of a layer's ``input``, or with ``suffix`` "Cell" a cell's.

    Raises
    ------
    AttributeError
        It is no Tensor.
    ValueError
        The number is not one of ``ranks``.
    """
    rank: int = tensor_of(input, "input", AttributeError).ndim
    if rank not in ranks:
        kind = KINDS[cell] + suffix
        what = "D tensor" if kind == "RNN" else "D"
        raise ValueError(
            f"{kind}: Expected input to be {ranks[0]}D or {ranks[1]}D, got {rank}{what} instead"
        )
    return rank


def tensor_of(value: Any, name: str, error: type[Exception]) -> Tensor:
    """``value``, or an ``error`` where it is no Tensor."""
    if isinstance(value, Tensor):
        return value
    raise error(f"{name}: expected a Tensor, got {describe_value(value)}")


def describe_value(value: Any) -> str:
    """The type of ``value``, and the size if it has one."""
    if isinstance(value, Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return type(value).__name__


def other_dtype(value: Tensor, name: str, dtype: torch.dtype) -> str:
    """What is said of another dtype than the weights', by torch where a product fails."""
    got, expected = (torch.empty(0, dtype=one, device="cpu").type() for one in (value.dtype, dtype))
    got, expected = (one.removesuffix("Tensor").rpartition(".")[2] for one in (got, expected))
    return (
        f"mat1 and mat2 must have the same dtype, but got {got} and {expected}; "
        f"{name}: expected {dtype} as the weights have, got {value.dtype}; "
        f"convert it with .to({dtype}) or the module with .to({value.dtype})"
    )


def other_device(kind: str, value: Tensor, name: str, data: Tensor) -> str:
    """What is said of a "hidden" or "parameter" tensor that is not where the input is."""
    return (
        f"Input and {kind} tensors are not at the same device, found input tensor at "
        f"{data.device} and {kind} tensor at {value.device}; {name}: expected a Tensor on "
        f"{data.device}"
    )
