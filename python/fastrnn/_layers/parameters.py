"""The weights of a module, wherever they live."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch

__all__ = ["are_own", "by_name"]


def by_name(module: torch.nn.Module, names: Sequence[str]) -> tuple[Any, ...]:
    """The weights as they are now, from the dict that holds them or from elsewhere."""
    try:
        found: Any = itemgetter(*names)(module._parameters)
        return found if len(names) > 1 else (found,)
    except KeyError:  # parametrized, pruned, weight-normed or replicated: an attribute then
        return tuple(getattr(module, name) for name in names)


def are_own(module: torch.nn.Module, names: Sequence[str], weights: Sequence[Any]) -> bool:
    """Whether none of ``weights`` is put in the place of what the module holds under its name.

    What it does not hold, something computes when it is asked for, as parametrizations do.
    """
    held = {**vars(module), **module._parameters}
    pairs = zip(names, weights, strict=False)
    return all(held.get(name, weight) is weight for name, weight in pairs)
