"""The loop over steps that regularised recurrences are written as where no layer has them.

Masks come in the order in which `fastrnn.regularised` draws them, so that equal seeds give equal
results. The input's product is taken for all steps at once, as every careful loop does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from fastrnn._layers import masks
from fastrnn._layers.plan import spec_of


class MaskedLoop:
    """One layer in one direction, of a LSTM or a GRU with time first.

    It has weight dropout, a recurrent mask of h for a call, zoneout of h, and norms of the two
    shares over all gates.
    """

    def __init__(self, module: Any) -> None:
        self.module, self.options = module, module.regularised
        self.weights = {n.removesuffix("_l0"): w for n, w in module.named_parameters()}

    def __call__(self, x: Tensor) -> tuple[Tensor, Any]:
        rows = masks.Rows((x.shape[1],), (len(x), x.shape[1]))
        training = self.module.training
        (drawn,) = masks.draw(spec_of(self.module), self.options, rows, x, training)
        own, weights = drawn.directions[0], self.weights
        w_hh = weights["weight_hh"] if own.weight is None else weights["weight_hh"] * own.weight
        of_x = linear(x, weights["weight_ih"])
        of_x = self._normed("ih", of_x) + weights["bias_ih"]
        h = x.new_zeros(x.shape[1], self.module.hidden_size)
        c, outputs = h, []
        for t, of_step in enumerate(of_x.unbind(0)):
            operand = h * own.recurrent[0] if own.recurrent else h
            of_h = self._normed("hh", linear(operand, w_hh)) + weights["bias_hh"]
            new, c = self._step(of_step, of_h, h, c)
            h = self._zoned(h, new, None if own.zoneout_h is None else own.zoneout_h[t])
            outputs.append(h)
        final = h.unsqueeze(0)
        is_lstm = isinstance(self.module, torch.nn.LSTM)
        return torch.stack(outputs), (final, c.unsqueeze(0)) if is_lstm else final

    def _normed(self, place: str, share: Tensor) -> Tensor:
        if not self.options.layer_norm:
            return share
        gamma, beta = (self.weights[f"norm_{place}_{kind}"] for kind in ("weight", "bias"))
        return layer_norm(share, share.shape[-1:], gamma, beta, self.options.layer_norm_eps)

    def _step(self, of_x: Tensor, of_h: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.module, torch.nn.LSTM):
            i, f, g, o = (of_x + of_h).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        (x_r, x_z, x_n), (h_r, h_z, h_n) = of_x.chunk(3, -1), of_h.chunk(3, -1)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return (1 - z) * n + z * h, c

    def _zoned(self, before: Tensor, after: Tensor, mask: Tensor | None) -> Tensor:
        rate = self.options.zoneout[0]
        if not rate:
            return after
        keep = rate if mask is None else mask
        return keep * before + (1 - keep) * after
