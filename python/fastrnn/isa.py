"""Which instruction set the engine computes with.

The extension carries its kernels once for each instruction set and takes the best that the
processor has. The environment variable ``FASTRNN_ISA``, read when the extension is loaded, and
`force` choose another. The choice is the process's: it holds for every thread.

Some processors with an instruction set have instructions beyond it, its `extensions`, which compute
with one format of numbers. Those that are proven, which a processor has run and timed, are on where
they are available. The environment variable ``FASTRNN_EXTENSIONS``, read by the first call, chooses
others: names, separated by commas, ``all``, which is those that the processor has, or ``none``.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple

from . import _core

__all__ = ["Extension", "active", "available", "built", "extensions", "force"]


class Extension(NamedTuple):
    """Instructions that some processors with an instruction set have."""

    name: str
    isa: str
    """The instruction set, one of `built`."""
    number_format: str
    """What it multiplies: "int8" of frozen layers, or "bfloat16_products" of calls in bfloat16."""
    available: bool
    """Whether this processor has it, and the system lets processes use it."""
    proven: bool
    """Whether a processor has run its kernels, which were faster than those that they replace."""
    on: bool
    """Whether calls use it where its instruction set is active."""


def built() -> list[str]:
    """Names of the instruction sets that this build has kernels for, the best last."""
    return _core.isa_built()


def available() -> list[str]:
    """Those of `built` that this processor can run, the best last."""
    return _core.isa_available()


def active() -> str:
    """The instruction set that the next call computes with.

    Raises
    ------
    RuntimeError
        ``FASTRNN_ISA`` or ``FASTRNN_EXTENSIONS`` names one that does not exist here; the message
        lists those that do.
    """
    return _core.isa_active()


def extensions() -> list[Extension]:
    """Those that this build has kernels for.

    If ``FASTRNN_EXTENSIONS`` names one that does not exist here, the next call raises a
    RuntimeError that lists those that do.
    """
    return [
        Extension(own.name, own.isa, own.format.name, own.available, own.proven, own.on)
        for own in _core.extensions()
    ]


class force:
    """Compute with the instruction set ``name`` from now on, or only within a ``with``.

    Parameters
    ----------
    name : str or None
        One of `available`; None goes back to the automatic choice.

    Raises
    ------
    ValueError
        This build has no kernels of that name.
    RuntimeError
        It has, but this processor cannot run them.

    Examples
    --------
    >>> fastrnn.isa.force("avx2")          # for good
    >>> with fastrnn.isa.force("avx2"):    # what was chosen before holds again afterwards
    ...     y, h = layer(x)
    """

    _chosen: str | None = None

    def __init__(self, name: str | None) -> None:
        if name is not None and name not in built():
            raise ValueError(f"isa.force: expected one of {built()} or None, got {name!r}")
        if name is not None and name not in available():
            raise RuntimeError(f"isa.force: this processor cannot run {name!r}, only {available()}")
        self._previous = force._chosen
        self._choose(name)

    def __enter__(self) -> force:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._choose(self._previous)

    @staticmethod
    def _choose(name: str | None) -> None:
        _core.isa_force(name)
        force._chosen = name
