"""The LSTM and cells that change its gates and connections."""

from __future__ import annotations

from typing import Any

import torch

from .._layers.cell import Cell
from .initial import Parameters, fill, identity, rows

__all__ = [
    "CIFG",
    "JANET",
    "LSTM",
    "MultiplicativeLSTM",
    "PeepholeLSTM",
    "ResidualLSTM",
]


class LSTM(Cell):
    """Long short-term memory, as ``fastrnn.LSTM`` and ``torch.nn.LSTM`` have it.

    Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000. To copy from::

        i, f, o = sigmoid(W_i x + U_i h' + b_i), ...       g = tanh(W_g x + U_g h' + b_g)
        c = f c' + i g
        h = o tanh(c)
    """

    gates = "i f g o"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f = torch.sigmoid(x.i + u.i), torch.sigmoid(x.f + u.f)
        g, o = torch.tanh(x.g + u.g), torch.sigmoid(x.o + u.o)
        c = f * s.c + i * g
        return {"h": o * torch.tanh(c), "c": c}


class PeepholeLSTM(Cell):
    """LSTM whose gates see the cell state. Gers, Schraudolph & Schmidhuber 2002.

    ::

        i = sigmoid(W_i x + U_i h' + p_i c' + b_i)         g = tanh(W_g x + U_g h' + b_g)
        f = sigmoid(W_f x + U_f h' + p_f c' + b_f)
        c = f c' + i g
        o = sigmoid(W_o x + U_o h' + p_o c + b_o)
        h = o tanh(c)

    The same as ``fastrnn.LSTM(..., peephole="ifo")``, whose ``weight_ch`` holds p_i, p_f and p_o.
    """

    gates = "i f g o"
    states = "h c"
    vectors = {"p_i": "unit", "p_f": "unit", "p_o": "unit"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i = torch.sigmoid(x.i + u.i + p.p_i * s.c)
        f = torch.sigmoid(x.f + u.f + p.p_f * s.c)
        c = f * s.c + i * torch.tanh(x.g + u.g)
        o = torch.sigmoid(x.o + u.o + p.p_o * c)
        return {"h": o * torch.tanh(c), "c": c}


class CIFG(Cell):
    """LSTM with coupled input and forget gate. Greff et al. 2015, arXiv 1503.04069.

    ::

        i, o = sigmoid(W_i x + U_i h' + b_i), ...          g = tanh(W_g x + U_g h' + b_g)
        c = (1 - i) c' + i g
        h = o tanh(c)

    The paper's cells have peepholes, too; this one has none. ``fastrnn.LSTM(input_forget=True)``
    computes the same, with rows for a forget gate that it does not read.
    """

    gates = "i g o"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, o = torch.sigmoid(x.i + u.i), torch.sigmoid(x.o + u.o)
        c = (1 - i) * s.c + i * torch.tanh(x.g + u.g)
        return {"h": o * torch.tanh(c), "c": c}


class JANET(Cell):
    """Just another network: an LSTM's forget gate alone. Westhuizen & Lasenby 2018, 1804.04849.

    ::

        a = W_f x + U_f h' + b_f                           g = tanh(W_g x + U_g h' + b_g)
        h = sigmoid(a) h' + (1 - sigmoid(a - beta)) g

    Parameters
    ----------
    beta : float
        How much more is put in than taken away.
    t_max : int, optional
        The steps that a dependence may span. With it b_f begins as log(U(1, t_max - 1)) and b_g
        as 0: chrono initialisation, Tallec & Ollivier 2018, arXiv 1804.11188.
    """

    gates = "f g"

    def __init__(self, beta: float = 1.0, t_max: int | None = None) -> None:
        self.beta, self.t_max = beta, t_max

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        a, g = x.f + u.f, torch.tanh(x.g + u.g)
        return {"h": torch.sigmoid(a) * s.h + (1 - torch.sigmoid(a - self.beta)) * g}

    def reset_parameters(self, parameters: Parameters) -> None:
        f = rows(self, parameters, "bias_ih", "f")
        if self.t_max is not None and f is not None:
            fill(self, parameters, f=torch.empty_like(f).uniform_(1, self.t_max - 1).log())


class MultiplicativeLSTM(Cell):
    """mLSTM: the input chooses the recurrent weights. Krause et al. 2016, arXiv 1609.07959.

    ::

        m = (W_m x) (U_m h')
        i, f, o = sigmoid(W_i x + U_i m + b_i), ...        g = tanh(W_g x + U_g m + b_g)
        c = f c' + i g
        h = o tanh(c)

    The paper has no biases in m; here each factor has one, which begins as 0. (The matrix memory
    of xLSTM, mLSTM by name too, is another cell.)
    """

    gates = "m i f g o"
    states = "h c"
    late = "i f g o"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return x.m * u.m

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f = torch.sigmoid(x.i + u.i), torch.sigmoid(x.f + u.f)
        c = f * s.c + i * torch.tanh(x.g + u.g)
        return {"h": torch.sigmoid(x.o + u.o) * torch.tanh(c), "c": c}

    def reset_parameters(self, parameters: Parameters) -> None:
        for name in ("bias_ih", "bias_hh"):
            bias = rows(self, parameters, name, "m")
            if bias is not None:
                bias.zero_()


class ResidualLSTM(Cell):
    """LSTM with a projected output and a path around it. Kim, El-Khamy & Lee 2017, 1701.03360.

    ::

        i = sigmoid(W_i x + U_i h' + p_i c' + b_i)         g = tanh(W_g x + U_g h' + b_g)
        f = sigmoid(W_f x + U_f h' + p_f c' + b_f)
        c = f c' + i g
        o = sigmoid(W_o x + U_o h' + p_o c + b_o)
        h = o (U_m tanh(c) + W_m x)

    The path around, W_m x, is learned, also where x and h have as many features; the paper then
    takes x itself. It begins as x, and has a bias, which the paper's has not.
    """

    gates = "i f g o m"
    states = "h c"
    late = "m"
    vectors = {"p_i": "unit", "p_f": "unit", "p_o": "unit"}

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.tanh(self._cell_state(x, u, s, p))

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        c = self._cell_state(x, u, s, p)
        o = torch.sigmoid(x.o + u.o + p.p_o * c)
        return {"h": o * (x.m + u.m), "c": c}

    def _cell_state(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        i = torch.sigmoid(x.i + u.i + p.p_i * s.c)
        f = torch.sigmoid(x.f + u.f + p.p_f * s.c)
        return f * s.c + i * torch.tanh(x.g + u.g)

    def reset_parameters(self, parameters: Parameters) -> None:
        identity(self, parameters, "m")
