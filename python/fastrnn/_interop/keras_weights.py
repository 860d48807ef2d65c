"""How Keras keeps the weights of a cell, and their order here.

Keras keeps a kernel [I, G*H] and a recurrent kernel [H, G*H], which are torch's weights transposed,
gates of the GRU in the order z r h (torch r z n), and one bias [G*H], but for its GRU of the form
``reset_after``, which has two as torch has, [2, 3*H].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._call.spec import GATES

__all__ = ["KINDS", "in_our_order", "reordered", "weights_from_keras"]

KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
"""Our kind of layer by the name of Keras's."""
_GATES = {"LSTM": "ifgo", "GRU": "zrn", "RNN": "h"}
"""The gates in Keras's order, by torch's letters."""


def in_our_order(kind: str, of_gates: Sequence[Tensor]) -> list[Tensor]:
    """What belongs to each gate in the order of Keras's gates, in torch's; and the other way."""
    known = dict(zip(GATES[kind], of_gates, strict=True))
    return [known[gate] for gate in _GATES[kind]]


def reordered(kind: str, weight: Tensor) -> Tensor:
    """The blocks of the last dimension in the other's order; either way, it is the same."""
    if GATES[kind] == _GATES[kind]:
        return weight
    return torch.cat(in_our_order(kind, weight.chunk(len(GATES[kind]), dim=-1)), dim=-1)


def weights_from_keras(
    kind: str, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> list[Tensor]:
    """w_ih [G*H, I], w_hh [G*H, H], and b_ih and b_hh [G*H] if Keras's layer has a bias.

    Gradients flow back to what is given.
    """
    weights = [reordered(kind, kernel).t(), reordered(kind, recurrent).t()]
    if bias is None:
        return weights
    b_ih, b_hh = bias if bias.dim() == 2 else (bias, torch.zeros_like(bias))
    return [*weights, reordered(kind, b_ih), reordered(kind, b_hh)]
