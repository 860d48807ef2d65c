"""Gradients of the weights for each sample, of one call for all samples.

The engine adds the gradients of a weight up over all rows. What it adds up are products with the
gradients of the pre-activations, a, and these it gives as well, when it is asked for the gradient
of the input of an equivalent layer: one that is given ``x @ W_ih^T``, with the identity as its
W_ih. What that layer keeps of the forward pass is the same. With h and c the states that the steps
begin with, c' those that they end with, and d_a the gradients of a, those of a sample are sums over
its own steps and rows::

    d_W_ih = sum d_a^T x        d_b_ih = sum d_a
    d_W_hh = sum d_a_h^T h      d_b_hh = sum d_a_h
    d_w_ch = sum d_a * c        for the peepholes of i, f and g; sum d_a * c' for that of o
    d_W_hr = sum d_h'^T m       m what is projected, h' = m @ W_hr^T

d_a_h is d_a, but for the GRU's n, where it is r * d_a: its recurrent share is multiplied by r. With
the reset gate before the product d_W_hh has r * h instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import reference
from .._call.arguments import Arguments, Layout
from .._call.precision import full_precision
from .._call.spec import Spec
from .._call.weights import Weights, each_direction, flat
from .walk import Walk

__all__ = ["Samples", "gradients", "joined"]


@dataclass(frozen=True)
class Samples:
    """One call for all samples: of one layer, over [T, B V, I], with all states and no mask.

    Row b of sample v is row b V + v of every tensor. ``d_outputs`` are the gradients of y, h_n,
    c_n, h_all and c_all.
    """

    layout: Layout
    count: int
    arguments: Arguments
    h_all: Tensor
    c_all: Tensor
    d_outputs: Sequence[Tensor | None]

    @property
    def spec(self) -> Spec:
        return self.layout.spec

    @property
    def of_directions(self) -> list[Weights]:
        """The weights of each direction."""
        return each_direction(self.spec, self.arguments.weights)

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """[V, features of a, features of b], summed over the steps and rows of each sample."""
        return self._apart(a).permute(1, 2, 0) @ self._apart(b).transpose(0, 1)  # without a copy

    def sums(self, a: Tensor) -> Tensor:
        """[V, features], likewise."""
        return self._apart(a).sum(0)

    def _apart(self, rows: Tensor) -> Tensor:
        """[T B, V, features]."""
        return rows.reshape(-1, self.count, rows.shape[-1])


@full_precision()
def gradients(
    samples: Samples, pull_back: Callable[[Layout, Arguments], Sequence[Tensor]]
) -> list[Tensor]:
    """The gradients that the layout needs, with the samples first in those of the weights.

    ``pull_back`` gives the gradients of an equivalent call, which is made of its layout and
    tensors.
    """
    own = samples.of_directions
    d_a, *found = pull_back(*_equivalent(samples))
    needs_data, _, _, *needs_weights = samples.layout.needed
    if needs_data:
        found.insert(0, d_a @ joined([weights.w_ih for weights in own]))
    of_weights = [
        gradient
        for d, of_direction in enumerate(d_a.chunk(len(own), -1))
        for gradient in _Direction(samples, d).gradients(of_direction)
    ]
    found += [g for g, need in zip(of_weights, needs_weights, strict=True) if need]
    return found


def _equivalent(samples: Samples) -> tuple[Layout, Arguments]:
    """The layout and the tensors of the layer with the identity as its W_ih."""
    layout, arguments, own = samples.layout, samples.arguments, samples.of_directions
    data = arguments.data
    products = joined([data @ weights.w_ih.t() for weights in own], -1)
    width = products.shape[-1]
    identities = torch.eye(width, dtype=data.dtype, device=data.device).chunk(len(own))
    weights = flat([w._replace(w_ih=one) for one, w in zip(identities, own, strict=True)])
    needed = (True, *layout.needed[1:3], *(False for _ in weights))
    spec = replace(layout.spec, input_size=width)
    wide = replace(layout, spec=spec, needed=needed)
    return wide, arguments._replace(data=products, weights=weights)


class _Direction:
    """One direction of the layer: what its steps begin with, and what comes of it."""

    def __init__(self, samples: Samples, number: int) -> None:
        self.samples = samples
        self.number = number
        self.spec = spec = samples.spec
        data, hx, cx, _, _, lengths, resets, *_ = samples.arguments
        reverse = spec.variant.reverse or number == 1
        self.walk = Walk(data, lengths, resets, reverse=reverse)
        self.x = data
        self.h = self.walk.before(samples.h_all[number], None if hx is None else hx[number])
        self.weights = samples.of_directions[number]
        if spec.proj_size or spec.variant.peephole:
            self.c = self.walk.before(samples.c_all[number], None if cx is None else cx[number])

    def gradients(self, d_a: Tensor) -> list[Tensor]:
        """Of the weights, in their order."""
        products, sums = self.samples.products, self.samples.sums
        shares = self._recurrent_shares(d_a)
        found = [products(d_a, self.x), joined([products(*share) for share in shares], 1)]
        if self.spec.bias:
            found += [sums(d_a), joined([sums(d_a_h) for d_a_h, _ in shares], 1)]
        if self.spec.proj_size:
            found.append(products(self._d_projected(d_a), self._before_projection()))
        if self.spec.variant.peephole:
            found.append(sums(self._of_peepholes(d_a)))
        return found

    def _recurrent_shares(self, d_a: Tensor) -> list[tuple[Tensor, Tensor]]:
        """d_a_h, and what W_hh is multiplied by, of gates that have the same there."""
        if self.spec.cell != "gru":
            return [(d_a, self.h)]
        r, _ = reference.gru_gates(self.x, self.h, *self.weights[:4], self.spec.variant)
        of_r, of_z, of_n = d_a.chunk(3, -1)
        if self.spec.variant.reset_after:
            return [(torch.cat([of_r, of_z, r * of_n], -1), self.h)]
        return [(torch.cat([of_r, of_z], -1), self.h), (of_n, r * self.h)]

    def _of_peepholes(self, d_a: Tensor) -> Tensor:
        """d_a * c, of the gates that have a peephole; o sees the state that the step ends with."""
        gates = self.spec.gates
        of_gate = dict(zip(gates, d_a.chunk(len(gates), -1), strict=True))
        after = self.samples.c_all[self.number]
        seen = [
            of_gate[letter] * (after if letter == "o" else self.c)
            for letter in self.spec.variant.peephole
        ]
        return torch.cat(seen, -1)

    def _before_projection(self) -> Tensor:
        """m, which is the h' of a cell without a projection."""
        own = self.weights._replace(w_hr=None)
        m, _ = reference.lstm_step(self.x, self.h, self.c, *own, variant=self.spec.variant)
        return m

    def _d_projected(self, d_a: Tensor) -> Tensor:
        """d_h', from the outputs and from the steps that begin with h'."""
        d_y, d_h_n, _, d_h_all, _ = self.samples.d_outputs
        d_h = self.walk.before_backward(d_a @ self.weights.w_hh)
        if d_y is not None:
            d_h = d_h + d_y.chunk(len(self.samples.of_directions), -1)[self.number]
        if d_h_all is not None:
            d_h = d_h + d_h_all[self.number]
        if d_h_n is not None:
            d_h = d_h + self.walk.at_last_step(d_h_n[self.number])
        return self.walk.zero_past_ends(d_h)


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """One after the other; no copy of one that is alone."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)
