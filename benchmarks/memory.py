"""The memory of a training step: how far it raises, at its peak, what the process has resident.

Allocators keep what was freed, so each contender has a process of its own for each point, forked
from a server that has imported torch.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import platform
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

import fastrnn
from benchmarks.contenders import Contender
from benchmarks.problem import make_problem
from benchmarks.results import Point
from benchmarks.workloads import Workload

_PAGE_MIB = 4 / 1024  # the least that can be told from nothing


def missing() -> str | None:
    """Say why memory cannot be measured on this machine; None when it can."""
    try:
        _reset_peak()
    except OSError as error:
        return str(error)
    return None


def with_peaks(point: Point, contenders: Iterable[Contender]) -> Point:
    """Add to a point of training the figure of everyone who was timed there.

    A process that dies, as one does that asks for more than there is, has no figure.
    """
    peaks = {}
    for contender in contenders:
        if point.phase == "training" and contender.name in point.times_ms:
            with suppress(BrokenProcessPool):
                peaks[contender.name] = training_peak_mib(contender, point.workload)
    return replace(point, peak_mib=peaks)


def training_peak_mib(contender: Contender, workload: Workload) -> float:
    """Measure one training step, on as many threads as this process uses.

    Repeats to 0.1 MiB or so: the kernel counts pages in batches.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, server) as process:
        return process.submit(_measure, contender, workload, torch.get_num_threads()).result()


def _measure(contender: Contender, workload: Workload, threads: int) -> float:
    torch.set_num_threads(threads)
    contender.prepare(make_problem(_two_steps(workload)), "training").call()
    entry = contender.prepare(make_problem(workload), "training")
    _release_freed_memory()
    _reset_peak()
    before = _peak_mib()
    entry.call()
    return max(_peak_mib() - before, _PAGE_MIB)


def _two_steps(workload: Workload) -> Workload:
    """Shorten a workload: as a first call it loads the libraries and starts the threads."""
    T = min(workload.T, 2)
    lengths = workload.lengths and tuple(min(length, T) for length in workload.lengths)
    return replace(workload, T=T, lengths=lengths)


def _release_freed_memory() -> None:
    """Hand back what the allocators kept, for else the step would use it without a trace."""
    gc.collect()
    fastrnn.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    """Set the kernel's peak of this process to what is resident now; see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    fields = dict(line.split(":", maxsplit=1) for line in status.splitlines())
    return int(fields["VmHWM"].removesuffix("kB")) / 1024
