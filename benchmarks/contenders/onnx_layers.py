"""What the libraries have in common that run a layer from an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.contenders.base import OUTPUTS, Entry, Results, missing_packages
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload

Feeds = Mapping[str, npt.NDArray[np.generic]]
Run = Callable[[], Iterable[npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class OnnxLayers:
    """A contender that runs the model of onnx_model.py.

    Attributes
    ----------
    name : key in tables and JSON.
    package : what has to be installed beside ``onnx``.
    load : makes a serialised model and its inputs into a call that returns the outputs in order.
    among_formats : takes part where formats of weights are compared.
    """

    name: str
    package: str
    load: Callable[[bytes, Feeds], Run]
    among_formats: bool = True

    def missing(self) -> str | None:
        return missing_packages("onnx", self.package)

    def supports(self, workload: Workload, phase: Phase) -> bool:
        """Neither library trains, or has kernels for double; ONNX has no projection, no resets.

        Variants and programs are left out: the model is built for torch's cells.
        """
        left_out = workload.proj_size or workload.episode or workload.variant or workload.program
        left_out = left_out or workload.dtype != "float32"
        left_out = left_out or (workload.formats and not self.among_formats)
        return phase == "inference" and not left_out

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        from benchmarks.contenders.onnx_model import build_model  # onnx is slow to import

        run = self.load(build_model(problem), _feeds(problem))
        return Entry(run, lambda returned: _results(returned, problem))


def _feeds(problem: Problem) -> Feeds:
    workload, x = problem.workload, problem.x.numpy()
    if workload.lengths is None:
        return {"x": x[None] if workload.single_step else x}
    return {"x": x, "lengths": np.array(workload.lengths, np.int32)}


def _results(returned: Iterable[npt.NDArray[np.float32]], problem: Problem) -> Results:
    """Name the outputs; a single step has no y, but its h is one."""
    layers, arrays = problem.workload.layers, list(returned)
    if problem.workload.single_step:
        tensors = [state[0] for state in arrays]
    else:
        states = [np.concatenate(arrays[i : i + layers]) for i in range(1, len(arrays), layers)]
        tensors = [problem.real_rows(torch.tensor(arrays[0])).numpy(), *states]
    return dict(zip(OUTPUTS, map(np.float64, tensors), strict=False))
