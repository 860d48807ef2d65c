"""Keras's dropout and recurrent_dropout as options of `fastrnn.regularised`, and back.

Keras draws a mask [B, I] and one [B, H] for all steps of a call. Its LSTM and GRU draw one for each
gate with ``implementation=1``, which ``recurrent_dropout`` brings about for both kinds of masks;
z * h is not masked. Before Keras 3.5 or so there was one for all gates, and for z * h.
"""

from __future__ import annotations

from typing import Any

from ..regularised import NAMES, Regularised, make_regularised
from .keras_activations import is_version_2, package_of

__all__ = ["dropout_from_keras", "dropout_to_keras"]


def dropout_from_keras(kind: str, layer: Any) -> dict[str, Any]:
    """The options of our kind of layer for a layer or a cell of Keras's.

    Raises
    ------
    ValueError
        It is a GRU of an early Keras 3, which masks z * h, too.
    """
    cell = getattr(layer, "cell", layer)
    if is_version_2(package_of(layer)):
        apart = getattr(cell, "implementation", 2) == 1
    else:
        apart = hasattr(cell, "dropout_mask_count")
        if kind == "GRU" and layer.recurrent_dropout and not apart:
            raise ValueError(
                "layer.recurrent_dropout: expected 0 of a GRU of this version of Keras, whose mask "
                f"is that of z * h, too, got {layer.recurrent_dropout}"
            )
    return _options(kind, layer.dropout, layer.recurrent_dropout, apart)


def dropout_to_keras(kind: str, own: Regularised | None) -> tuple[dict[str, float], list[str]]:
    """Keywords of Keras's layer, and what of ours it has nothing like."""
    if own is None:
        return {}, []
    rates = own.input_dropout, own.recurrent_dropout
    like = make_regularised(kind, _options(kind, *rates, rates[1] > 0)) or Regularised()
    lacking = [
        f"{name}={getattr(own, name)!r}"
        for name in NAMES
        if getattr(own, name) != getattr(like, name)
    ]
    return dict(zip(("dropout", "recurrent_dropout"), rates, strict=True)), lacking


def _options(kind: str, dropout: float, recurrent: float, apart: bool) -> dict[str, Any]:
    """``apart``: each gate of an LSTM or GRU has a mask of its own."""
    gates = "separate" if apart and kind != "RNN" else "tied"
    options: dict[str, Any] = {}
    if dropout:
        options |= {"input_dropout": dropout, "input_dropout_gates": gates}
    if recurrent:
        options |= {"recurrent_dropout": recurrent, "recurrent_dropout_gates": gates}
    return options
