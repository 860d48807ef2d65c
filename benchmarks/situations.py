"""What a point is timed in: how many threads everyone has, and what else keeps processors busy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from benchmarks.companions import Companion, await_line, companion, early_end

# Beside the quiet one, the situations of the grid of that name
BUSY_GRID = "busy"
_BUSY_PROCESSES = 2
_THREADS_PER_CORE = 4


@dataclass(frozen=True)
class Situation:
    """What does not belong to a workload and yet decides its time.

    Attributes
    ----------
    busy : processes that spin beside everything that is timed.
    threads : how many every contender is given, be there processors for them or not.
    """

    busy: int = 0
    threads: int = 1

    @property
    def name(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        if not self.busy:
            return threads
        return f"{threads} beside {self.busy} busy process{'' if self.busy == 1 else 'es'}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Bring it about until the block ends, however that ends."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with busy_processes(self.busy):
                yield
        finally:
            torch.set_num_threads(before)


def situations_of(grid: str, busy: int | None, threads: int | None) -> tuple[Situation, ...]:
    """Return the one that is asked for, or if none is, those of the grid; the first is quiet.

    Parameters
    ----------
    grid : name of a grid. All but one have a single situation.
    busy, threads : what the command line says; None if it does not.
    """
    asked = Situation(busy or 0, threads or torch.get_num_threads())
    if grid != BUSY_GRID or busy is not None or threads is not None:
        return (asked,)
    crowded = replace(asked, threads=_THREADS_PER_CORE * cores())
    return (asked, replace(asked, busy=_BUSY_PROCESSES), crowded)


def cores() -> int:
    """Processors that this process may use: fewer than the machine has, in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def busy_processes(count: int) -> Iterator[list[Companion]]:
    """Keep so many processes spinning until the block ends.

    Raises
    ------
    RuntimeError
        One of them ended before that, so that figures were taken in another situation.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(companion("benchmarks.spinner")) for _ in range(count)]
        for process in found:
            await_line(process)
        yield found
        for process in found:
            if process.poll() is not None:
                raise early_end(process)
