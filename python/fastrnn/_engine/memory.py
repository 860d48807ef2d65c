"""Memory that the engine keeps between calls."""

from __future__ import annotations

from .. import _core

__all__ = ["empty_cache"]


def empty_cache() -> None:
    """Give back the memory that calls have left for later ones.

    A call on the CPU works in memory that an earlier one has left, since fresh pages cost it up to
    a fifth of its time: up to 256 MiB, as many times as calls have run at once. What a tensor of
    torch's holds is not part of it. The next call takes fresh memory again. See
    `torch.cuda.empty_cache` for the same thing there.
    """
    _core.empty_cache()
