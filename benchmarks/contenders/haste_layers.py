"""haste: LSTM and GRU for NVIDIA GPUs, in float32, one layer and one direction."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from benchmarks.contenders.base import Entry, Results, is_one_plain_layer, missing_packages
from benchmarks.contenders.torch_nn import array, outputs
from benchmarks.device import Device
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload

# Which of torch's gates stand in which place: i g f o, and z r n
_ORDER = {"lstm": (0, 2, 1, 3), "gru": (1, 0, 2)}


@dataclass(frozen=True)
class HasteLayers:
    """A contender with weights of its own: transposed, gates in another order."""

    name: str = "haste"
    devices: tuple[Device, ...] = ("cuda",)

    def missing(self) -> str | None:
        return missing_packages("haste_pytorch")

    def supports(self, workload: Workload, phase: Phase) -> bool:
        in_float32 = workload.dtype == "float32"
        return is_one_plain_layer(workload) and workload.cell in _ORDER and in_float32

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        workload = problem.workload
        layer = getattr(import_module("haste_pytorch"), workload.cell.upper())
        module = layer(workload.I, workload.H, batch_first=workload.batch_first)
        module.from_native_weights(*problem.weights.values())
        module.train(phase == "training")
        x = problem.batch()
        assert isinstance(x, torch.Tensor)
        if phase == "inference":
            return Entry(lambda: module(x), outputs)
        leaves = [x.requires_grad_(), *module.parameters()]

        def call() -> Any:
            for leaf in leaves:
                leaf.grad = None
            returned = module(x)
            returned[0].sum().backward()
            return returned

        def results(returned: Any) -> Results:
            return outputs(returned) | _gradients(module, workload, x)

        return Entry(call, results)


def _gradients(module: Any, workload: Workload, x: torch.Tensor) -> Results:
    """Those of x and of torch's weights, by torch's names."""

    def in_torchs_order(gradient: torch.Tensor) -> torch.Tensor:
        blocks = gradient.unflatten(-1, (-1, workload.H))  # type: ignore[no-untyped-call]
        ordered: torch.Tensor = blocks[..., _ORDER[workload.cell], :]
        return ordered.flatten(-2)

    of_bias = in_torchs_order(module.bias.grad)
    recurrent = getattr(module, "recurrent_bias", None)
    found = {
        "x": x.grad,
        "weight_ih_l0": in_torchs_order(module.kernel.grad).t(),
        "weight_hh_l0": in_torchs_order(module.recurrent_kernel.grad).t(),
        "bias_ih_l0": of_bias,
        "bias_hh_l0": of_bias if recurrent is None else in_torchs_order(recurrent.grad),
    }
    return {f"{name}.grad": array(gradient) for name, gradient in found.items()}


CONTENDER = HasteLayers()
