"""fastrnn's own LSTM and GRU, compiled, beside the same cells as programs."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import Device
from benchmarks.workloads import Phase, Workload


@dataclass(frozen=True)
class BuiltIn(TorchLayers):
    """A contender of programs alone: elsewhere fastrnn is built in itself."""

    devices: tuple[Device, ...] = ("cpu",)

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return bool(workload.program) and workload.is_in_torch


CONTENDER = BuiltIn("built_in", "fastrnn")
