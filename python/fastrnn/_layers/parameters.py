"""The weights of a module, wherever they live."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch

__all__ = ["by_name"]


def by_name(module: torch.nn.Module, names: Sequence[str]) -> tuple[Any, ...]:
    """The weights as they are now, from the dict that holds them or from elsewhere."""
    try:
        found: Any = itemgetter(*names)(module._parameters)
        return found if len(names) > 1 else (found,)
    except KeyError:  # parametrized, pruned, weight-normed or replicated: an attribute then
        return tuple(getattr(module, name) for name in names)
