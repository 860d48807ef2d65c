"""The tests' module of the engine, its single kernels and its operations, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from compiled import CSRC, extension

from fastrnn import _core
from fastrnn._autograd import eager
from fastrnn._call.arguments import Arguments
from fastrnn._call.spec import PLAIN, Spec
from fastrnn._program.tracing import trace

ISAS = _core.isa_available()
DTYPES = [np.float32, np.float64]

USUAL_SIGNAL = 60.0
"""Nanoseconds from thread to thread that the cost model goes by in tests"""

# Around every vector width and tile height that an ISA may have
SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 97]


@cache
def probe() -> ModuleType:
    """What binds the engine's kernels, its cost model and what it believes of the machine."""
    return extension("_testing", sorted((CSRC / "testing").glob("*.cpp")), ("-O0",))


def _dtype(array: np.ndarray) -> int:
    dtypes = {np.float32: _core.DType.float32, np.float64: _core.DType.float64}
    return dtypes[array.dtype.type].value


def applied(function: Callable[[Any], Any], x: np.ndarray, *, slope: bool = False) -> np.ndarray:
    """What a cell's function gives for each element on the active ISA, or its derivative there."""

    def step(of_x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": function(p.v)}

    cell = SimpleNamespace(gates="a", recurrent="none", vectors={"v": "unit"}, step=step)
    spec = Spec(trace(cell).text, 1, x.size, 0, 1, False, False, 0.0, PLAIN)
    values = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(slope)
    weights = [values.new_zeros(x.size, 1), values]
    y = eager.run(spec, Arguments(values.new_zeros(1, 1, 1), None, None, weights=weights)).y
    if slope:
        y.sum().backward()
    found = values.grad if slope else y.flatten()
    assert found is not None
    return found.numpy()


def multiply(isa: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, a: [rows, K], b: [K, columns]."""
    c = np.full((a.shape[0], b.shape[1]), np.nan, dtype=a.dtype)
    probe().multiply(isa, _dtype(a), *_addresses(a, b, c), *a.shape, b.shape[1])
    return c


def multiply_transposed(isa: str, a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """a @ w.T, a: [rows, K], w: [columns, K]."""
    c = np.full((a.shape[0], w.shape[0]), np.nan, dtype=a.dtype)
    probe().multiply_transposed(isa, _dtype(a), *_addresses(a, w, c), *a.shape, w.shape[0])
    return c


def outer(
    isa: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """c + a.T @ b and sums + a.sum(0), a: [K, rows], b: [K, columns]."""
    c, sums = c.copy(), sums.copy()
    k, rows = a.shape
    probe().outer(isa, _dtype(a), *_addresses(a, b, c, sums), rows, k, b.shape[1])
    return c, sums


def _addresses(*arrays: np.ndarray) -> tuple[int, ...]:
    assert all(array.flags.c_contiguous for array in arrays)
    return tuple(array.ctypes.data for array in arrays)
