"""fastrnn's layers, called as torch.nn's are, and with lengths and resets where torch has none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import fastrnn
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.problem import Problem, build_module
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class FastrnnLayers(TorchLayers):
    """A contender that spares its user the packing and the loop over steps."""

    def build(self, workload: Workload) -> torch.nn.Module:
        return build_module(fastrnn, workload)

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        if problem.workload.padded:
            return partial(module, lengths=problem.lengths())
        if problem.resets is not None:
            return partial(module, resets=problem.resets)
        if problem.inputs:
            return partial(module, **problem.inputs)
        return module


CONTENDER = FastrnnLayers("fastrnn", "fastrnn")
