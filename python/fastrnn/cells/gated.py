"""Cells of one state that gates mix with something new: the GRU, and what is simpler."""

from __future__ import annotations

from typing import Any

import torch

from .._layers.cell import Cell
from .initial import Parameters, fill, identity, rows, xavier

__all__ = [
    "ATR",
    "CFN",
    "GRU",
    "MGU",
    "RAN",
    "SGRN",
    "STAR",
    "UGRNN",
    "IntersectionRNN",
    "LiGRU",
    "LightRU",
    "MinimalRNN",
]


class GRU(Cell):
    """Gated recurrent unit, as ``fastrnn.GRU`` and ``torch.nn.GRU`` have it.

    Cho et al. 2014, arXiv 1406.1078, with the reset gate behind the product. To copy from::

        r, z = sigmoid(W_r x + U_r h' + b_r), ...
        n = tanh(W_n x + b_n + r (U_n h' + b'_n))
        h = (1 - z) n + z h'
    """

    gates = "r z n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        r, z = torch.sigmoid(x.r + u.r), torch.sigmoid(x.z + u.z)
        n = torch.tanh(x.n + r * u.n)
        return {"h": (1 - z) * n + z * s.h}


class MGU(Cell):
    """Minimal gated unit: a GRU of one gate. Zhou et al. 2016, arXiv 1603.09420.

    ::

        f = sigmoid(W_f x + U_f h' + b_f)
        n = tanh(W_n x + U_n (f h') + b_n)
        h = (1 - f) h' + f n
    """

    gates = "f n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.f + u.f) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, n = torch.sigmoid(x.f + u.f), torch.tanh(x.n + u.n)
        return {"h": (1 - f) * s.h + f * n}


class LiGRU(Cell):
    """Light gated recurrent unit for speech. Ravanelli et al. 2018, arXiv 1803.10225.

    ::

        z = sigmoid(BN(W_z x) + U_z h')
        n = relu(BN(W_n x) + U_n h')
        h = z h' + (1 - z) n

    BN, a batch normalisation, is left out: it lets one row see the others. In its place are the
    biases. W begins as Glorot & Bengio's, U orthogonal, as in the paper.
    """

    gates = "z n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z + u.z), torch.relu(x.n + u.n)
        return {"h": z * s.h + (1 - z) * n}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters)
        xavier(self, parameters, "weight_ih")
        for weight in parameters["weight_hh"].chunk(2):
            drawn = weight.to(torch.promote_types(weight.dtype, torch.float32))  # not in half
            weight.copy_(torch.nn.init.orthogonal_(drawn))


class UGRNN(Cell):
    """Update gate RNN. Collins, Sohl-Dickstein & Sussillo 2016, arXiv 1611.09913.

    ::

        g = sigmoid(W_g x + U_g h' + b_g)                  n = tanh(W_n x + U_n h' + b_n)
        h = g h' + (1 - g) n
    """

    gates = "g n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        g, n = torch.sigmoid(x.g + u.g), torch.tanh(x.n + u.n)
        return {"h": g * s.h + (1 - g) * n}


class IntersectionRNN(Cell):
    """+RNN: gates both in time and in depth. Collins et al. 2016, arXiv 1611.09913.

    ::

        y_in = relu(W_y x + U_y h' + b_y)                  g_y = sigmoid(W_a x + U_a h' + b_a)
        h_in = tanh(W_h x + U_h h' + b_h)                  g_h = sigmoid(W_b x + U_b h' + b_b)
        y = g_y (W_v x + b_v) + (1 - g_y) y_in             goes up
        h = g_h h' + (1 - g_h) h_in                        goes on

    The paper has x itself in the place of W_v x + b_v and so as many features as units; here W_v
    begins as the identity where that is so.
    """

    gates = "y h g_y g_h v"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        g, h = torch.sigmoid(x.g_h + u.g_h), torch.tanh(x.h + u.h)
        return {"h": g * s.h + (1 - g) * h}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        g, y = torch.sigmoid(x.g_y + u.g_y), torch.relu(x.y + u.y)
        return g * x.v + (1 - g) * y

    def reset_parameters(self, parameters: Parameters) -> None:
        identity(self, parameters, "v")


