"""Keras's dropout and recurrent_dropout as options of `fastrnn.regularised`, and back.

Keras draws a mask [B, I] and one [B, H] for all steps of a call. Its LSTM and GRU draw one for each
gate with ``implementation=1``, which ``recurrent_dropout`` brings about for both kinds of masks;
their z * h is not masked.
"""

from __future__ import annotations

from typing import Any

from ..regularised import NAMES, Regularised, make_regularised

__all__ = ["dropout_from_keras", "dropout_to_keras"]


def dropout_from_keras(kind: str, layer: Any) -> dict[str, Any]:
    """The options of our kind of layer for a layer or a cell of Keras's."""
    implementation = getattr(getattr(layer, "cell", layer), "implementation", 2)
    return _options(kind, layer.dropout, layer.recurrent_dropout, implementation == 1)


def dropout_to_keras(kind: str, own: Regularised | None) -> tuple[dict[str, float], list[str]]:
    """Keywords of Keras's layer, and what of ours it has nothing like."""
    if own is None:
        return {}, []
    like = make_regularised(kind, _options(kind, own.input_dropout, own.recurrent_dropout, False))
    like = like or Regularised()
    lacking = [
        f"{name}={getattr(own, name)!r}"
        for name in NAMES
        if getattr(own, name) != getattr(like, name)
    ]
    return {"dropout": own.input_dropout, "recurrent_dropout": own.recurrent_dropout}, lacking


def _options(kind: str, dropout: float, recurrent: float, apart: bool) -> dict[str, Any]:
    """``apart``: each gate has a mask of its own even without recurrent dropout."""
    gates = "separate" if kind != "RNN" and (recurrent or apart) else "tied"
    options: dict[str, Any] = {}
    if dropout:
        options |= {"input_dropout": dropout, "input_dropout_gates": gates}
    if recurrent:
        options |= {"recurrent_dropout": recurrent, "recurrent_dropout_gates": gates}
    return options
