"""The checks of options, weights and input, for the layers and the cells, and words for messages.

What reaches the engine is read through raw addresses, so nothing may pass here whose shape, dtype
or device the engine would have to trust. The type of each exception is the one that ``torch.nn``
raises for the same mistake, and where torch has a sentence for it (those of torch 2.13), the
message begins with that sentence. The checks come in torch's order, so that of two mistakes both
name the same. The good path is a few attribute reads and tuple comparisons; whatever needs a loop
or a string to explain itself happens only after a comparison has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from .. import _torch
from .spec import Spec, cell_of
from .weights import Expected, Weights


def check_sizes(
    input_size: int, hidden_size: int, proj_size: int, num_layers: int, dropout: float
) -> None:
    """The numbers that a stack of layers is made of.

    Raises
    ------
    ValueError
        A size is out of range.
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


def check_module(model: Any) -> None:
    """TypeError for what is no module, with or without layers in it."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {describe_value(model)}")


def rnn_cell_of(nonlinearity: str) -> str:
    """The cell of this nonlinearity; RuntimeError, as torch's cell raises it, for another."""
    if nonlinearity not in ("tanh", "relu"):
        raise RuntimeError(f"Unknown nonlinearity: {nonlinearity}; expected 'tanh' or 'relu'")
    return f"rnn_{nonlinearity}"


def sizes_of(cell: str, w_ih: Any, name: str) -> tuple[int, int]:
    """(input_size, hidden_size) as the shape of a layer's first weight tells them."""
    shape = tensor_of(w_ih, name, TypeError).shape
    gates = len(cell_of(cell).gates)
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


def check_weights(expected: Expected, weights: Sequence[Tensor], like: Tensor) -> None:
    """All weights there, of the expected shapes, and of a dtype and device that ``like`` shares.

    Raises
    ------
    TypeError
        A weight is None or no Tensor.
    RuntimeError
        The count, a shape, a dtype or a device is wrong.
    """
    dtype, on_cpu = like.dtype, like.is_cpu
    try:
        for weight, shape in zip(weights, expected.shapes, strict=True):
            if weight.shape != shape or weight.dtype is not dtype or weight.is_cpu != on_cpu:
                break
        else:
            if on_cpu or all(weight.device == like.device for weight in weights):
                return
    except (AttributeError, ValueError):
        pass
    _explain_weights(expected, weights, like)


def _explain_weights(expected: Expected, weights: Sequence[Any], like: Tensor) -> NoReturn:
    spec = expected.spec
    if len(weights) != len(expected.shapes):
        raise RuntimeError(
            f"{_other_count(expected, len(weights))}; weights: expected {len(expected.shapes)} "
            f"Tensors for {replace(spec, cell=spec.name)}, got {len(weights)}"
        )
    for weight, shape, name in zip(weights, expected.shapes, expected.names, strict=True):
        tensor_of(weight, name, TypeError)
        if weight.shape != shape:
            words = f"{name}: expected shape {shape}, got {tuple(weight.shape)}"
            if name in Weights._fields[:2] and weight.dim() == 2:
                words = (
                    f"weight{name[1:]} first dim must be {len(spec.gates)} * "
                    f"hidden_size = {shape[0]}, but got {weight.shape[0]}; {words}"
                )
            raise RuntimeError(words)
        if weight.device != like.device:
            raise RuntimeError(other_device("parameter", weight, name, like))
        if weight.dtype is not like.dtype and weight is weights[0]:
            raise RuntimeError(other_dtype(like, "input", weight.dtype))
        if weight.dtype is not like.dtype:
            raise RuntimeError(f"{name}: expected {like.dtype} as input has, got {weight.dtype}")
    raise AssertionError("check_weights and _explain_weights disagree")


def _other_count(expected: Expected, count: int) -> str:
    """What torch says of a wrong number of weights, which it counts in sets of a direction."""
    directions = expected.spec.directions
    of_one = len(expected.shapes) // (expected.spec.num_layers * directions)
    if count % of_one:
        return "got an incorrect number of RNN parameters"
    if count // of_one % directions:
        return "Odd number of params or hiddens given to a bidirectional RNN"
    return "Expected more weights in stacked_rnn"


def check_input(
    data: Tensor, expected: Expected, weights: Sequence[Any], mismatch: type[Exception]
) -> None:
    """The dtype and the features that a layer's first weight asks for.

    Another dtype is an error of type ``mismatch``. Under autocast, where torch's layers do not look
    before a matrix product fails, it is a RuntimeError; so is a wrong number of features.
    """
    weight = tensor_of(weights[0], expected.names[0], AttributeError)
    if data.dtype is not weight.dtype:
        if mismatch is RuntimeError or _torch.is_any_autocast_enabled():
            raise RuntimeError(other_dtype(data, "input", weight.dtype))
        raise mismatch(
            f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype}). Convert "
            f"input: input.to({weight.dtype}), or convert model: model.to({data.dtype})"
        )
    check_features(data, expected.spec.data_size)


def check_features(data: Tensor, size: int) -> None:
    """RuntimeError where a layer's input has another number of features than ``size``."""
    if data.shape[-1] != size:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {size}, got {data.shape[-1]}"
        )


def check_cell_input(data: Tensor, spec: Spec) -> None:
    """RuntimeError where a cell's input has another number of features than its weights ask for."""
    if data.shape[-1] != spec.data_size:
        raise RuntimeError(
            f"input has inconsistent input_size: got {data.shape[-1]} expected {spec.data_size}"
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
        kind = cell_of(cell).kind + suffix
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
