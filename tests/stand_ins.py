"""Contenders that stand in for the benchmarks' own, and points that nobody had to measure."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

import pytest

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from benchmarks import cli, timing, yardstick
from benchmarks.contenders import Entry
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.problem import Problem
from benchmarks.results import Point
from benchmarks.timing import Effort
from benchmarks.workloads import GRIDS, Phase, Workload

BRIEF = Effort(block_s=1e-4, min_rounds=2, max_rounds=2, budget_s=0.0, precision=0.0)
TINY = Workload("lstm", 3, 2, 4, 5)
TORCH = TorchLayers("torch", "torch.nn")
STAND_IN = TorchLayers("fastrnn", "torch.nn")


@dataclass(frozen=True)
class Wrong(TorchLayers):
    """A contender whose results are off by a factor."""

    factor: float = 1.01

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        entry = super().prepare(problem, phase)
        return Entry(
            entry.call,
            lambda returned: {k: v * self.factor for k, v in entry.results(returned).items()},
        )


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time blocks one upon the other; the garbage of all tests before would take a second each."""
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(gc, "collect", lambda: 0)


def be_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the method, take the waiting out of it, and leave this process as it is."""
    without_pauses(monkeypatch)
    monkeypatch.setattr(yardstick, "SIZE", 32)
    monkeypatch.setattr(yardstick, "_PROBE", BRIEF)
    monkeypatch.setattr(cli, "FULL", BRIEF)
    monkeypatch.setattr(cli, "QUICK", BRIEF)
    monkeypatch.setattr(cli, "steady_process", lambda: None)
    monkeypatch.setitem(GRIDS, "quick", (TINY, replace(TINY, cell="gru")))


def point(ratio: float, workload: Workload = TINY, phase: Phase = "inference") -> Point:
    return Point(
        workload,
        phase,
        times_ms={"fastrnn": 1.0, "torch": ratio},
        rounds_ms={"fastrnn": [1.0, 1.0], "torch": [ratio, ratio]},
        gemm_gflops=[100.0, 100.0],
    )


def shrunk(workload: Workload) -> Workload:
    """The same kind of workload, small enough for a test."""
    T, B = min(workload.T, 4), min(workload.B, 3)
    lengths = None if workload.lengths is None else (2, T, 1)[:B]
    proj_size = min(workload.proj_size, 3)
    sizes = {"lengths": lengths, "proj_size": proj_size, "episode": min(workload.episode, 2)}
    H = 8 if dict(workload.variant).get("num_heads") else 7
    return replace(workload, T=T, B=B, I=5, H=H, **sizes)


KINDS = list(dict.fromkeys(shrunk(workload) for grid in GRIDS.values() for workload in grid))
