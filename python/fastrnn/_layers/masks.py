"""The masks of regularised layers: drawn from torch's generator in one order.

Layer by layer: the one of its input; then for each of its directions those of the recurrent
weights, of the recurrent dropout, and of zoneout, h before c; then the one of torch's dropout
behind the layer, unless it is the last. Separate masks of gates come in the order of the weights'
rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _torch
from .._autograd import operators
from .._call.dropout import dropout_mask
from .._call.regularised import Regularised
from .._call.spec import Spec
from .._engine import native

__all__ = ["OfDirection", "OfLayer", "Rows", "draw"]


class OfDirection(NamedTuple):
    """The masks of one direction of a layer, scaled by 1 / (1 - p) but for zoneout's; None: none.

    ``weight`` is [G*H, K] or [G*H, 1]. Of ``recurrent`` there is one, or with separate gates one
    for each; they are [B, H], or of every step [T, B, H], [N, H] for a packed batch. So are those
    of zoneout, which are 1 where the state before stays and 0 where it does not.
    """

    weight: Tensor | None = None
    recurrent: Sequence[Tensor] = ()
    zoneout_h: Tensor | None = None
    zoneout_c: Tensor | None = None

    def of_steps(self, per_step: bool) -> list[Tensor]:
        """Those that every step has its own of, in the order of `Parts.inputs`."""
        zoned = [mask for mask in (self.zoneout_h, self.zoneout_c) if mask is not None]
        return [*(self.recurrent if per_step else ()), *zoned]


class OfLayer(NamedTuple):
    """The masks of a layer.

    Of ``input`` there is one, or with separate gates one for each, or none: [B, I], or of every
    step [T, B, I], [N, I] for a packed batch. ``output`` is that of torch's dropout, [T, B, D*K] or
    [N, D*K].
    """

    input: Sequence[Tensor] = ()
    directions: Sequence[OfDirection] = ()
    output: Tensor | None = None


class Rows(NamedTuple):
    """What a mask is drawn for: B sequences, and (T, B) or (N,) steps of them."""

    of_call: tuple[int, ...]
    of_steps: tuple[int, ...]

    def of(self, per: str) -> tuple[int, ...]:
        return self.of_call if per == "call" else self.of_steps


def draw(
    spec: Spec, options: Regularised, rows: Rows, like: Tensor, training: bool
) -> list[OfLayer]:
    """The masks of a stack of layers without options, which ``spec`` describes.

    ``like`` gives dtype and device. Without ``training`` there are none but those of weights.
    """
    return [_of_layer(spec, options, rows, like, training, n) for n in range(spec.num_layers)]


def _of_layer(
    spec: Spec, options: Regularised, rows: Rows, like: Tensor, training: bool, number: int
) -> OfLayer:
    features = spec.directions * spec.out if number else spec.input_size
    directions = range(spec.directions)
    if not training:
        return OfLayer(
            (), [OfDirection(_of_weight(spec, options, like, False)) for _ in directions]
        )
    shape = (*rows.of(options.input_dropout_per), features)
    count = len(spec.gates) if options.input_dropout_gates == "separate" else 1
    of_input = _dropout(options.input_dropout, shape, like, count)
    return OfLayer(
        of_input,
        [_of_direction(spec, options, rows, like) for _ in directions],
        dropout_mask((*rows.of_steps, spec.directions * spec.out), spec.dropout, like)
        if spec.dropout and number < spec.num_layers - 1
        else None,
    )


def _of_direction(spec: Spec, options: Regularised, rows: Rows, like: Tensor) -> OfDirection:
    units, (h, c) = (spec.hidden_size,), options.zoneout
    count = len(spec.gates) if options.recurrent_dropout_gates == "separate" else 1
    shape = rows.of(options.recurrent_dropout_per) + units
    return OfDirection(
        _of_weight(spec, options, like, True),
        _dropout(options.recurrent_dropout, shape, like, count),
        _of_zoneout(h, rows.of_steps + units, like),
        _of_zoneout(c, rows.of_steps + units, like),
    )


def _of_weight(spec: Spec, options: Regularised, like: Tensor, training: bool) -> Tensor | None:
    if not options.drops_weights(training):
        return None
    columns = 1 if options.weight_dropout_by == "row" else spec.out
    shape = (len(spec.gates) * spec.hidden_size, columns)
    return _scaled(options.weight_dropout, shape, like)


def _dropout(p: float, shape: tuple[int, ...], like: Tensor, count: int) -> list[Tensor]:
    return [_scaled(p, shape, like) for _ in range(count)] if p else []


def _scaled(p: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """0 with probability p, else 1 / (1 - p)."""
    return _drawn(1 - p, shape, like, 1 - p)


def _of_zoneout(p: float, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
    """1 with probability p, else 0."""
    return _drawn(p, shape, like, 1.0) if p else None


_LARGEST = 1 - 2.0**-24
"""Of the numbers of single precision below 1. Added to itself it stays below 2."""

_RARE = 2.0**-7
"""A rate that 16 bits would be off by more than a thousandth."""


def _drawn(p: float, shape: tuple[int, ...], like: Tensor, divisor: float) -> Tensor:
    """1 / ``divisor`` with probability p, else 0; the same draws whatever the dtype.

    64 bits are drawn at once, for four numbers that say p to 16 bits. On a CPU it takes less than
    half the time of a number in [0, 1) for each; and that a third of the time of ``bernoulli_``.
    """
    if not _RARE <= p <= 1 - _RARE:
        numbers = torch.rand(shape, dtype=torch.float32, device=like.device)
        return _divided(numbers.add_(min(p, _LARGEST)).floor_().to(like.dtype), divisor)
    count, device = math.prod(shape), like.device
    words = (-(-count // 4),)
    bits = torch.randint(-(2**63), 2**63 - 1, words, dtype=torch.int64, device=device)
    above = 2**15 + round(p * 2**16)
    mask = _by_the_engine(bits, shape, like, 2**16 - above, divisor)
    if mask is not None:
        return mask
    numbers = _quarters(bits)[:count].view(shape).to(torch.float32)
    return _divided(numbers.add_(above).mul_(2.0**-16).floor_().to(like.dtype), divisor)


def _divided(mask: Tensor, divisor: float) -> Tensor:
    return mask if divisor == 1 else mask.div_(divisor)


def _by_the_engine(
    bits: Tensor, shape: tuple[int, ...], like: Tensor, limit: int, divisor: float
) -> Tensor | None:
    """The same in a single pass on the CPU; None where torch's operations are to do it."""
    if like.is_cuda or operators.is_watched():
        return None
    tensors = native.tensors()
    if tensors is None:
        return None
    mask = torch.empty(shape, dtype=like.dtype, device=like.device)
    value = _quotient(divisor, like.dtype)
    return mask if tensors.drawn(bits, mask, limit, value, torch.get_num_threads()) else None


@lru_cache(maxsize=256)
def _quotient(divisor: float, dtype: torch.dtype) -> float:
    """1 / ``divisor`` as torch rounds it."""
    return torch.ones((), dtype=dtype, device="cpu").div_(divisor).item()


def _quarters(bits: Tensor) -> Tensor:
    """The four numbers of 16 bits in each of 64 bits, the lowest ones first."""
    if torch.compiler.is_dynamo_compiling() or not _torch.is_transformed():
        return bits.view(torch.int16)
    # Older versions of torch cannot view a batch of torch.vmap's as another dtype.
    return torch.stack([bits << left >> 48 for left in (48, 32, 16, 0)], -1).flatten()
