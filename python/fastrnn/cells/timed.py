"""Cells that are told when: values at irregular times, values that are missing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._layers.cell import Cell
from .initial import Parameters, xavier

__all__ = ["GRUD", "TLSTM", "CfC", "PhasedLSTM"]


class GRUD(Cell):
    """GRU whose state decays while nothing is observed. Che et al. 2016, arXiv 1606.01865.

    ::

        gamma = exp(-max(0, decay))                        k = gamma h'
        r, z = sigmoid(W_r [x, m] + U_r k + b_r), ...
        n = tanh(W_n [x, m] + U_n (r k) + b_n)
        h = (1 - z) k + z n

    ``decay`` [T, B, H] is a linear map of the time since each feature was last observed,
    ``W_gamma delta + b_gamma``. The input is [x, m]: features whose missing values decay from the
    last observation to the mean, and the mask of what was observed. Both depend on data alone and
    are computed before, for all steps at once.
    """

    gates = "r z n"
    late = ["r z", "n"]
    inputs = "decay"

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        k = self._decayed(s, p)
        return k if stage == 0 else torch.sigmoid(x.r + u.r) * k

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z + u.z), torch.tanh(x.n + u.n)
        return {"h": (1 - z) * self._decayed(s, p) + z * n}

    def _decayed(self, s: Any, p: Any) -> Any:
        return torch.exp(-torch.relu(p.decay)) * s.h


class TLSTM(Cell):
    """LSTM that forgets its short-term memory with time. Baytas et al. 2017, KDD.

    ::

        d = tanh(U_d c' + b_d)                             short-term memory
        k = c' - d + d / log(e + dt)
        i, f, o = sigmoid(W_i x + U_i h' + b_i), ...       g = tanh(W_g x + U_g h' + b_g)
        c = f k + i g
        h = o tanh(c)

    ``dt`` [T, B] is the time since the step before.
    """

    gates = "i f g o d"
    states = "h c"
    late = "d"
    inputs = "dt"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return s.c

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        d = torch.tanh(u.d)
        k = s.c - d + d / torch.log(math.e + p.dt)
        i, f = torch.sigmoid(x.i + u.i), torch.sigmoid(x.f + u.f)
        c = f * k + i * torch.tanh(x.g + u.g)
        return {"h": torch.sigmoid(x.o + u.o) * torch.tanh(c), "c": c}


class PhasedLSTM(Cell):
    """LSTM whose units are open for a part of a rhythm only. Neil et al. 2016, arXiv 1610.09513.

    ::

        k = 2 phase / r_on                   if phase < r_on / 2
            2 - 2 phase / r_on               if phase < r_on
            leak phase                       else
        i, f = sigmoid(W_i x + U_i h' + p_i c' + b_i), ...   g = tanh(W_g x + U_g h' + b_g)
        a = f c' + i g
        o = sigmoid(W_o x + U_o h' + p_o a + b_o)
        c = k a + (1 - k) c'
        h = k o tanh(a) + (1 - k) h'

    ``phase`` [T, B, H] is ``PhasedLSTM.phase(time, period, shift)``; its period and shift are
    parameters of the caller's, for every layer the same. r_on begins as 0.05.

    Parameters
    ----------
    leak : float
        How far a closed unit is open; the paper's 0.001 in training, 0 in use.
    """

    gates = "i f g o"
    states = "h c"
    vectors = {"p_i": "unit", "p_f": "unit", "p_o": "unit", "r_on": "unit"}
    inputs = "phase"

    def __init__(self, leak: float = 0.001) -> None:
        self.leak = leak

    @staticmethod
    def phase(time: Tensor, period: Tensor, shift: Tensor) -> Tensor:
        """Where in its rhythm each unit is: ((time - shift) mod period) / period.

        Parameters
        ----------
        time : Tensor [T, B]
        period, shift : Tensor [H]
            The paper draws period from exp(U(0, 3)) and shift from U(0, period).

        Returns
        -------
        Tensor [T, B, H], in [0, 1)
        """
        return torch.remainder(time.unsqueeze(-1) - shift, period) / period

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        slope = 2 * p.phase / p.r_on
        falling = torch.where(p.phase < p.r_on, 2 - slope, self.leak * p.phase)
        k = torch.where(2 * p.phase < p.r_on, slope, falling)
        i = torch.sigmoid(x.i + u.i + p.p_i * s.c)
        f = torch.sigmoid(x.f + u.f + p.p_f * s.c)
        a = f * s.c + i * torch.tanh(x.g + u.g)
        o = torch.sigmoid(x.o + u.o + p.p_o * a)
        return {"h": k * o * torch.tanh(a) + (1 - k) * s.h, "c": k * a + (1 - k) * s.c}

    def reset_parameters(self, parameters: Parameters) -> None:
        torch.nn.init.constant_(parameters["r_on"], 0.05)


class CfC(Cell):
    """Closed-form continuous-time network. Hasani et al. 2021, arXiv 2106.13898.

    ::

        b = 1.7159 tanh(2 / 3 (W_b x + U_b h' + b_b))      a backbone of one layer
        f, g = tanh(U_f b + b_f), tanh(U_g b + b_g)
        t = sigmoid((U_a b + b_a) dt + U_c b + b_c)
        h = f (1 - t) + g t

    ``dt`` [T, B] is the time since the step before. As the package ncps has it in mode "default",
    with as many backbone units as hidden ones; W and U begin as Glorot & Bengio's.
    """

    gates = "b f g a c"
    late = "f g a c"
    inputs = "dt"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return 1.7159 * torch.tanh(0.666 * (x.b + u.b))

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, g, t = torch.tanh(u.f), torch.tanh(u.g), torch.sigmoid(u.a * p.dt + u.c)
        return {"h": f * (1 - t) + g * t}

    def reset_parameters(self, parameters: Parameters) -> None:
        xavier(self, parameters, "weight_ih")
        xavier(self, parameters, "weight_hh")
