"""Cells without a recurrent product: a unit's state meets no other unit."""

from __future__ import annotations

import math
from typing import Any

import torch

from .._layers.cell import Cell
from .initial import Parameters, fill, identity

__all__ = ["QRNN", "SRU", "IndRNN", "MinGRU", "MinLSTM", "UnICORNN"]


class IndRNN(Cell):
    """Independently recurrent neural network. Li et al. 2018, arXiv 1803.04831.

    ::

        h = relu(W x + v h' + b)

    Parameters
    ----------
    steps : int, optional
        T of the paper: v begins in U(0, 2^(1/T)), so that h does not explode within so many steps.
        Without it in U(0, 1).
    """

    gates = "h"
    recurrent = "none"
    vectors = {"v": "unit"}

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.relu(x.h + p.v * s.h)}

    def reset_parameters(self, parameters: Parameters) -> None:
        torch.nn.init.uniform_(parameters["v"], 0, 2 ** (1 / self.steps) if self.steps else 1)


class SRU(Cell):
    """Simple recurrent unit. Lei et al. 2017, arXiv 1709.02755, the form of its fifth version.

    ::

        f = sigmoid(W_f x + v_f c' + b_f)                  r = sigmoid(W_r x + v_r c' + b_r)
        c = f c' + (1 - f) (W_n x)
        h = r c + (1 - r) alpha x                          alpha = sqrt(1 + 2 exp(b_r at the start))

    The paper's n = W_n x has no bias; here it has one, which begins as 0. Its highway takes x
    itself where there are as many features as units, and a product else; here it is the gate x,
    which begins as the identity where that is so.

    Parameters
    ----------
    bias : float
        Where b_r begins; b_f begins as 0. W begins in U(-sqrt(3 / I), sqrt(3 / I)).
    """

    gates = "n f r x"
    states = "c"
    recurrent = "none"
    vectors = {"v_f": "unit", "v_r": "unit"}

    def __init__(self, bias: float = 0.0) -> None:
        self.bias, self.alpha = bias, math.sqrt(1 + 2 * math.exp(bias))

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f = torch.sigmoid(x.f + p.v_f * s.c)
        return {"c": f * s.c + (1 - f) * x.n}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        r = torch.sigmoid(x.r + p.v_r * s.c)
        return r * new.c + (1 - r) * self.alpha * x.x

    def reset_parameters(self, parameters: Parameters) -> None:
        bound = math.sqrt(3 / parameters["weight_ih"].shape[1])
        torch.nn.init.uniform_(parameters["weight_ih"], -bound, bound)
        fill(self, parameters, r=self.bias)
        identity(self, parameters, "x")


class QRNN(Cell):
    """Quasi-recurrent network, fo-pooling. Bradbury et al. 2016, arXiv 1611.01576.

    ::

        z = tanh(W_z * x)        f, o = sigmoid(W_f * x), sigmoid(W_o * x)
        c = f c' + (1 - f) z
        h = o c

    The paper's W * x is a convolution over the last k steps: give x with the k - 1 steps before
    beside it, [x_t, x_{t-1}, ...], for k > 1. Gates have biases here.
    """

    gates = "z f o"
    states = "c"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f = torch.sigmoid(x.f)
        return {"c": f * s.c + (1 - f) * torch.tanh(x.z)}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        return torch.sigmoid(x.o) * new.c


class MinGRU(Cell):
    """minGRU. Feng et al. 2024, arXiv 2410.01201.

    ::

        z = sigmoid(W_z x + b_z)                           n = W_n x + b_n
        h = (1 - z) h' + z n
    """

    gates = "z n"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z = torch.sigmoid(x.z)
        return {"h": (1 - z) * s.h + z * x.n}


class MinLSTM(Cell):
    """minLSTM, its gates scaled to sum to one. Feng et al. 2024, arXiv 2410.01201.

    ::

        f, i = sigmoid(W_f x + b_f), ...                   n = W_n x + b_n
        h = f / (f + i) h' + i / (f + i) n
    """

    gates = "f i n"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, i = torch.sigmoid(x.f), torch.sigmoid(x.i)
        total = f + i
        return {"h": f / total * s.h + i / total * x.n}


class UnICORNN(Cell):
    """Undamped independent controlled oscillators. Rusch & Mishra 2021, arXiv 2103.05487.

    ::

        z = z' - dt sigmoid(c) (tanh(w y' + V x + b) + alpha y')
        y = y' + dt sigmoid(c) z

    w begins in U(0, 1), c in U(-0.1, 0.1), b as 0 and V in U(-a, a), a = sqrt(6 / (65 I)).
    """

    gates = "y"
    states = "y z"
    recurrent = "none"
    vectors = {"w": "unit", "c": "unit"}

    def __init__(self, dt: float = 0.1, alpha: float = 1.0) -> None:
        self.dt, self.alpha = dt, alpha

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        pace = self.dt * torch.sigmoid(p.c)
        z = s.z - pace * (torch.tanh(p.w * s.y + x.y) + self.alpha * s.y)
        return {"y": s.y + pace * z, "z": z}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters)
        torch.nn.init.kaiming_uniform_(parameters["weight_ih"], a=8)
        torch.nn.init.uniform_(parameters["w"], 0, 1)
        torch.nn.init.uniform_(parameters["c"], -0.1, 0.1)
