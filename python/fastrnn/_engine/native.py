"""What the engine calls things."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from .. import _core, variants
from .._call import written
from .._call.spec import CELLS, PLAIN, Spec, Variant
from .._program.lowering import engine_arguments
from .._program.program import Program

__all__ = ["DTYPES", "cell_and_variant", "cell_name", "program_of"]

DTYPES = {torch.float32: _core.DType.float32, torch.float64: _core.DType.float64}
_CELLS = {
    "lstm": _core.Cell.lstm,
    "gru": _core.Cell.gru,
    "rnn_tanh": _core.Cell.rnn_tanh,
    "rnn_relu": _core.Cell.rnn_relu,
}


def _squash(text: str) -> _core.Squash:
    name, parameters = variants.parse_activation(text)
    if name == "identity":
        return _core.Squash(_core.Activation.affine, 1.0, 0.0)
    alpha, beta = (*parameters, 0.0, 0.0)[:2]
    return _core.Squash(getattr(_core.Activation, name.removesuffix("_onnx")), alpha, beta)


def _native_cell(cell: str, variant: Variant) -> _core.Cell:
    """The engine's cell: one of torch's wherever that computes the same, since those are faster."""
    own = variants.own_activation(cell, variant)
    if variant == replace(PLAIN, reverse=variant.reverse, activation=variant.activation):
        if cell.startswith("rnn") and f"rnn_{own}" in _CELLS:
            return _CELLS[f"rnn_{own}"]
        if own == "tanh":
            return _CELLS[cell]
    if cell == "lstm":
        return _core.Cell.lstm_variant
    if cell == "gru":
        return _core.Cell.gru_variant if variant.reset_after else _core.Cell.gru_reset_before
    return _core.Cell.rnn_variant


@lru_cache(maxsize=256)
def _native(cell: str, variant: Variant) -> tuple[_core.Cell, _core.Variant]:
    """What the engine calls this cell and this variant of it."""
    native = _core.Variant(
        _squash(variant.recurrent_activation),
        _squash(variants.own_activation(cell, variant)),
        _squash(variant.output_activation),
        variant.cell_clip,
        variant.input_forget,
        variant.peephole,
        variant.reverse,
    )
    return _native_cell(cell, variant), native


_PLAIN_CELLS = {cell: _native(cell, PLAIN) for cell in _CELLS}


def cell_and_variant(spec: Spec) -> tuple[_core.Cell, _core.Variant]:
    """The engine's names for the cell of a spec and for how it differs from torch's.

    Those of a program say whether it runs backwards: `program_of` is what such a call has.
    """
    if spec.program is not None:
        plain = _PLAIN_CELLS["rnn_tanh"]
        return _native("rnn_tanh", spec.variant) if spec.variant.reverse else plain
    return _PLAIN_CELLS[spec.cell] if spec.variant is PLAIN else _native(spec.cell, spec.variant)


def program_of(spec: Spec) -> _core.Program | None:
    """A program as the engine has it; None for the cells that are compiled."""
    if spec.program is not None:
        return _program(spec.cell, spec.hidden_size)
    return None if spec.variant is PLAIN else _of_variant(spec.cell, spec.variant, spec.hidden_size)


@lru_cache(maxsize=256)
def _of_variant(cell: str, variant: Variant, hidden_size: int) -> _core.Program | None:
    if _native_cell(cell, variant).name in CELLS:
        return None
    return _program(written.program_of(cell, variant), hidden_size)


@lru_cache(maxsize=256)
def _program(text: str, hidden_size: int) -> _core.Program:
    return _core.Program(**engine_arguments(Program.parse(text), hidden_size))


def cell_name(spec: Spec) -> str:
    """The engine's name for the cell of a spec: one of torch's wherever that computes the same."""
    plain = spec.variant is PLAIN
    return spec.cell if plain else _native_cell(spec.cell, spec.variant).name
