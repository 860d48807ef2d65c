"""Gradients of the weights for each sample, of one call for all samples.

The engine adds the gradients of a weight up over all rows. What it adds up are products with the
gradients of the pre-activations, a, and these it gives as well, when it is asked for the gradient
of the input of an equivalent layer: one that is given ``x @ W_ih^T``, with the identity as its
W_ih. What that layer keeps of the forward pass is the same. With h the states that the steps begin
with, and d_a the gradients of a, those of a sample are sums over its own steps and rows::

    d_W_ih = sum d_a^T x        d_b_ih = sum d_a
    d_W_hh = sum d_a_h^T h      d_b_hh = sum d_a_h

d_a_h is d_a, but for the GRU's n, where it is r * d_a: its recurrent share is multiplied by r.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ._checks import GATES
from .layout import SINGLE, Layout
from .precision import full_precision
from .spec import PLAIN

__all__ = ["are_served", "gradients"]


def are_served(layout: Layout, tensors: Sequence[Any]) -> bool:
    """Whether the equations above hold: one of torch's layers or cells, dense, on the CPU."""
    spec = layout.spec
    data, ragged = tensors[0], any(tensor is not None for tensor in tensors[3:SINGLE])
    plain = spec.variant == PLAIN and not spec.proj_size and spec.num_layers == 1
    return plain and not ragged and data.is_cpu


@full_precision()
def gradients(
    layout: Layout,
    samples: int,
    y: Tensor,
    tensors: Sequence[Any],
    pull_back: Callable[[Layout, Sequence[Any]], tuple[Tensor, ...]],
) -> list[Tensor]:
    """The gradients that ``layout`` needs, with the samples first in those of the weights.

    Row b of sample v is row b V + v of the tensors, of y, and of the other gradients. ``pull_back``
    gives the gradients of an equivalent call, which is made of its layout and tensors.
    """
    data, hx = tensors[:2]
    weights = tensors[SINGLE : layout.weights_end]
    directions = 2 if layout.spec.bidirectional else 1
    count = len(weights) // directions
    own = [weights[d * count : (d + 1) * count] for d in range(directions)]
    d_a, *d_states = pull_back(*_equivalent(layout, tensors, own))
    found: list[Tensor | None] = [None, *d_states]
    if layout.needed[0]:
        w_ih = torch.cat([w_ih for w_ih, *_ in own])
        found[0] = d_a @ w_ih
    of_weights: list[Tensor] = []
    x, rows_of_d_a, h = (_in_order_of_time(layout, t) for t in (data, d_a, y))
    both = zip(rows_of_d_a.chunk(directions, -1), h.chunk(directions, -1), own, strict=True)
    for d, (of_a, of_h, of_direction) in enumerate(both):
        initial = hx if hx is None or hx.dim() == 2 else hx[d]
        before = _states_before(of_h, initial, reverse=d == 1)
        of_weights += _of_direction(layout, samples, of_a, x, before, of_direction)
    found += [g for g, need in zip(of_weights, layout.needed[3:], strict=True) if need]
    return [gradient for gradient in found if gradient is not None]


def _of_direction(
    layout: Layout, samples: int, d_a: Tensor, x: Tensor, h: Tensor, weights: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of W_ih, W_hh and, if there are any, of b_ih and b_hh."""
    d_a_h = _of_recurrent_share(layout, d_a, x, h, weights)
    x, h, d_a, d_a_h = (
        t.unflatten(1, (-1, samples))  # type: ignore[no-untyped-call]
        for t in (x, h, d_a, d_a_h)
    )
    products = [torch.einsum("tbvg,tbvf->vgf", *pair) for pair in ((d_a, x), (d_a_h, h))]
    sums = [of_bias.sum((0, 1)) for of_bias in (d_a, d_a_h)]
    return [*products, *sums][: len(weights)]


def _equivalent(
    layout: Layout, tensors: Sequence[Any], own: Sequence[Sequence[Tensor]]
) -> tuple[Layout, list[Any]]:
    """The layout and the tensors of the layer with the identity as its W_ih."""
    data = tensors[0]
    products = torch.cat([data @ w_ih.t() for w_ih, *_ in own], -1)
    width = products.shape[-1]
    identities = torch.eye(width, dtype=data.dtype, device=data.device).chunk(len(own))
    weights = [w for one, (_, *rest) in zip(identities, own, strict=True) for w in (one, *rest)]
    needed = (True, *layout.needed[1:3], *(False for _ in weights))
    spec = replace(layout.spec, input_size=width)
    return replace(layout, spec=spec, needed=needed), [products, *tensors[1:SINGLE], *weights]


def _in_order_of_time(layout: Layout, tensor: Tensor) -> Tensor:
    """[T, rows, features]."""
    if tensor.dim() == 2:
        return tensor[None]
    return tensor.transpose(0, 1) if layout.batch_first else tensor


def _states_before(h: Tensor, initial: Tensor | None, *, reverse: bool) -> Tensor:
    """[T, rows, H], the state that each step begins with, out of those that they end with."""
    first = torch.zeros_like(h[:1]) if initial is None else initial[None]
    return torch.cat([h[1:], first] if reverse else [first, h[:-1]])


def _of_recurrent_share(
    layout: Layout, d_a: Tensor, x: Tensor, h: Tensor, weights: Sequence[Tensor]
) -> Tensor:
    """d_a_h; for the GRU r is computed again."""
    if layout.spec.cell != "gru":
        return d_a
    w_ih, w_hh, *biases = (weight.chunk(GATES["gru"])[0] for weight in weights)
    r = torch.sigmoid(sum(biases, x @ w_ih.t() + h @ w_hh.t()))
    of_r, of_z, of_n = d_a.chunk(GATES["gru"], -1)
    return torch.cat([of_r, of_z, r * of_n], -1)
