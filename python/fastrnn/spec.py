"""What is to be computed, as those who check, compute and judge it tell one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Outputs", "Spec"]

Outputs = tuple["Tensor", "Tensor", "Tensor | None", "Tensor | None", "Tensor | None"]
"""(y, h_n, c_n, h_all, c_all), as `fastrnn.reference.rnn` describes them."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What kind of layers to run; letters as in `fastrnn.reference`.

    ``cell`` is "lstm", "gru", "rnn_tanh" or "rnn_relu"; ``proj_size`` is 0 without a projection;
    ``dropout`` is 0 when not training.
    """

    cell: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    dropout: float
