"""The loop over a cell's steps under torch.compile, which makes one graph of all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import Device
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload


@dataclass(frozen=True)
class CompiledLoop(TorchLayers):
    """A contender of cells for which torch has no layer."""

    devices: tuple[Device, ...] = ("cpu",)

    def missing(self) -> str | None:
        compilers = (os.environ.get("CXX", "g++"), "g++", "clang++")
        if any(map(shutil.which, compilers)):
            return None
        return "torch.compile needs a C++ compiler, of which none is found"

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return bool(workload.program) and not workload.is_in_torch

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        # After eight sizes of one function torch would not compile another.
        torch.compiler.reset()
        loop = super().application(module, problem)
        compiled: Callable[[Any], Any] = torch.compile(loop, fullgraph=True, dynamic=False)
        return compiled


CONTENDER = CompiledLoop("compiled_loop", "torch.nn")
