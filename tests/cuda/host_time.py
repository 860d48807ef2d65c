"""What a call of the CUDA kernels costs the host, in microseconds, on a machine without a GPU.

``python tests/cuda/host_time.py [--seconds S]`` runs calls the way that CUDA tensors go, into
kernels that do nothing, and torch's layers on the CPU beside them. Sizes are so small that
the products by torch take no time either. What a GPU adds is the driver's: some microseconds for
each launch, of a step as of an operation of torch's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import emulated

import fastrnn
from fastrnn._engine import backends, cuda
from fastrnn._engine.cuda import engine

SIZES = {"T": 4, "B": 2, "I": 8, "H": 8}


def _same(value: Any, *_: Any) -> Any:
    return value  # a Mock would take longer than what it stands for


@contextmanager
def silent() -> Iterator[None]:
    """Tensors on the CPU go the way of CUDA tensors, to kernels that do nothing."""
    module = emulated.load_silent()
    with (
        mock.patch.object(cuda, "extension", new=partial(_same, module)),
        mock.patch.object(engine, "handle_of_stream", new=partial(_same, 0)),
        backends.using("cuda"),
    ):
        yield


def calls(package: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is timed, by name (layers x directions), of a package that has torch.nn's layers."""
    T, B, I, H = SIZES.values()  # noqa: E741
    x = torch.randn(T, B, I)
    cell = package.LSTMCell(I, H)
    yield "LSTMCell, inference", inference(cell, x[0])
    for name, layers, both in (("LSTM", 1, False), ("GRU", 1, False), ("LSTM", 2, True)):
        layer = getattr(package, name)(I, H, layers, bidirectional=both)
        shown = f"{name}, {layers} x {1 + both}"
        yield f"{shown}, inference", inference(layer, x)
        yield f"{shown}, training", training(layer, x)


def inference(layer: Any, x: torch.Tensor) -> Callable[[], Any]:
    def call() -> None:
        with torch.inference_mode():
            layer(x)

    return call


def training(layer: Any, x: torch.Tensor) -> Callable[[], Any]:
    """Forward and backward, from the gradient of the output to those of input and weights."""
    x = x.clone().requires_grad_()
    d_y = torch.ones_like(layer(x)[0])
    leaves = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x)[0], leaves, d_y)


def microseconds(call: Callable[[], Any], seconds: float) -> float:
    """Of the fastest of many calls: what else runs on the machine makes them slower."""
    call()  # the first one prepares what the others find
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="for each line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("us a call: torch.nn on the CPU, and the way to the kernels")
    torchs = [microseconds(call, options.seconds) for _, call in calls(torch.nn)]
    with silent():
        ours = [(name, microseconds(call, options.seconds)) for name, call in calls(fastrnn)]
    for by_torch, (name, own) in zip(torchs, ours, strict=True):
        print(f"{name:24} {by_torch:7.1f} {own:7.1f}")


if __name__ == "__main__":
    main()
