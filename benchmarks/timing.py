"""How calls are timed: in blocks that take turns. Nothing here knows what is called.

The thread pools of torch, ONNX Runtime and OpenVINO spin for a while after a call and slow down
whoever runs next, so single calls must not alternate. Each contender runs a block of calls, after a
pause in which its neighbours' threads fall asleep and two warm calls that wake its own.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]

PAUSE_S = 0.030
WARM_CALLS = 2


@dataclass(frozen=True)
class Effort:
    """How long to measure one point.

    Attributes
    ----------
    block_s : a block holds as many calls as fill this time, and never less than one.
    min_rounds, max_rounds : bounds on the rounds; each contender has one block in a round.
    budget_s : no new round starts after this time, once min_rounds are done.
    precision : rounds also end when the ratios' relative standard error is below this.
    """

    block_s: float
    min_rounds: int
    max_rounds: int
    budget_s: float
    precision: float


FULL = Effort(block_s=0.060, min_rounds=5, max_rounds=40, budget_s=6.0, precision=0.004)
QUICK = Effort(block_s=0.030, min_rounds=4, max_rounds=15, budget_s=1.2, precision=0.010)


class Clock(Protocol):
    """How calls are timed, and how one waits for what they started."""

    def each(self, call: Call, calls: int) -> tuple[float, ...]:
        """Seconds of each of so many calls."""

    def settle(self) -> None:
        """Wait until all is done that was started."""


class WallClock:
    """Times calls that are done when they return."""

    def each(self, call: Call, calls: int) -> tuple[float, ...]:
        clock = time.perf_counter
        seconds = []
        for _ in range(calls):
            start = clock()
            call()  # what it returns dies here, within the time: freeing it is part of its cost
            seconds.append(clock() - start)
        return tuple(seconds)

    def settle(self) -> None:
        """Nothing goes on after a call."""


WALL_CLOCK = WallClock()


@dataclass(frozen=True)
class Rounds:
    """The seconds of every call of one contender, block by block."""

    blocks: tuple[tuple[float, ...], ...]

    def median(self) -> float:
        """Median over all calls."""
        return statistics.median(second for block in self.blocks for second in block)

    def per_round(self) -> list[float]:
        """Median of each block. Ratios are taken within a round, so slow drift cancels."""
        return [statistics.median(block) for block in self.blocks]


NO_ROUNDS = Rounds(())


def take_turns(
    calls: Mapping[str, Call], effort: Effort, clock: Clock = WALL_CLOCK
) -> dict[str, Rounds]:
    """Time every call in blocks, in an order that rotates from round to round."""
    names = list(calls)
    block_calls = {
        name: _calls_per_block(call, effort.block_s, clock) for name, call in calls.items()
    }
    blocks: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    deadline = time.perf_counter() + effort.budget_s
    for done in range(effort.max_rounds):
        late = time.perf_counter() > deadline
        if done >= effort.min_rounds and (late or _settled(blocks, effort.precision)):
            break
        turn = done % len(names)
        for name in names[turn:] + names[:turn]:
            blocks[name].append(_timed_block(calls[name], block_calls[name], clock))
    return {name: Rounds(tuple(timed)) for name, timed in blocks.items()}


@contextmanager
def quiet_block() -> Iterator[None]:
    """Let the neighbours' threads fall asleep, then keep the collector out until the end."""
    gc.collect()
    time.sleep(PAUSE_S)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def steady_process() -> None:
    """Take two sources of chance out of this process, for everyone alike; call it once, early."""
    gc.collect()
    gc.freeze()  # what was imported needs no looking at before every block
    _keep_freed_memory()


def ratio_of_rounds(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median of the ratios within rounds: how many times ``faster`` is as fast as ``slower``."""
    return statistics.median(s / f for s, f in zip(slower, faster, strict=True))


def _timed_block(call: Call, calls: int, clock: Clock) -> tuple[float, ...]:
    with quiet_block():
        for _ in range(WARM_CALLS):
            call()
        clock.settle()
        return clock.each(call, calls)


def _calls_per_block(call: Call, block_s: float, clock: Clock) -> int:
    """Count the calls that fill a block; the estimate itself takes no more than a block."""
    call()
    clock.settle()
    calls, start = 0, time.perf_counter()
    while True:
        call()
        clock.settle()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed > block_s / 4:
            return max(1, round(block_s * calls / elapsed))


def _keep_freed_memory() -> None:
    """Make glibc's allocator keep what is freed; other allocators are left as they are.

    By default it hands large blocks back to the system, or does not, by the accidents of the heap's
    layout. The same training step then takes page faults for whole blocks of calls, or takes none,
    and half as long again or not, whoever runs it. Kept pages are the state that a long-lived
    program tends to anyway.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(trim_threshold, -1)  # -1: never
        allocator.mallopt(mmap_max, 0)


def _settled(blocks: Mapping[str, Sequence[Sequence[float]]], precision: float) -> bool:
    """Whether every contender's ratio to the first one is known well enough."""
    first, *others = (Rounds(tuple(map(tuple, timed))).per_round() for timed in blocks.values())
    return all(
        relative_error_of_median([a / b for a, b in zip(first, other, strict=True)]) < precision
        for other in others
    )


def relative_error_of_median(values: Sequence[float]) -> float:
    """Standard error of the median, over the median.

    From the median absolute deviation (1.4826 of it is a normal sigma, 1.2533 the price of a median
    over a mean), so that one disturbed round does not ask for many more.
    """
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    error: float = 1.4826 * 1.2533 * deviation / middle / len(values) ** 0.5
    return error
