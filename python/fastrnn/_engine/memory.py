"""Memory that the engine keeps between calls."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _core

__all__ = ["empty_cache", "new_kept"]


def new_kept(elements: int, dtype: torch.dtype) -> Tensor:
    """What forward keeps for backward; a large one lies in what earlier calls have left."""
    size = elements * dtype.itemsize
    if size < _core.WORTH_LEAVING:
        return torch.empty(elements, dtype=dtype, device="cpu")
    return torch.frombuffer(_core.Scratch(size), dtype=dtype, count=elements)


def empty_cache() -> None:
    """Give back the memory that calls have left for later ones.

    A call on the CPU works in memory that an earlier one has left, and keeps there what backward
    needs if that is large, since fresh pages cost it up to a fifth of its time: up to 256 MiB in
    all. What is in use is not part of it. The next call takes fresh memory again. See
    `torch.cuda.empty_cache` for the same thing there.
    """
    _core.empty_cache()
