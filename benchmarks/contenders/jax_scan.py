"""JAX: the layers of jax_layers.py, compiled for one problem.

JAX's pool has a thread for each processor, and no option changes that. The variable NPROC does,
which XLA reads once, so the number of threads at the first problem holds for the whole process. How
XLA splits the work among them cannot be said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.base import OUTPUTS, Array, Entry, Results, missing_packages
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload


@dataclass(frozen=True)
class JaxLayers:
    """A contender that knows every option. Ragged batches are padded and masked."""

    name: str = "jax"

    def missing(self) -> str | None:
        return missing_packages("jax")

    def supports(self, workload: Workload, phase: Phase) -> bool:
        """Not with another number of threads than at the first problem; nor where formats are."""
        threads = str(torch.get_num_threads())
        has_them = os.environ.get("NPROC", threads) == threads
        left_out = workload.episode or workload.variant or workload.program or workload.formats
        return has_them and not left_out

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        """Compile for float32 without shortcuts: JAX's default on the CPU, said all the same."""
        os.environ.setdefault("NPROC", str(torch.get_num_threads()))
        import jax

        from benchmarks.contenders.jax_layers import apply, loss

        # Allows float64, and leaves float32 what it is.
        jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
        training = phase == "training"
        function = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True) if training else apply
        weights = {name: _transposed(weight).numpy() for name, weight in problem.weights.items()}
        data = jax.device_put((weights, problem.x.numpy()))
        with jax.default_matmul_precision("highest"):
            compiled = jax.jit(partial(function, workload=problem.workload)).lower(*data).compile()
        name_results = _training_results if training else _outputs
        return Entry(
            lambda: jax.block_until_ready(compiled(*data)),  # type: ignore[no-untyped-call]
            lambda returned: name_results(jax.device_get(returned), problem),
        )


def _transposed(weight: torch.Tensor) -> torch.Tensor:
    """Turn a matrix from (out, in) to (in, out) or back; a bias stays what it is."""
    return weight.T.contiguous() if weight.ndim == 2 else weight


def _training_results(returned: Any, problem: Problem) -> Results:
    (_, outputs), (weights, x) = returned
    gradients = {
        f"{name}.grad": _transposed(torch.tensor(gradient)).double().numpy()
        for name, gradient in weights.items()
    }
    return _outputs(outputs, problem) | gradients | {"x.grad": _real_rows(x, problem)}


def _outputs(returned: Any, problem: Problem) -> Results:
    first, *states = returned
    return dict(zip(OUTPUTS, (_real_rows(first, problem), *map(np.float64, states)), strict=False))


def _real_rows(padded: Any, problem: Problem) -> Array:
    rows: Array = problem.real_rows(torch.tensor(padded)).double().numpy()
    return rows


CONTENDER = JaxLayers()
