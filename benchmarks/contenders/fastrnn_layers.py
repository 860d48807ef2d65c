"""fastrnn's layers, called as torch.nn's are, and with lengths and resets where torch has none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.problem import Problem


@dataclass(frozen=True)
class FastrnnLayers(TorchLayers):
    """A contender that spares its user the packing and the loop over steps."""

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        if problem.workload.padded:
            return partial(module, lengths=problem.lengths())
        if problem.resets is not None:
            return partial(module, resets=problem.resets)
        return module


CONTENDER = FastrnnLayers("fastrnn", "fastrnn")
