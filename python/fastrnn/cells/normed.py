"""Cells that normalise over the units of a row."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._layers.cell import Cell
from .._program.norms import layer_norm, rms_norm
from .initial import Parameters, fill

__all__ = ["BlockGRU", "LayerNormGRU", "LayerNormLSTM"]


class LayerNormLSTM(Cell):
    """LSTM with layer normalisation. Ba, Kiros & Hinton 2016, arXiv 1607.06450.

    With LN over the four gates together, as in the paper and the package haste::

        a = LN(W x) gamma_x + LN(U h') gamma_h + beta
        i, f, o = sigmoid(a_i), ...                        g = tanh(a_g)
        c = f c' + i g
        h = o tanh(LN(c) gamma_c + beta_c)

    ``bias_ih`` and ``bias_hh`` add to W x and U h', before LN; ``bias=False`` leaves them out, as
    the paper does. Every gamma begins as 1, every other number of these as 0.

    Parameters
    ----------
    carried : bool
        Whether the next step gets the normalised c, as in the benchmarks of PyTorch and
        TensorFlow Addons, or, as in the paper, c itself.
    """

    gates = "i f g o"
    states = "h c"
    vectors = {
        **{"gamma_x": "gate", "gamma_h": "gate", "beta": "gate"},
        **{"gamma_c": "unit", "beta_c": "unit"},
    }

    def __init__(self, carried: bool = False) -> None:
        self.carried = carried

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        shares = layer_norm(x, p.gamma_x, p.beta), layer_norm(u, p.gamma_h)
        i, f, g, o = (a + b for a, b in zip(*shares, strict=True))
        c = torch.sigmoid(f) * s.c + torch.sigmoid(i) * torch.tanh(g)
        normed = layer_norm(c, p.gamma_c, p.beta_c)
        h = torch.sigmoid(o) * torch.tanh(normed)
        return {"h": h, "c": normed if self.carried else c}

    def reset_parameters(self, parameters: Parameters) -> None:
        _plain_norms(self, parameters)


class LayerNormGRU(Cell):
    """GRU with layer normalisation. Ba, Kiros & Hinton 2016, arXiv 1607.06450.

    ::

        a = LN(W x) gamma_x + beta_x                       b = LN(U h') gamma_h + beta_h
        r, z = sigmoid(a_r + b_r), ...                     n = tanh(a_n + r b_n)
        h = (1 - z) n + z h'

    (The paper calls 1 - z what is z here and in torch.) Biases and beginnings as in
    `LayerNormLSTM`.

    Parameters
    ----------
    apart : bool
        Whether LN takes r and z together and n by itself, as the paper has it, or all three
        together, as the package haste has it.
    """

    gates = "r z n"
    vectors = {"gamma_x": "gate", "beta_x": "gate", "gamma_h": "gate", "beta_h": "gate"}

    def __init__(self, apart: bool = False) -> None:
        self.apart = apart

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        a = self._norm(x, p.gamma_x, p.beta_x)
        b = self._norm(u, p.gamma_h, p.beta_h)
        r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
        n = torch.tanh(a[2] + r * b[2])
        return {"h": (1 - z) * n + z * s.h}

    def _norm(self, share: Any, gamma: Any, beta: Any) -> Any:
        if not self.apart:
            return layer_norm(share, gamma, beta)
        gates = layer_norm([share.r, share.z], [gamma.r, gamma.z], [beta.r, beta.z])
        return *gates, layer_norm(share.n, gamma.n, beta.n)

    def reset_parameters(self, parameters: Parameters) -> None:
        _plain_norms(self, parameters)


class BlockGRU(Cell):
    """The block GRU of DreamerV3's world model. Hafner et al. 2023, arXiv 2301.04104.

    ::

        d = silu(RMS(U_d h') gamma_d)                      the state, embedded
        e = silu(RMS(W_e x + U_e h' + U_b d) gamma_e)      a hidden layer
        r, z, n = sigmoid(U_r e), sigmoid(U_z e - 1), tanh(r U_n e)
        h = z n + (1 - z) h'

    Every U is block-diagonal with ``num_heads`` blocks. x is the embedding of what was drawn and
    done. What differs: in the paper U_d is dense and of a size of its own, and every block of U_b
    sees all of d; with one block and as many units both are the same.
    """

    gates = "d e b r z n"
    late = ["b", "r z n"]
    recurrent = "heads"
    vectors = {"gamma_d": "unit", "gamma_e": "unit"}
    eps = 1e-4

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        if stage == 0:
            return nn.functional.silu(rms_norm(u.d, p.gamma_d, eps=self.eps))
        return nn.functional.silu(rms_norm(x.e + u.e + u.b, p.gamma_e, eps=self.eps))

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        r, z = torch.sigmoid(u.r), torch.sigmoid(u.z - 1)
        return {"h": z * torch.tanh(r * u.n) + (1 - z) * s.h}

    def reset_parameters(self, parameters: Parameters) -> None:
        _plain_norms(self, parameters)


def _plain_norms(cell: Any, parameters: Parameters) -> None:
    """Let norms begin without scale and shift."""
    fill(cell, parameters)
    for name in cell.vectors:
        nn.init.constant_(parameters[name], float(name.startswith("gamma")))
