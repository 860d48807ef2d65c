"""Layers whose weights were packed or rounded once: fastrnn's frozen ones, and torch's of int8.

They take part where a workload compares formats, and in inference alone. What their rounding may
cost is more than the suite allows others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import fastrnn
from benchmarks.contenders.fastrnn_layers import FastrnnLayers
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import Device
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload


def _compares_formats(workload: Workload, phase: Phase) -> bool:
    return workload.formats and phase == "inference"


@dataclass(frozen=True)
class FrozenLayers(FastrnnLayers):
    """A contender of layers that `fastrnn.freeze` has made."""

    devices: tuple[Device, ...] = ("cpu",)
    number_format: str = "float32"
    tolerance: float | None = None

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return _compares_formats(workload, phase)

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        return super().application(fastrnn.freeze(module, weights=self.number_format), problem)


@dataclass(frozen=True)
class DynamicallyQuantized(TorchLayers):
    """torch's layers of int8, which are deprecated."""

    devices: tuple[Device, ...] = ("cpu",)
    tolerance: float | None = None

    def missing(self) -> str | None:
        if not hasattr(torch.ao.quantization, "quantize_dynamic"):
            return "this torch has no quantize_dynamic"
        return None

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return _compares_formats(workload, phase)

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            quantize: Any = torch.ao.quantization.quantize_dynamic
            quantized = quantize(torch.nn.Sequential(module), {type(module)}, dtype=torch.qint8)
        return super().application(quantized[0], problem)


OF_BFLOAT16, OF_INT8 = 0.03, 0.1

CONTENDERS = (
    FrozenLayers("frozen", "fastrnn"),
    FrozenLayers("frozen_bfloat16", "fastrnn", ("cpu",), "bfloat16", OF_BFLOAT16),
    FrozenLayers("frozen_int8", "fastrnn", ("cpu",), "int8", OF_INT8),
    DynamicallyQuantized("quantize_dynamic", "torch.nn", ("cpu",), OF_INT8),
)
