"""What a call gives on one thread, which is what it has to give on any number of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from cases import Case, run
from torch import Tensor

from fastrnn import isa

__all__ = ["job_and_results", "results_of"]


def results_of(layer: Any, x: Any, hx: Any) -> list[Tensor]:
    """Outputs and gradients."""
    outputs, gradients = run(layer, x, hx)
    return [t.detach() for t in (*outputs, *gradients)]


def job_and_results(case: Case, options: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    """A layer with more options than a case has, its input and state; what they give."""
    return _job_and_results(isa.active(), case, tuple(options.items()))


@lru_cache(maxsize=1)  # the next test has another number of threads and the same job
def _job_and_results(isa: str, case: Case, options: Any) -> tuple[Any, list[Tensor]]:
    job = case.build(**dict(options)), case.input(), case.state()
    torch.set_num_threads(1)
    return job, results_of(*job)
