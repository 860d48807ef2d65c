"""Everyone who can be timed. A new contender is one module here and one line in CONTENDERS."""

from benchmarks.contenders import (
    built_in,
    compiled_loop,
    fastrnn_layers,
    flashrnn_layers,
    formats,
    haste_layers,
    jax_scan,
    onnx_runtime,
    openvino_cpu,
    torch_nn,
)
from benchmarks.contenders.base import Contender, Entry

SUBJECT = fastrnn_layers.CONTENDER.name
FROZEN = formats.FROZEN.name
BASELINE = torch_nn.CONTENDER.name

CONTENDERS: tuple[Contender, ...] = (
    fastrnn_layers.CONTENDER,
    torch_nn.CONTENDER,
    onnx_runtime.CONTENDER,
    openvino_cpu.CONTENDER,
    jax_scan.CONTENDER,
    haste_layers.CONTENDER,
    flashrnn_layers.CONTENDER,
    built_in.CONTENDER,
    compiled_loop.CONTENDER,
    *formats.CONTENDERS,
)

__all__ = ["BASELINE", "CONTENDERS", "FROZEN", "SUBJECT", "Contender", "Entry"]
