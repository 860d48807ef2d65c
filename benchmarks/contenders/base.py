"""The protocol between the runner and a contender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload

OUTPUTS = ("y", "h_n", "c_n", "n_n", "m_n")  # the last two are states of a program

Array = npt.NDArray[np.float64]
Results = dict[str, Array]


@dataclass(frozen=True)
class Entry:
    """A contender ready to run one problem.

    Attributes
    ----------
    call : what is timed; nothing that a user's program would not do belongs in it.
    results : names what a call returned, and the gradients that it left behind. Outputs are named
        by their place in OUTPUTS (a cell's only or first output is its ``y``); gradients are
        ``x.grad`` and, say, ``weight_ih_l0.grad`` or that of an input of a program, as
        ``decay.grad``; layouts are torch's, packed data packed. The runner compares every name
        that the reference has.
    """

    call: Callable[[], Any]
    results: Callable[[Any], Results]


class Contender(Protocol):
    """A library that can run recurrent layers.

    A library with a thread pool of its own uses as many threads as ``torch.get_num_threads()``. One
    that rounds weights has a ``tolerance``, the largest deviation that is no failure.
    """

    @property
    def name(self) -> str:
        """Key of the contender in tables and JSON."""

    def missing(self) -> str | None:
        """Say why the contender cannot run on this machine; None when it can."""

    def supports(self, workload: Workload, phase: Phase) -> bool:
        """Whether the contender can run this point at all."""

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        """Do everything that a user does once: build, load the weights, compile."""


def is_one_plain_layer(workload: Workload) -> bool:
    """Whether it has no option but its precision and ``batch_first``."""
    sizes = (workload.cell, workload.T, workload.B, workload.I, workload.H)
    return replace(workload, dtype="float32", batch_first=False) == Workload(*sizes)


def missing_packages(*names: str) -> str | None:
    """Say which packages are not installed, without the seconds that it takes to import them."""
    absent = [name for name in names if find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None
