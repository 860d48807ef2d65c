"""Layers and calls for the tests of frozen ones, and what int8 computes in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import program_cells
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.overrides import TorchFunctionMode

import fastrnn
from fastrnn import reference
from fastrnn._engine import backends

FORMATS = ("float32", "bfloat16", "int8")


def _normed(kind: str, *sizes: int, **options: Any) -> Any:
    """A layer whose norms have learned something.

    A small deviation of what they normalise would multiply its rounding: eps is no small number.
    """
    layer = getattr(fastrnn, kind)(*sizes, layer_norm_eps=0.1, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("norm_"):
                parameter += torch.randn_like(parameter) / 4
    return layer


LAYERS: dict[str, Any] = {
    "lstm": lambda: fastrnn.LSTM(5, 37, num_layers=2, bidirectional=True),
    "projected": lambda: fastrnn.LSTM(16, 40, num_layers=2, proj_size=11),
    "peepholes": lambda: fastrnn.LSTM(5, 19, peephole="ifo", initial_state=True),
    "gru": lambda: fastrnn.GRU(33, 70, batch_first=True),
    "reset before": lambda: fastrnn.GRU(7, 21, reset_after=False, bias=False),
    "tanh": lambda: fastrnn.RNN(9, 66, bidirectional=True),
    "relu": lambda: fastrnn.RNN(300, 33, nonlinearity="relu"),
    "late": lambda: fastrnn.Recurrent(program_cells.MGU, 6, 35, num_layers=2),
    "chained": lambda: fastrnn.Recurrent(program_cells.Chained, 6, 13, bidirectional=True),
    "heads": lambda: fastrnn.Recurrent(program_cells.SLSTM, 7, 45, num_heads=9),
    "no product": lambda: fastrnn.Recurrent(program_cells.MinGRU, 7, 12),
    "per step": lambda: fastrnn.Recurrent(program_cells.Decayed, 4, 20),
    "zoneout": lambda: fastrnn.LSTM(6, 21, num_layers=2, zoneout=(0.1, 0.3), peephole="ifo"),
    "state normed": lambda: _normed("GRU", 9, 34, bidirectional=True, layer_norm="recurrent"),
    "cell normed": lambda: _normed("LSTM", 5, 19, layer_norm_cell="carried", initial_state=True),
    "input normed": lambda: _normed("GRU", 8, 27, layer_norm="input", layer_norm_over="gate"),
    "both normed": lambda: _normed(
        "LSTM", 7, 18, num_layers=2, bidirectional=True, layer_norm="both"
    ),
}
"""By what is special about them; sizes are no multiples of a vector or a group of weights."""

TO_ROUNDING = ("input normed", "both normed")
"""Those that a frozen layer computes in another order than the layer."""


def inputs_of(layer: Any, T: int, B: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A random input, and what else the layer wants at each step."""
    sizes = (B, T) if layer.batch_first else (T, B)
    program = getattr(layer, "program", None)
    names = [] if program is None else [name for name, _ in program.inputs]
    return torch.randn(*sizes, layer.input_size), {name: torch.rand(*sizes) for name in names}


def state_of(layer: Any, B: int) -> Any:
    """A random ``hx``, beyond 1 in places."""
    with torch.no_grad():
        x, more = inputs_of(layer, 1, B)
        _, state = layer(x, **more)
    if isinstance(state, Tensor):
        return 2 * torch.randn_like(state)
    return tuple(2 * torch.randn_like(one) for one in state)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of what a layer returns, in their order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PackedSequence):
        return [value.data]
    return [tensor for part in value for tensor in tensors_in(part)]


def assert_equal(got: Any, expected: Any) -> None:
    """The same bits."""
    pairs = list(zip(tensors_in(got), tensors_in(expected), strict=True))
    assert pairs
    assert all(torch.equal(a, b) for a, b in pairs)


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    """Relative to each tensor's largest magnitude, or to 1."""
    for a, b in zip(tensors_in(got), tensors_in(expected), strict=True):
        largest = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a, b.to(a.dtype), rtol=0, atol=tolerance * largest)


def ways_of(layer: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Positional and named arguments of calls of every kind."""
    T, B = 6, 5
    x, more = inputs_of(layer, T, B)
    hx = state_of(layer, B)
    yield (x,), more
    yield (x, hx), more
    resets = torch.rand(x.shape[:2]) < 0.3
    lengths = torch.tensor([3, 6, 1, 0, 5])
    yield (x, hx), {"lengths": lengths, "resets": resets, "return_states": True, **more}
    one, of_one = inputs_of(layer, 1, 1)
    yield (one,), of_one
    few, of_few = inputs_of(layer, 1, 3)
    yield (few, state_of(layer, 3)), of_few
    if not more:
        alone = x[0] if layer.batch_first else x[:, 0]
        yield (alone,), {}
        packed = pack_padded_sequence(
            x, torch.tensor([3, 6, 1, 2, 5]), layer.batch_first, enforce_sorted=False
        )
        yield (packed, hx), {}


class _RoundedRows(TorchFunctionMode):
    """The left-hand operand of every product is rounded as int8 rounds rows."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in (Tensor.matmul, Tensor.__matmul__, torch.nn.functional.linear):
            args = (rounded_rows(args[0]), *args[1:])
        elif function is torch.einsum:
            equation, inner, *rest = args
            rows = rounded_rows(inner.flatten(1)).reshape(inner.shape)
            args = (equation, rows, *rest)
        return function(*args, **(kwargs or {}))


def rounded_rows(x: Tensor) -> Tensor:
    """Rows rounded to integers from -127 to 127 of a scale of each, as float32 does it."""
    single = x.float()
    scale = single.abs().amax(-1, keepdim=True) / 127
    return ((single / scale).round().nan_to_num() * scale).to(x.dtype)


@contextmanager
def int8_equations() -> Iterator[None]:
    """Calls are computed by the equations, with rows rounded as int8 rounds them."""
    real, calls = reference.rnn, 0

    def rnn(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        with _RoundedRows():
            return real(*arguments, **keywords)

    # The outer mode sees what is multiplied ahead of the steps, and no more.
    with backends.using("reference"), mock.patch.object(reference, "rnn", rnn), _RoundedRows():
        yield
    assert calls