class RAN(Cell):
    """Recurrent additive network: states are weighted sums of inputs. Lee et al. 2017, 1705.07393.

    ::

        n = W_n x
        i, f = sigmoid(W_i x + U_i h' + b_i), ...
        c = f c' + i n
        h = tanh(c)

    n has a bias here, which begins as 0; `squash=False` is the paper's h = c.
    """

    gates = "n i f"
    states = "h c"

    def __init__(self, squash: bool = True) -> None:
        self.squash = squash

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f = torch.sigmoid(x.i + u.i), torch.sigmoid(x.f + u.f)
        c = f * s.c + i * x.n
        return {"h": torch.tanh(c) if self.squash else c, "c": c}

    def reset_parameters(self, parameters: Parameters) -> None:
        bias = rows(self, parameters, "bias_ih", "n")
        if bias is not None:
            bias.zero_()


class CFN(Cell):
    """Chaos free network. Laurent & von Brecht 2016, arXiv 1612.06212.

    ::

        f, i = sigmoid(W_f x + U_f h' + b_f), ...          (theta, eta)
        h = f tanh(h') + i tanh(W_n x)

    b_f begins as 1 and b_i as -1, as in the paper. W_n x has a bias here, which begins as 0.
    """

    gates = "f i n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, i = torch.sigmoid(x.f + u.f), torch.sigmoid(x.i + u.i)
        return {"h": f * torch.tanh(s.h) + i * torch.tanh(x.n)}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters, f=1.0, i=-1.0)


class ATR(Cell):
    """Addition and subtraction twin-gated unit. Zhang et al. 2018, arXiv 1810.12546.

    ::

        q = W x + b          r = U h' + b'
        i = sigmoid(q + r)   f = sigmoid(q - r)
        h = i q + f h'
    """

    gates = "q"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f = torch.sigmoid(x.q + u.q), torch.sigmoid(x.q - u.q)
        return {"h": i * x.q + f * s.h}


class STAR(Cell):
    """Stackable recurrent cell. Turkoglu et al. 2019, arXiv 1911.11033.

    ::

        k = sigmoid(W_k x + U_k h' + b_k)                  n = tanh(W_n x + b_n)
        h = tanh((1 - k) h' + k n)
    """

    gates = "k n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        k, n = torch.sigmoid(x.k + u.k), torch.tanh(x.n)
        return {"h": torch.tanh((1 - k) * s.h + k * n)}


class MinimalRNN(Cell):
    """MinimalRNN: the input is embedded, then only kept or not. Chen 2017, arXiv 1711.06788.

    ::

        z = tanh(W_z x + b_z)
        k = sigmoid(U_k h' + U_z z + b_k)
        h = k h' + (1 - k) z

    The recurrent products of k with h' and with z are two gates of the layer, k and z.
    """

    gates = "k z"
    late = "z"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.tanh(x.z)

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, k = torch.tanh(x.z), torch.sigmoid(u.k + u.z)
        return {"h": k * s.h + (1 - k) * z}


class LightRU(Cell):
    """Light recurrent unit. Ye et al. 2024, Electronics 13(16), 3204.

    ::

        f = sigmoid(W_f x + U_f h' + b_f)                  n = tanh(W_n x + b_n)
        h = (1 - f) h' + f n
    """

    gates = "f n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, n = torch.sigmoid(x.f + u.f), torch.tanh(x.n)
        return {"h": (1 - f) * s.h + f * n}


class SGRN(Cell):
    """Simple gated recurrent network. Zu & Wei 2021, doi 10.1049/gtd2.12056.

    ::

        f = sigmoid(W x + b + U h' + b')
        h = tanh((1 - f) (W x + b) + f h')
    """

    gates = "f"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f = torch.sigmoid(x.f + u.f)
        return {"h": torch.tanh((1 - f) * x.f + f * s.h)}
