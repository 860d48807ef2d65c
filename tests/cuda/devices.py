"""Cases on a device, and their errors against torch's layers in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from cases import Called, Case, OnReference, like, run
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn._engine import cuda
from fastrnn._engine.cuda import engine

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16

# Largest error, over the largest magnitude of the same tensor
TOLERANCE = {F64: 1e-12, F32: 5e-6, F16: 4e-3, BF16: 3e-2}


def why_no_gpu() -> str | None:
    """Why nothing can run on a GPU here; None where it can."""
    if not cuda.is_built():
        return "fastrnn is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    return None


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Multiply float32 as "ieee" or as "tf32" in recurrences."""
    with mock.patch.object(engine, "uses_tf32", return_value=precision == "tf32"):
        yield


def on(device: str, value: Any) -> Any:
    """The same numbers on a device, as leaves if they are leaves."""
    if isinstance(value, PackedSequence):
        indices = (None if index is None else index.to(device) for index in value[2:])
        return PackedSequence(on(device, value.data), value.batch_sizes, *indices)
    if isinstance(value, Tensor):
        moved = value.detach().to(device)
        return moved.requires_grad_() if value.requires_grad else moved
    return tuple(on(device, v) for v in value) if isinstance(value, tuple) else value


def largest_error(got: Any, expected: Any) -> float:
    assert len(got) == len(expected)
    pairs = zip(got, expected, strict=True)
    return max(_error(g.detach().cpu().double(), e.detach()) for g, e in pairs)


def _error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    assert not got.isnan().any()
    scale = max(float(expected.abs().max()), 1e-3)
    return float((got - expected).abs().max()) / scale


def error_of(case: Case, device: str, **keywords: Any) -> float:
    """Largest error of outputs and gradients of the case on a device.

    torch's layer is the judge, or where it does not know the ``keywords``, fastrnn's reference.
    """
    layer, x, hx = case.build(), case.input(), case.state()
    judge = replace(case, dtype=F64).build(fastrnn if keywords else torch.nn)
    judge.load_state_dict(layer.state_dict())
    judged = OnReference(judge, **keywords) if keywords else judge
    expected = run(judged, like(x, F64), like(hx, F64))
    on_device = {name: on(device, value) for name, value in keywords.items()}
    called = Called(layer.to(device), **on_device)
    got = run(called, on(device, like(x, case.dtype)), on(device, like(hx, case.dtype)))
    return max(map(largest_error, got, expected))
