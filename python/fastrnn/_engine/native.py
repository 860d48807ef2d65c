"""What the engine calls things."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from .. import _core, _torch
from .._call import written
from .._call.activations import own_activation
from .._call.spec import PLAIN, Spec, Variant
from .._program.lowering import engine_arguments
from .._program.program import Program

__all__ = ["DTYPES", "cell_and_program", "cell_name", "tensors"]

DTYPES = {torch.float32: _core.DType.float32, torch.float64: _core.DType.float64}
_CELLS = {
    "lstm": _core.Cell.lstm,
    "gru": _core.Cell.gru,
    "rnn_tanh": _core.Cell.rnn_tanh,
    "rnn_relu": _core.Cell.rnn_relu,
}
"""Those that are compiled; all others are programs."""


def cell_name(spec: Spec) -> str | None:
    """The cell of a spec as one of torch's wherever that computes the same; else None."""
    if spec.variant is PLAIN or spec.program is not None:
        return spec.cell if spec.cell in _CELLS else None
    return _plain(spec.cell, spec.variant)


def cell_and_program(spec: Spec) -> tuple[_core.Cell, _core.Program | None]:
    """The engine's cell for a spec, and the program if that is what it is."""
    name = cell_name(spec)
    if name is not None:
        return _CELLS[name], None
    text = spec.cell if spec.program is not None else written.program_of(spec.cell, spec.variant)
    return _core.Cell.program, _program(text, spec.hidden_size)


@lru_cache(maxsize=256)
def _plain(cell: str, variant: Variant) -> str | None:
    own = own_activation(cell, variant)
    if variant == replace(PLAIN, reverse=variant.reverse, activation=variant.activation):
        if cell.startswith("rnn") and f"rnn_{own}" in _CELLS:
            return f"rnn_{own}"
        if own == "tanh":
            return cell
    return None


@lru_cache(maxsize=256)
def _program(text: str, hidden_size: int) -> _core.Program:
    return _core.Program(**engine_arguments(Program.parse(text), hidden_size))


def tensors() -> _core.Tensors | None:
    """What reads and makes torch's tensors on the CPU; None if this torch has no such interface."""
    exchange_api = _torch.dlpack_exchange_api()
    return None if exchange_api is None else _tensors(exchange_api)


@lru_cache(maxsize=1)
def _tensors(exchange_api: object) -> _core.Tensors:
    plain, dtypes = (torch.Tensor, torch.nn.Parameter), (torch.float32, torch.float64)
    return _core.Tensors(exchange_api, plain, _torch.empty_strided_on_cpu, dtypes)
