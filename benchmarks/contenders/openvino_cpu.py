"""OpenVINO's plugin for the CPU."""

from __future__ import annotations

import torch

from benchmarks.contenders.onnx_layers import Feeds, OnnxLayers, Run


def _load(model: bytes, feeds: Feeds) -> Run:
    """Bind the inputs once: filling the same arrays for each call is OpenVINO's fastest way.

    The precision has to be said: where the processor has bfloat16, the plugin would use it.
    """
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    for name, array in feeds.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    return lambda: request.infer(share_outputs=True).values()


CONTENDER = OnnxLayers("openvino", "openvino", _load, among_formats=False)
