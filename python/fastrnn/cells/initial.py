"""What cells share in `reset_parameters`: the rows of a gate, and how they begin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Parameters", "fill", "hidden_size", "identity", "rows", "xavier"]

Parameters = Mapping[str, Tensor]


def hidden_size(cell: Any, parameters: Parameters) -> int:
    """The units of a layer whose parameters these are."""
    return parameters["weight_ih"].shape[0] // len(cell.gates.split())


def rows(cell: Any, parameters: Parameters, name: str, gate: str) -> Tensor | None:
    """A view of one gate's rows of a weight or bias; None if the layer has no such parameter.

    Returns
    -------
    Tensor [H, I] or [H, H] or [H], [heads, H / heads, H / heads] of a block-diagonal weight_hh
    """
    if name not in parameters:
        return None
    gates: list[str] = cell.gates.split()
    values = parameters[name]
    rows_at = values.dim() - 2 if name == "weight_hh" else 0
    return values.chunk(len(gates), rows_at)[gates.index(gate)]


def fill(cell: Any, parameters: Parameters, **biases: float | Tensor) -> None:
    """Set the biases of gates: ``bias_ih`` to these numbers, else to 0, and ``bias_hh`` to 0."""
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            parameters[name].zero_()
    for gate, value in biases.items():
        bias = rows(cell, parameters, "bias_ih", gate)
        if bias is not None:
            bias.copy_(torch.as_tensor(value, dtype=bias.dtype))


def identity(cell: Any, parameters: Parameters, gate: str) -> None:
    """Let a gate begin as the input itself, where there are as many features as units."""
    weight = rows(cell, parameters, "weight_ih", gate)
    if weight is None or weight.shape[0] != weight.shape[1]:
        return
    torch.nn.init.eye_(weight)
    for name in ("bias_ih", "bias_hh"):
        bias = rows(cell, parameters, name, gate)
        if bias is not None:
            bias.zero_()


def xavier(cell: Any, parameters: Parameters, name: str) -> None:
    """Draw each gate's weights from U(-a, a), a = sqrt(6 / (fan_in + fan_out)) of the gate.

    References
    ----------
    Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    for gate in cell.gates.split():
        weight = rows(cell, parameters, name, gate)
        if weight is not None:
            bound = math.sqrt(6 / sum(weight.shape[-2:]))
            weight.uniform_(-bound, bound)
