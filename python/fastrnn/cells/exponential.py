"""The cell with exponential gates: sLSTM."""

from __future__ import annotations

from typing import Any

import torch

from .._layers.cell import Cell
from .initial import Parameters, fill

__all__ = ["SLSTM"]

_CLIPS = (None, "gates", "normaliser")
_FORGET = ("sigmoid", "exp")


class SLSTM(Cell):
    """sLSTM of xLSTM: exponential gates, a normaliser, a stabiliser. Beck et al. 2024, 2405.04517.

    With a_k = W_k x + U_k h' + b_k, every U block-diagonal with ``num_heads`` blocks::

        f = log(sigmoid(a_f)) + m'                         in logarithms, as i = a_i
        m = max(a_i, f)
        c = exp(f - m) c' + exp(a_i - m) tanh(a_z)
        n = exp(f - m) n' + exp(a_i - m)
        h = sigmoid(a_o) c / n

    U begins as 0, b_f as 5 - 12 (j / (H / heads - 1))^0.3 for unit j of each
    head, the other biases as 0, as in the package xlstm for the first block of a model.

    Parameters
    ----------
    clip : {"gates", "normaliser", None}
        What is bounded: "gates", both exponentials by 1 from above, as in the package xlstm;
        "normaliser", n by 1 from below, as in the package flashrnn; None: nothing, as in the paper.
    first_step : bool
        Whether m is a_i where n' is 0, so that an empty memory's m' does not count, as in both
        packages. They ask whether n' is 0 in the whole batch; here each row's units are asked,
        also after a reset.
    forget : {"sigmoid", "exp"}
        Of the paper's two forget gates; "exp" has a_f in the place of log(sigmoid(a_f)).

    Raises
    ------
    ValueError
        `clip` or `forget` is none of these.
    """

    gates = "i f z o"
    states = "h c n m"
    recurrent = "heads"

    def __init__(
        self, clip: str | None = "gates", first_step: bool = True, forget: str = "sigmoid"
    ) -> None:
        if clip not in _CLIPS:
            raise ValueError(f"clip: expected one of {_CLIPS}, got {clip!r}")
        if forget not in _FORGET:
            raise ValueError(f"forget: expected one of {_FORGET}, got {forget!r}")
        self.clip, self.first_step, self.forget = clip, first_step, forget

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        a_i, a_f = x.i + u.i, x.f + u.f
        f = s.m + (a_f if self.forget == "exp" else torch.nn.functional.logsigmoid(a_f))
        m = torch.maximum(a_i, f)
        if self.first_step:
            m = torch.where(s.n == 0, a_i, m)
        forget, take = torch.exp(f - m), torch.exp(a_i - m)
        if self.clip == "gates":
            one = torch.ones_like(a_i)
            forget, take = torch.minimum(forget, one), torch.minimum(take, one)
        c = forget * s.c + take * torch.tanh(x.z + u.z)
        n = forget * s.n + take
        if self.clip == "normaliser":
            n = torch.maximum(n, torch.ones_like(n))
        return {"h": torch.sigmoid(x.o + u.o) * c / n, "c": c, "n": n, "m": m}

    def reset_parameters(self, parameters: Parameters) -> None:
        weight = parameters["weight_hh"].zero_()
        heads, units = weight.shape[0], weight.shape[-1]
        place = torch.arange(units, dtype=weight.dtype) / max(units - 1, 1)
        fill(self, parameters, f=(5 - 12 * place**0.3).repeat(heads))
