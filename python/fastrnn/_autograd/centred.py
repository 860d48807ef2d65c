"""Weights less their mean over the units, as one node of torch's graph for all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _torch
from . import operators

__all__ = ["centred"]


def centred(weights: list[Tensor], groups: int) -> list[Tensor]:
    """Weights [G*H, K] less their mean over all rows, or over the rows of each group.

    What they make of a state has the mean 0.
    """
    if operators.is_watched():
        return [_centred(weight, groups) for weight in weights]
    return list(_apply(groups, *weights))


def _centred(weight: Tensor, groups: int) -> Tensor:
    if groups == 1:
        return weight - weight.mean(0)
    apart: Tensor = weight.unflatten(0, (groups, -1))  # type: ignore[no-untyped-call]
    return (apart - apart.mean(1, keepdim=True)).flatten(0, 1)


class _Centred(torch.autograd.Function):
    """What centres a weight centres its gradient; torch's own nodes would take twice as long."""

    @staticmethod
    def forward(ctx: Any, groups: int, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.groups = groups
        ctx.set_materialize_grads(False)
        return tuple(_centred(weight, groups) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        each = zip(gradients, ctx.needs_input_grad[1:], strict=True)
        return None, *(
            _centred(one, ctx.groups) if one is not None and needed else None
            for one, needed in each
        )


_apply = _torch.apply_untransformed(_Centred)
