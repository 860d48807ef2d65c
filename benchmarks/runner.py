"""Runs points: first everyone's results are checked against float64, then they are timed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from benchmarks.contenders import Contender, Entry
from benchmarks.contenders.base import Array, Results
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import CudaClock, Device, runs_on
from benchmarks.problem import Problem, make_problem
from benchmarks.results import Point
from benchmarks.timing import NO_ROUNDS, WALL_CLOCK, Effort, Rounds, take_turns
from benchmarks.workloads import SEED, DType, Phase, Workload
from benchmarks.yardstick import Yardstick

# Largest deviation from the float64 reference, over the largest magnitude of the same tensor.
# Ten times the worst that torch and fastrnn show anywhere in the grids.
TOLERANCE: dict[DType, float] = {"float32": 3e-5, "float64": 1e-13}

# Norms over a hundred steps round more than that: then as often as far as torch in the same dtype
TIMES_TORCH = 2

# On a GPU, where torch's flags let float32 be rounded to TF32, ten bits, in products
GPU_TOLERANCE: dict[DType, float] = {
    "float32": 2e-2,
    "float64": 1e-12,
    "float16": 5e-2,
    "bfloat16": 3e-1,
}

_YARDSTICK = "yardstick"


@dataclass(frozen=True)
class Runner:
    """Runs points for a list of contenders.

    Attributes
    ----------
    contenders : who is timed, each on the same numbers.
    effort : how long one point is measured.
    yardsticks : the fastest matrix product of each precision, which takes its turn too, as the
        machine's own limit; none where there is none.
    device : where everything runs, the reference as well.
    """

    contenders: Sequence[Contender]
    effort: Effort
    yardsticks: Mapping[DType, Yardstick] = field(default_factory=dict)
    device: Device = "cpu"

    def run(self, workload: Workload, phase: Phase) -> Point:
        """Check, then time; a contender with a wrong result is reported and not timed."""
        problem = make_problem(workload).on(self.device)
        with torch.inference_mode(phase == "inference"):
            judge = _Judge(problem, phase)
            checked = {
                contender.name: judge.check(contender)
                for contender in self.contenders
                if runs_on(contender, self.device) and contender.supports(workload, phase)
            }
            admitted = {name: found.entry for name, found in checked.items() if found.entry}
            timed = self._time(admitted, workload.dtype) if admitted else {}
        return Point(
            workload,
            phase,
            times_ms={name: 1e3 * timed[name].median() for name in admitted},
            rounds_ms={name: [1e3 * s for s in timed[name].per_round()] for name in admitted},
            gemm_gflops=self._limits(workload.dtype, timed.get(_YARDSTICK, NO_ROUNDS)),
            errors={name: found.error for name, found in checked.items()},
            failures={name: found.failure for name, found in checked.items() if found.failure},
            device=self.device,
        )

    def _time(self, entries: Mapping[str, Entry], dtype: DType) -> dict[str, Rounds]:
        calls = {name: entry.call for name, entry in entries.items()}
        if dtype in self.yardsticks:
            calls[_YARDSTICK] = self.yardsticks[dtype].product.call
        clock = CudaClock() if self.device == "cuda" else WALL_CLOCK
        return take_turns(calls, self.effort, clock)

    def _limits(self, dtype: DType, timed: Rounds) -> list[float]:
        """Return the yardstick's rate in each round; nothing without one."""
        return [self.yardsticks[dtype].product.gflops(seconds) for seconds in timed.per_round()]


def tolerance_of(dtype: DType, device: Device) -> float:
    """Largest deviation that is no failure."""
    on_device = GPU_TOLERANCE if device == "cuda" else GPU_TOLERANCE | TOLERANCE
    return on_device[dtype]


@dataclass(frozen=True)
class _Checked:
    """A contender's admission: an entry, or why there is none, and its error either way."""

    error: float
    entry: Entry | None = None
    failure: str = ""


def largest_error(results: Results, reference: Results) -> float:
    """Largest relative error of any tensor; infinite for one that is absent or misshapen.

    Relative to the largest magnitude of the reference tensor: single elements may cancel to nearly
    nothing, and their own relative error says little.
    """
    return max(_error(results.get(name), expected) for name, expected in reference.items())


def _error(result: Array | None, expected: Array) -> float:
    if result is None or result.shape != expected.shape or not np.isfinite(result).all():
        return float("inf")
    scale = max(_largest(expected), sys.float_info.min)  # a tensor of zeros has to be met exactly
    return _largest(result - expected) / scale


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _results(entry: Entry) -> Results:
    torch.manual_seed(SEED)  # who draws masks draws the same
    return entry.results(entry.call())


@dataclass(frozen=True)
class _Judge:
    """Compares contenders with torch in float64."""

    problem: Problem
    phase: Phase

    def check(self, contender: Contender) -> _Checked:
        try:
            entry = contender.prepare(self.problem, self.phase)
            error = self._error_of(entry)
        except Exception as raised:  # a contender may raise anything; the others still run
            return _Checked(float("inf"), failure=f"{type(raised).__name__}: {raised}")
        tolerance = self._tolerance(contender, error)
        if error <= tolerance:
            return _Checked(error, entry)
        return _Checked(error, failure=f"relative error {error:.1e} is above {tolerance:.0e}")

    def _tolerance(self, contender: Contender, error: float) -> float:
        usual = tolerance_of(self.problem.workload.dtype, self.problem.device)
        usual = getattr(contender, "tolerance", None) or usual
        return usual if error <= usual else max(usual, TIMES_TORCH * self._error_of_torch)

    @cached_property
    def _reference(self) -> Results:
        return _results(
            TorchLayers("reference", "torch.nn").prepare(self.problem.double(), self.phase)
        )

    @cached_property
    def _error_of_torch(self) -> float:
        return self._error_of(TorchLayers("torch", "torch.nn").prepare(self.problem, self.phase))

    def _error_of(self, entry: Entry) -> float:
        return largest_error(_results(entry), self._reference)
