"""What a GPU says first: whether each kernel runs and is right, and microseconds a step by cuDNN's.

``python tests/cuda/first_light.py smoke|speed [--seconds S] [--device cuda]`` prints a line as soon
as it knows it, and nothing stops at a failure, so that what is cut off has told something.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

import fastrnn
from fastrnn._engine.cuda import engine

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# Largest error, over the largest magnitude of the same tensor
BOUNDS = {"float64": 1e-12, "float32": 5e-6, "tf32": 5e-3, "float16": 4e-3, "bfloat16": 3e-2}
LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("GRU", {}),
    ("RNN", {}),
    ("LSTM", {"proj_size": 17}),
]
SHAPES = [(40, 33, 5, True), (136, 5, 4, False), (512, 16, 8, False)]  # H, B, T, both directions


class Point(NamedTuple):
    """What is timed."""

    precision: str
    cell: str
    T: int = 256
    B: int = 16
    I: int = 512  # noqa: E741
    H: int = 512
    layers: int = 1
    both: bool = False


POINTS = [
    *(Point(precision, cell) for precision in list(DTYPES)[:0:-1] for cell in ("LSTM", "GRU")),
    Point("bfloat16", "LSTM", I=128, H=128),
    Point("bfloat16", "LSTM", I=256, H=256),
    Point("bfloat16", "LSTM", I=1024, H=1024),
    Point("bfloat16", "LSTM", T=64, I=1024, H=2048),
    Point("bfloat16", "LSTM", B=1),
    Point("bfloat16", "LSTM", B=64),
    Point("bfloat16", "LSTM", T=64, B=256, I=1024, H=1024),
    Point("bfloat16", "LSTM", both=True),
    Point("bfloat16", "LSTM", layers=2),
    Point("bfloat16", "LSTM", T=16),
    Point("float16", "LSTM", I=1024, H=1024),
]


def say(*words: Any) -> None:
    print(*words, flush=True)


def in_time(things: Sequence[Any], until: float) -> Iterator[Any]:
    for number, thing in enumerate(things):
        if time.monotonic() > until:
            say(f"out of time: {len(things) - number} of {len(things)} are left out")
            return
        yield thing


def smoke(device: str, until: float) -> None:
    say("precision, layer, H, B: largest error forward and backward, over the largest magnitude")
    cases = [
        (precision, *layer, *shape)
        for precision in DTYPES
        for layer in LAYERS
        for shape in SHAPES
        if not (layer[1] and shape[0] > 136)
    ]
    for precision, cell, options, H, B, T, both in in_time(cases, until):
        name = f"{precision:9} {cell}{'+P' if options else ''} {H} {B}{' both' if both else ''}"
        try:
            forward, backward = errors(
                precision, cell, {**options, "bidirectional": both}, H, B, T, device
            )
            right = max(forward, backward) <= BOUNDS[precision]
            say(name, f"{forward:.1e} {backward:.1e}", "right" if right else "WRONG")
        except Exception as error:  # of whatever kind: the next case may tell more
            say(name, "FAILED", type(error).__name__, str(error).replace("\n", " ")[:160])


def errors(
    precision: str, cell: str, options: dict[str, Any], H: int, B: int, T: int, device: str
) -> tuple[float, float]:
    """Of outputs and gradients, against torch's layer in float64 on the CPU."""
    torch.manual_seed(0)
    layer = getattr(fastrnn, cell)(24, H, dtype=DTYPES[precision], **options)
    judge = getattr(torch.nn, cell)(24, H, dtype=torch.float64, **options)
    judge.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, 24, dtype=DTYPES[precision])
    expected = results(judge, x.double())
    with mock.patch.object(engine, "uses_tf32", return_value=precision == "tf32"):
        got = results(layer.to(device), x.to(device))
    return error(got[0], expected[0]), error(got[1], expected[1])


def results(layer: Any, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    x.requires_grad_()
    y, states = layer(x)
    outputs = [y, *(states if isinstance(states, tuple) else (states,))]
    own = torch.Generator().manual_seed(1)
    factors = [torch.randn(o.shape, generator=own, dtype=torch.float64).to(o) for o in outputs]
    loss = sum((o * f).sum() for o, f in zip(outputs, factors, strict=True))
    return outputs, list(torch.autograd.grad(loss, [x, *layer.parameters()]))  # type: ignore[arg-type]


def error(got: list[Tensor], expected: list[Tensor]) -> float:
    pairs = [(g.detach().cpu().double(), e.detach()) for g, e in zip(got, expected, strict=True)]
    return max(float((g - e).abs().max()) / max(float(e.abs().max()), 1e-3) for g, e in pairs)


def speed(device: str, until: float) -> None:
    say("us a step and layer: inference, in a graph, training, in a graph; then cuDNN's over ours")
    for point in in_time(POINTS, until):
        name = " ".join(map(str, point))
        try:
            cudnn, ours = (microseconds(module, point) for module in (torch.nn, fastrnn))
            ratios = [a / b for a, b in zip(cudnn, ours, strict=True)]
            say(
                name,
                "| cuDNN",
                *map(rounded, cudnn),
                "| ours",
                *map(rounded, ours),
                "|",
                *map(rounded, ratios),
            )
        except Exception as error:  # as above
            say(name, "FAILED", type(error).__name__, str(error).replace("\n", " ")[:160])


def rounded(number: float) -> str:
    return f"{number:.2f}"


def microseconds(module: Any, point: Point) -> list[float]:
    torch.backends.cudnn.allow_tf32 = point.precision == "tf32"
    layer = getattr(module, point.cell)(
        point.I,
        point.H,
        point.layers,
        bidirectional=point.both,
        dtype=DTYPES[point.precision],
        device="cuda",
    )
    x = torch.randn(point.T, point.B, point.I, dtype=DTYPES[point.precision], device="cuda")
    leaf = x.clone().requires_grad_()

    def inference() -> None:
        with torch.inference_mode():
            layer(x)

    def training() -> None:
        torch.autograd.grad(layer(leaf)[0].float().sum(), [leaf, *layer.parameters()])

    steps = point.T * point.layers
    calls = (inference, graphed(inference), training, graphed(training))
    return [1e3 * milliseconds(call) / steps for call in calls]


def graphed(call: Callable[[], None]) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def milliseconds(call: Callable[[], None], repeats: int = 15) -> float:
    """The median of calls one after another, by the device's clock."""
    times = []
    for _ in range(repeats + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        times.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("smoke", "speed"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    fastrnn.set_cuda_policy("kernels")  # else torch's layers would be compared with themselves
    what = {"smoke": smoke, "speed": speed}[options.what]
    what(options.device, time.monotonic() + options.seconds)


if __name__ == "__main__":
    main()
