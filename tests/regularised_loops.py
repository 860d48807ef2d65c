"""Regularised recurrences as loops over plain torch operations, written from papers and sources.

Each has one direction of one layer, x [T, B, I] and states [B, H], and the masks that it is given.
``w`` are `fastrnn._call.weights.Weights`, in torch's order of gates; `OfDirection` has the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm as norm
from torch.nn.functional import linear

Step = Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]


def unrolled(steps: int, states: tuple[Tensor, ...], step: Step) -> tuple[Tensor, ...]:
    """The outputs [T, B, H] and the final states."""
    outputs = []
    for t in range(steps):
        states = step(t, states)
        outputs.append(states[0])
    return torch.stack(outputs), *states


def _each(masks: Sequence[Tensor], count: int) -> Sequence[Any]:
    return masks if len(masks) == count else [masks[0] if masks else 1.0] * count


def keras_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, of_x: Any, of_h: Any) -> Any:
    """``keras.layers.LSTMCell.call`` of Keras 3, implementation 1: a mask for each gate."""
    x_i, x_f, x_c, x_o = _each(of_x, 4)
    h_i, h_f, h_c, h_o = _each(of_h, 4)
    k_i, k_f, k_c, k_o = w.w_ih.chunk(4)
    r_i, r_f, r_c, r_o = w.w_hh.chunk(4)
    b_i, b_f, b_c, b_o = (w.b_ih + w.b_hh).chunk(4)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i = torch.sigmoid(linear(x[t] * x_i, k_i, b_i) + linear(h * h_i, r_i))
        f = torch.sigmoid(linear(x[t] * x_f, k_f, b_f) + linear(h * h_f, r_f))
        c = f * c + i * torch.tanh(linear(x[t] * x_c, k_c, b_c) + linear(h * h_c, r_c))
        o = torch.sigmoid(linear(x[t] * x_o, k_o, b_o) + linear(h * h_o, r_o))
        return o * torch.tanh(c), c

    return unrolled(len(x), (h, c), step)


def keras_gru(x: Tensor, h: Tensor, w: Any, of_x: Any, of_h: Any, reset_after: bool) -> Any:
    """``keras.layers.GRUCell.call`` of Keras 3, implementation 1; z * h is not masked."""
    x_r, x_z, x_h = _each(of_x, 3)
    h_r, h_z, h_h = _each(of_h, 3)
    k_r, k_z, k_h = w.w_ih.chunk(3)
    r_r, r_z, r_h = w.w_hh.chunk(3)
    b_r, b_z, b_h = w.b_ih.chunk(3)
    c_r, c_z, c_h = w.b_hh.chunk(3)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        z = torch.sigmoid(linear(x[t] * x_z, k_z, b_z) + linear(h * h_z, r_z, c_z))
        r = torch.sigmoid(linear(x[t] * x_r, k_r, b_r) + linear(h * h_r, r_r, c_r))
        if reset_after:
            recurrent = r * linear(h * h_h, r_h, c_h)
        else:
            recurrent = linear(r * (h * h_h), r_h, c_h)
        hh = torch.tanh(linear(x[t] * x_h, k_h, b_h) + recurrent)
        return (z * h + (1 - z) * hh,)

    return unrolled(len(x), (h,), step)


def keras_rnn(x: Tensor, h: Tensor, w: Any, of_x: Any, of_h: Any) -> Any:
    """``keras.layers.SimpleRNNCell.call`` of Keras 3."""

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = linear(x[t] * of_x[0], w.w_ih, w.b_ih + w.b_hh)
        return (torch.tanh(a + linear(states[0] * of_h[0], w.w_hh)),)

    return unrolled(len(x), (h,), step)


def stanza_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, mask: Tensor) -> Any:
    """``stanza.models.common.packed_lstm.LSTMwRecDropout``: the h of every step is masked alike."""
    cell = torch.nn.functional

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i, f, g, o = (
            cell.linear(x[t], w.w_ih, w.b_ih) + cell.linear(h * mask, w.w_hh, w.b_hh)
        ).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    return unrolled(len(x), (h, c), step)


def gal_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, z_x: Tensor, z_h: Tensor) -> Any:
    """Gal & Ghahramani 2016, arXiv 1512.05287, equation 7: tied weights, masks of a sequence."""
    joint = torch.cat([w.w_ih, w.w_hh], 1)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        a = linear(torch.cat([x[t] * z_x, h * z_h], 1), joint, w.b_ih + w.b_hh)
        i, f, g, o = a.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    return unrolled(len(x), (h, c), step)


def semeniuta_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, masks: Tensor) -> Any:
    """Semeniuta, Severyn & Barth 2016, arXiv 1603.05118: c_t = f * c_{t-1} + i * d(g)."""

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i, f, g, o = (linear(x[t], w.w_ih, w.b_ih) + linear(h, w.w_hh, w.b_hh)).chunk(4, 1)
        d = masks[t] if masks.dim() == 3 else masks
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * (torch.tanh(g) * d)
        return torch.sigmoid(o) * torch.tanh(c), c

    return unrolled(len(x), (h, c), step)


def semeniuta_gru(x: Tensor, h: Tensor, w: Any, masks: Tensor) -> Any:
    """The same paper's h_t = (1 - z) * h_{t-1} + z * d(g), whose z is torch's 1 - z."""

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        x_r, x_z, x_n = linear(x[t], w.w_ih, w.b_ih).chunk(3, 1)
        h_r, h_z, h_n = linear(h, w.w_hh, w.b_hh).chunk(3, 1)
        z = 1 - torch.sigmoid(x_z + h_z)
        g = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return ((1 - z) * h + z * (g * (masks[t] if masks.dim() == 3 else masks)),)

    return unrolled(len(x), (h,), step)


def krueger_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, d_h: Any, d_c: Any) -> Any:
    """Krueger et al. 2017, arXiv 1606.01305, equations 5 and 6; 1 where a unit stays.

    In eval ``d_h`` and ``d_c`` are the rates of each step.
    """

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i, f, g, o = (linear(x[t], w.w_ih, w.b_ih) + linear(h, w.w_hh, w.b_hh)).chunk(4, 1)
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        out = torch.sigmoid(o) * torch.tanh(new)
        return d_h[t] * h + (1 - d_h[t]) * out, d_c[t] * c + (1 - d_c[t]) * new

    return unrolled(len(x), (h, c), step)


def haste_gru(x: Tensor, h: Tensor, w: Any, zoneout_mask: Any, weight_mask: Any) -> Any:
    """``haste_pytorch.GRU``: zoneout of h, whose mask is 1 where it does not stay; DropConnect."""
    recurrent = w.w_hh * weight_mask

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        x_r, x_z, x_g = linear(x[t], w.w_ih, w.b_ih).chunk(3, 1)
        h_r, h_z, h_g = linear(h, recurrent, w.b_hh).chunk(3, 1)
        z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
        new = z * h + (1 - z) * torch.tanh(x_g + r * h_g)
        return ((new - h) * zoneout_mask[t] + h,)

    return unrolled(len(x), (h,), step)


def haste_layer_norm_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, norms: Any, mask: Any) -> Any:
    """``haste_pytorch.LayerNormLSTM``: bias after two norms without beta, c itself carried on."""
    of_x = norm(x @ w.w_ih.t(), w.w_ih.shape[:1], norms["norm_ih_weight"])

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        of_h = norm(h @ w.w_hh.t(), w.w_hh.shape[:1], norms["norm_hh_weight"])
        i, f, g, o = (of_x[t] + of_h + w.b_ih + w.b_hh).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        gamma_h, beta_h = norms["norm_cell_weight"], norms["norm_cell_bias"]
        new = torch.sigmoid(o) * torch.tanh(norm(c, c.shape[1:], gamma_h, beta_h))
        return (new - h) * mask[t] + h, c

    return unrolled(len(x), (h, c), step)


def haste_layer_norm_gru(x: Tensor, h: Tensor, w: Any, norms: Any) -> Any:
    """``haste_pytorch.LayerNormGRU``: the recurrent bias within what the reset gate multiplies."""
    of_x = norm(x @ w.w_ih.t(), w.w_ih.shape[:1], norms["norm_ih_weight"]) + w.b_ih

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        of_h = norm(h @ w.w_hh.t(), w.w_hh.shape[:1], norms["norm_hh_weight"]) + w.b_hh
        x_r, x_z, x_g = of_x[t].chunk(3, 1)
        h_r, h_z, h_g = of_h.chunk(3, 1)
        z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
        return (z * h + (1 - z) * torch.tanh(x_g + r * h_g),)

    return unrolled(len(x), (h,), step)


def separately_masked_norm(
    kind: str, x: Tensor, states: Sequence[Tensor], w: Any, norms: Any, of_h: Sequence[Tensor]
) -> Any:
    """Keras's masks of each gate before one norm of all gates' recurrent products."""
    of_x = linear(x, w.w_ih, w.b_ih)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        each = zip(of_h, w.w_hh.chunk(len(of_h)), strict=True)
        shares = torch.cat([linear(states[0] * mask, rows) for mask, rows in each], 1)
        weight, bias = norms["norm_hh_weight"], norms["norm_hh_bias"]
        shares = norm(shares, shares.shape[1:], weight, bias) + w.b_hh
        if kind == "LSTM":
            i, f, g, o = (of_x[t] + shares).chunk(4, 1)
            c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        (x_r, x_z, x_n), (h_r, h_z, h_n) = of_x[t].chunk(3, 1), shares.chunk(3, 1)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return ((1 - z) * n + z * states[0],)

    return unrolled(len(x), tuple(states), step)


def torch_layer_norm_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, norms: Any) -> Any:
    """``LayerNormLSTMCell`` of torch's benchmarks/fastrnns/custom_lstms.py: c is normalised."""

    def normed(place: str, values: Tensor) -> Tensor:
        weight, bias = norms[f"norm_{place}_weight"], norms[f"norm_{place}_bias"]
        return norm(values, values.shape[1:], weight, bias)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        gates = normed("ih", x[t] @ w.w_ih.t()) + normed("hh", h @ w.w_hh.t())
        i, f, g, o = gates.chunk(4, 1)
        c = normed("cell", torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        return torch.sigmoid(o) * torch.tanh(c), c

    return unrolled(len(x), (h, c), step)


def addons_layer_norm_lstm(x: Tensor, h: Tensor, c: Tensor, w: Any, norms: Any) -> Any:
    """``tfa.rnn.LayerNormLSTMCell``: epsilon 1e-3, a bias behind the norms, c is normalised."""

    def normed(place: str, values: Tensor) -> Tensor:
        weight, bias = norms[f"norm_{place}_weight"], norms[f"norm_{place}_bias"]
        return norm(values, values.shape[1:], weight, bias, eps=1e-3)

    def step(t: int, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        z = normed("ih", x[t] @ w.w_ih.t()) + normed("hh", h @ w.w_hh.t()) + w.b_ih + w.b_hh
        i, f, g, o = z.chunk(4, 1)
        c = normed("cell", torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        return torch.sigmoid(o) * torch.tanh(c), c

    return unrolled(len(x), (h, c), step)


def awd_lstm(x: Tensor, weights: Sequence[Any], of_x: Sequence[Any], of_w: Sequence[Any]) -> Tensor:
    """Merity et al. 2018, arXiv 1708.02182: a stack with dropped weights and locked dropout.

    A mask [B, I] of each layer's input for all steps, and one of each layer's recurrent weights.
    """
    for w, mask, dropped in zip(weights, of_x, of_w, strict=True):
        layer = torch.nn.LSTM(*w.w_ih.shape[1:], w.w_hh.shape[1]).double()
        own = {"weight_ih_l0": w.w_ih, "weight_hh_l0": w.w_hh * dropped}
        own |= {"bias_ih_l0": w.b_ih, "bias_hh_l0": w.b_hh}
        x, _ = torch.func.functional_call(layer, own, (x * mask,))
    return x
