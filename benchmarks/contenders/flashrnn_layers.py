"""FlashRNN: the recurrence of an LSTM as one head, on NVIDIA GPUs; x W_ih^T is torch's."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from benchmarks.contenders.base import is_one_plain_layer, missing_packages
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import Device
from benchmarks.workloads import Phase, Workload


class _Lstm(torch.nn.LSTM):
    """torch's parameters, FlashRNN's recurrence."""

    def forward(self, x: torch.Tensor) -> Any:  # type: ignore[override]
        flashrnn = import_module("flashrnn").flashrnn
        first = x if self.batch_first else x.transpose(0, 1)
        H = self.hidden_size
        w_ih, w_hh, b_ih, b_hh = self.parameters()
        pre = torch.nn.functional.linear(first, w_ih)
        states, last = flashrnn(
            pre.view(*pre.shape[:-1], 4, 1, H),
            w_hh.view(4, 1, H, H),
            (b_ih + b_hh).view(4, 1, H),
            function="lstm",
            backend="cuda_fused",
        )
        y = states[0].squeeze(-2)
        h_n, c_n = (state.reshape(1, -1, H) for state in (last[0], last[1]))
        return y if self.batch_first else y.transpose(0, 1), (h_n, c_n)


@dataclass(frozen=True)
class FlashRnnLayers(TorchLayers):
    devices: tuple[Device, ...] = ("cuda",)

    def missing(self) -> str | None:
        return missing_packages("flashrnn")

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return is_one_plain_layer(workload) and workload.cell == "lstm"

    def build(self, workload: Workload) -> torch.nn.Module:
        dtype = getattr(torch, workload.dtype)
        return _Lstm(workload.I, workload.H, batch_first=workload.batch_first, dtype=dtype)


CONTENDER = FlashRnnLayers("flashrnn", "flashrnn")
