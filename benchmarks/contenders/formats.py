"""Layers of other number formats: frozen ones, those of autocast, and the peers' of int8.

They take part where a workload compares formats: in inference, and those of autocast in training
as well. Frozen layers of float32 may stand in any inference, if they are asked for. What their
rounding may cost is more than the suite allows others.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import fastrnn
from benchmarks.contenders import onnx_runtime
from benchmarks.contenders.fastrnn_layers import FastrnnLayers
from benchmarks.contenders.onnx_layers import Feeds, OnnxLayers, Run
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import Device
from benchmarks.problem import Problem
from benchmarks.workloads import Phase, Workload
from fastrnn import _torch


def _compares_formats(workload: Workload, phase: Phase) -> bool:
    return workload.formats and phase == "inference"


@dataclass(frozen=True)
class FrozenLayers(FastrnnLayers):
    """A contender of layers that `fastrnn.freeze` has made."""

    devices: tuple[Device, ...] = ("cpu",)
    number_format: str = "float32"
    tolerance: float | None = None

    def supports(self, workload: Workload, phase: Phase) -> bool:
        is_exact = self.number_format == "float32" == workload.dtype
        return phase == "inference" and (workload.formats or is_exact)

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
            warnings.simplefilter("ignore")  # of several kinds: it goes, and what it is made of
            quantize: Any = torch.ao.quantization.quantize_dynamic
            quantized = quantize(torch.nn.Sequential(module), {type(module)}, dtype=torch.qint8)
        return super().application(quantized[0], problem)


@dataclass(frozen=True)
class UnderAutocast(TorchLayers):
    """Layers as they run under autocast to bfloat16."""

    devices: tuple[Device, ...] = ("cpu",)
    tolerance: float | None = None

    def missing(self) -> str | None:
        if self.namespace == "torch.nn" and not _torch.casts_lstm_of_bfloat16:
            return "torch's LSTM has no bfloat16 on this processor"
        return super().missing()

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return workload.formats

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        apply = super().application(module, problem)

        def under_autocast(x: Any) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return apply(x)

        return under_autocast


@dataclass(frozen=True)
class QuantizedOnnx(OnnxLayers):
    """ONNX Runtime's layers of int8: an LSTM alone has an operator for them."""

    tolerance: float | None = None

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return _compares_formats(workload, phase) and workload.cell == "lstm"


def _load_quantized(model: bytes, feeds: Feeds) -> Run:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder, _silenced():
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            onnx.load_model_from_string(model),
            path,
            op_types_to_quantize=["LSTM"],
            weight_type=QuantType.QInt8,
        )
        return onnx_runtime.CONTENDER.load(path.read_bytes(), feeds)


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs to prepare a model before it is quantized."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


OF_BFLOAT16, OF_INT8 = 0.03, 0.1

FROZEN = FrozenLayers("frozen", "fastrnn")
CONTENDERS = (
    FROZEN,
    FrozenLayers("bf16", "fastrnn", ("cpu",), "bfloat16", OF_BFLOAT16),
    FrozenLayers("int8", "fastrnn", ("cpu",), "int8", OF_INT8),
    UnderAutocast("amp", "fastrnn", ("cpu",), OF_BFLOAT16),
    UnderAutocast("torch_amp", "torch.nn", ("cpu",), OF_BFLOAT16),
    DynamicallyQuantized("torch_int8", "torch.nn", ("cpu",), OF_INT8),
    QuantizedOnnx("onnx_int8", "onnxruntime", _load_quantized, tolerance=OF_INT8),
)
