"""How ONNX lays out what torch lays out otherwise: the gates of weights, and the two biases.

The only place that knows it; what exports to ONNX and what reads from it ask here. ONNX's LSTM has
its gates in the order i o f c (torch i f g o), its GRU z r h (torch r z n), and one tensor of
biases, the input's before the recurrent ones. A GRU of torch's is ONNX's with
``linear_before_reset = 1``: the recurrent bias of n stands within the product with r.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["biases_from_onnx", "biases_to_onnx", "gates_from_onnx", "gates_to_onnx", "rows_in_onnx"]

_TORCH_GATES: dict[str, Sequence[int]] = {
    "lstm": (0, 3, 1, 2),  # i o f c of i f g o
    "gru": (1, 0, 2),  # z r h of r z n
    "rnn_tanh": (0,),
    "rnn_relu": (0,),
}
"""For each gate of ONNX's its place among torch's."""


def rows_in_onnx(cell: str, hidden_size: int) -> list[int]:
    """Which row of a weight of torch's each row of ONNX's is.

    Parameters
    ----------
    cell : str
        "lstm", "gru", "rnn_tanh" or "rnn_relu".
    hidden_size : int
        H, the rows of one gate.

    Returns
    -------
    list of int
        The G*H rows.
    """
    return [gate * hidden_size + unit for gate in _TORCH_GATES[cell] for unit in range(hidden_size)]


def gates_to_onnx(cell: str, weight: Tensor) -> Tensor:
    """A weight or bias of torch's, [G*H] or [G*H, anything], with its gates in ONNX's order."""
    return weight[rows_in_onnx(cell, _hidden_size(cell, weight))]


def gates_from_onnx(cell: str, weight: Tensor) -> Tensor:
    """A weight or bias of ONNX's, [G*H] or [G*H, anything], with its gates in torch's order."""
    rows = torch.tensor(rows_in_onnx(cell, _hidden_size(cell, weight)))
    return weight[rows.argsort()]


def biases_to_onnx(cell: str, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One direction's biases of torch's, both [G*H], as one of ONNX's, [2*G*H]."""
    return torch.cat([gates_to_onnx(cell, b_ih), gates_to_onnx(cell, b_hh)])


def biases_from_onnx(cell: str, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One direction's bias of ONNX's, [2*G*H], as torch's two, b_ih and b_hh, both [G*H]."""
    b_ih, b_hh = bias.chunk(2)
    return gates_from_onnx(cell, b_ih), gates_from_onnx(cell, b_hh)


def _hidden_size(cell: str, weight: Tensor) -> int:
    return weight.shape[0] // len(_TORCH_GATES[cell])
