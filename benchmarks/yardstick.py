"""The machine's own limit: the rate of a large matrix product, measured beside the contenders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.device import CudaClock, Device
from benchmarks.timing import WALL_CLOCK, Call, Effort, take_turns
from benchmarks.workloads import DType

SIZE = 2048

_PROBE = Effort(block_s=0.1, min_rounds=3, max_rounds=3, budget_s=0.0, precision=0.0)


@dataclass(frozen=True)
class Yardstick:
    """The fastest large square product that torch offers here.

    Attributes
    ----------
    name : whose product it is.
    call : computes it once.
    probed_gflops : every candidate's rate before the run; during the run it is measured again.
    """

    name: str
    call: Call
    probed_gflops: dict[str, float]


def gflops(seconds: float) -> float:
    """Rate of one call in GFLOP/s."""
    return 2e-9 * SIZE**3 / seconds


def choose_yardsticks(dtypes: Iterable[DType], device: Device = "cpu") -> dict[DType, Yardstick]:
    """Probe the candidates of each precision once."""
    return {dtype: _fastest(dtype, device) for dtype in sorted(set(dtypes))}


def _fastest(dtype: DType, device: Device) -> Yardstick:
    calls = _candidates(dtype, device)
    timed = take_turns(calls, _PROBE, CudaClock() if device == "cuda" else WALL_CLOCK)
    rates = {name: gflops(timed[name].median()) for name in calls}
    best = max(rates, key=lambda name: rates[name])
    return Yardstick(best, calls[best], rates)


def _candidates(dtype: DType, device: Device) -> dict[str, Call]:
    """torch.mm is MKL's, which leaves AVX-512 unused on AMD; oneDNN's product does not."""
    a, b, out = torch.randn(3, SIZE, SIZE, dtype=getattr(torch, dtype), device=device).unbind()
    calls: dict[str, Call] = {"torch.mm": lambda: torch.mm(a, b, out=out)}
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype == "float32" and device == "cpu" and has_onednn:
        blocked_a, blocked_b = a.to_mkldnn(), b.to_mkldnn()
        calls["oneDNN linear"] = lambda: functional.linear(blocked_a, blocked_b)
    return calls
