"""The engine's single kernels on NumPy arrays, for the tests of each instruction set."""

from __future__ import annotations

import numpy as np
import torch  # noqa: F401  (loaded before the engine, as in the package)

from fastrnn import _core

ISAS = _core.isa_available()
DTYPES = [np.float32, np.float64]

# Around every vector width and tile height that an ISA may have
SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 97]


def _dtype(array: np.ndarray) -> _core.DType:
    return {np.float32: _core.DType.float32, np.float64: _core.DType.float64}[array.dtype.type]


def activation(
    isa: str, name: str, x: np.ndarray, alpha: float = 0, beta: float = 0, what: str = "activate"
) -> np.ndarray:
    """The values of an activation, or with ``what="slope"`` its derivatives."""
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    squash = _core.Squash(getattr(_core.Activation, name), alpha, beta)
    getattr(_core.kernels, what)(isa, _dtype(x), squash, x.ctypes.data, out.ctypes.data, x.size)
    return out


def multiply(isa: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, a: [rows, K], b: [K, columns]."""
    c = np.full((a.shape[0], b.shape[1]), np.nan, dtype=a.dtype)
    _core.kernels.multiply(isa, _dtype(a), *_addresses(a, b, c), *a.shape, b.shape[1])
    return c


def multiply_transposed(isa: str, a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """a @ w.T, a: [rows, K], w: [columns, K]."""
    c = np.full((a.shape[0], w.shape[0]), np.nan, dtype=a.dtype)
    _core.kernels.multiply_transposed(isa, _dtype(a), *_addresses(a, w, c), *a.shape, w.shape[0])
    return c


def outer(
    isa: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """c + a.T @ b and sums + a.sum(0), a: [K, rows], b: [K, columns]."""
    c, sums = c.copy(), sums.copy()
    k, rows = a.shape
    _core.kernels.outer(isa, _dtype(a), *_addresses(a, b, c, sums), rows, k, b.shape[1])
    return c, sums


def _addresses(*arrays: np.ndarray) -> tuple[int, ...]:
    assert all(array.flags.c_contiguous for array in arrays)
    return tuple(array.ctypes.data for array in arrays)
