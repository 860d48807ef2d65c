"""The weights of a module, wherever they live."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch

__all__ = ["by_name"]


def by_name(module: torch.nn.Module, names: Sequence[str]) -> tuple[Any, ...]:
    """Two weights or more as they are now, from the dict that holds them or from elsewhere."""
    try:
        weights: tuple[Any, ...] = itemgetter(*names)(module._parameters)
    except KeyError:  # parametrized, pruned, weight-normed or replicated: an attribute then
        weights = tuple(getattr(module, name) for name in names)
    return weights
