"""How ONNX lays out and names what is otherwise here: gates, biases, peepholes, activations.

The only place that knows it; what exports to ONNX and what reads from it ask here. ONNX's LSTM has
its gates in the order i o f c (torch i f g o), its GRU z r h (torch r z n), and one tensor of
biases, the input's before the recurrent ones. A GRU of torch's is ONNX's with
``linear_before_reset = 1``: the recurrent bias of n stands within the product with r. The blocks
of its P are those of the peepholes i, o and f.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._call.spec import CELLS
from ..variants import ACTIVATIONS, parse_activation

__all__ = [
    "PEEPHOLES",
    "activations_from_onnx",
    "activations_to_onnx",
    "biases_from_onnx",
    "biases_to_onnx",
    "dequantized",
    "gates_from_onnx",
    "gates_to_onnx",
    "rows_in_onnx",
]

PEEPHOLES = "iof"
"""The gates whose blocks ONNX's P has, in their order."""

_ACTIVATIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "hard_sigmoid": "HardSigmoid",
    "hard_sigmoid_onnx": "HardSigmoid",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "elu": "Elu",
    "leaky_relu": "LeakyRelu",
    "identity": "Affine",
    "affine": "Affine",
    "scaled_tanh": "ScaledTanh",
    "thresholded_relu": "ThresholdedRelu",
}
"""ONNX's names; of two that share one, the second has the parameters that are ONNX's default."""
_OWN_ACTIVATIONS = {theirs.lower(): own for own, theirs in _ACTIVATIONS.items()}

_GATES = {"LSTM": "iofg", "GRU": "zrn", "RNN": "h"}
"""The gates in ONNX's order, by torch's letters."""


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
    kind, gates, *_ = CELLS[cell]
    return [
        gates.index(gate) * hidden_size + unit
        for gate in _GATES[kind]
        for unit in range(hidden_size)
    ]


def gates_to_onnx(cell: str, weight: Tensor) -> Tensor:
    """A weight or bias of torch's, [G*H] or [G*H, anything], with its gates in ONNX's order."""
    return weight[rows_in_onnx(cell, _hidden_size(cell, weight))]


def gates_from_onnx(cell: str, weight: Tensor) -> Tensor:
    """A weight or bias of ONNX's, [G*H] or [G*H, anything], with its gates in torch's order."""
    rows = torch.tensor(rows_in_onnx(cell, _hidden_size(cell, weight)), device=weight.device)
    return weight[rows.argsort()]


def biases_to_onnx(cell: str, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One direction's biases of torch's, both [G*H], as one of ONNX's, [2*G*H]."""
    return torch.cat([gates_to_onnx(cell, b_ih), gates_to_onnx(cell, b_hh)])


def biases_from_onnx(cell: str, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One direction's bias of ONNX's, [2*G*H], as torch's two, b_ih and b_hh, both [G*H]."""
    b_ih, b_hh = bias.chunk(2)
    return gates_from_onnx(cell, b_ih), gates_from_onnx(cell, b_hh)


def dequantized(weight: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """A weight of a DynamicQuantizeLSTM as an LSTM has it.

    Parameters
    ----------
    weight : Tensor [D, anything, G*H] int8 or uint8
        Transposed, beside the LSTM's.
    scale, zero_point : Tensor [D] or [D, G*H]
        Of a direction, or of each column; ``zero_point`` of the weight's dtype.

    Returns
    -------
    Tensor [D, G*H, anything]
        Of the dtype of ``scale``.
    """
    scale, zero_point = (one.reshape(len(weight), 1, -1) for one in (scale, zero_point))
    return ((weight.to(scale.dtype) - zero_point.to(scale.dtype)) * scale).transpose(1, 2)


def activations_to_onnx(texts: Sequence[str]) -> tuple[list[str], list[float], list[float]]:
    """Activations of `fastrnn.variants` as ``activations`` and their alphas and betas.

    Raises
    ------
    NotImplementedError
        ONNX's operators do not have one.
    """
    names, alphas, betas = [], [], []
    for text in texts:
        name, parameters = parse_activation(text)
        if name not in _ACTIVATIONS:
            raise NotImplementedError(f"ONNX's recurrent operators have no activation {text!r}")
        alpha, beta = (1.0, 0.0) if name == "identity" else (*parameters, None, None)[:2]
        names.append(_ACTIVATIONS[name])
        alphas += [] if alpha is None else [alpha]
        betas += [] if beta is None else [beta]
    return names, alphas, betas


def activations_from_onnx(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[str]:
    """Activations of `fastrnn.variants`, which take up alphas and betas in turn as they need them.

    An activation that finds none left has the operator's default.

    Raises
    ------
    ValueError
        A name is not one of ONNX's, or there are numbers that nobody takes.
    """
    left_alphas, left_betas = list(alphas), list(betas)
    texts = []
    for name in names:
        own = _OWN_ACTIVATIONS.get(name.lower())
        if own is None:
            known = ", ".join(sorted(set(_ACTIVATIONS.values())))
            raise ValueError(f"activations: expected names of {known}, got {name!r}")
        parameters = list(ACTIVATIONS[own])
        for place, left in zip(range(len(parameters)), (left_alphas, left_betas), strict=False):
            parameters[place] = left.pop(0) if left else parameters[place]
        texts.append(f"{own}({', '.join(map(repr, parameters))})" if parameters else own)
    if left_alphas or left_betas:
        raise ValueError(
            f"activation_alpha, activation_beta: expected numbers for {list(names)} alone, "
            f"got {list(alphas)} and {list(betas)}"
        )
    return texts


def _hidden_size(cell: str, weight: Tensor) -> int:
    return weight.shape[0] // len(CELLS[cell].gates)
