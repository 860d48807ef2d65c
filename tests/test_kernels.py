"""The products of every ISA at sizes that straddle its vectors and tiles."""

from __future__ import annotations

import engine
import numpy as np
import pytest
from engine import DTYPES, ISAS, SIZES

each_isa = pytest.mark.parametrize("isa", ISAS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def random(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def bound(dtype: type, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far a sum of K rounded products may lie from the exact one, element by element."""
    k = a.shape[1]
    return (k + 1) * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)) + np.finfo(dtype).tiny


@each_isa
@each_dtype
@pytest.mark.parametrize("columns", SIZES)
def test_product_with_columns_is_right_at_every_remainder(
    isa: str, dtype: type, columns: int
) -> None:
    rng = np.random.default_rng(columns)
    for rows in SIZES[:12]:
        for k in (1, 7, 33):
            a, b = random(rng, dtype, rows, k), random(rng, dtype, k, columns)
            exact = a.astype(np.float64) @ b.astype(np.float64)
            assert (np.abs(engine.multiply(isa, a, b) - exact) <= bound(dtype, a, b)).all()


@each_isa
@each_dtype
@pytest.mark.parametrize("columns", SIZES)
def test_product_with_a_transposed_matrix_is_right_at_every_remainder(
    isa: str, dtype: type, columns: int
) -> None:
    rng = np.random.default_rng(columns)
    for k in SIZES:
        a, w = random(rng, dtype, 5, k), random(rng, dtype, columns, k)
        exact = a.astype(np.float64) @ w.astype(np.float64).T
        got = engine.multiply_transposed(isa, a, w)
        assert (np.abs(got - exact) <= bound(dtype, a, w.T)).all()


@each_isa
@each_dtype
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("rows", SIZES)
def test_weight_gradient_is_added_right_at_every_remainder(
    isa: str, dtype: type, rows: int, steps: int
) -> None:
    rng = np.random.default_rng(rows)
    for columns in SIZES:
        a, b = random(rng, dtype, steps, rows), random(rng, dtype, steps, columns)
        c, sums = random(rng, dtype, rows, columns), random(rng, dtype, rows)
        got_c, got_sums = engine.outer(isa, a, b, c, sums)
        exact = c + a.astype(np.float64).T @ b.astype(np.float64)
        room = bound(dtype, a.T, b) + 2 * np.finfo(dtype).eps * np.abs(c)
        assert (np.abs(got_c - exact) <= room).all()
        np.testing.assert_allclose(
            got_sums, sums + a.astype(np.float64).sum(0), rtol=0, atol=40 * np.finfo(dtype).eps
        )


@each_isa
@each_dtype
def test_a_product_longer_than_a_piece_of_a_panel_is_one_chain(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    k = 5000  # several pieces on every ISA
    a, b = random(rng, dtype, 9, k), random(rng, dtype, k, 70)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert (np.abs(engine.multiply(isa, a, b) - exact) <= bound(dtype, a, b)).all()


@each_isa
@each_dtype
def test_a_row_does_not_feel_its_neighbours(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = random(rng, dtype, 40, 129), random(rng, dtype, 129, 67)
    together = engine.multiply(isa, a, b)
    for count in (1, 2, 3, 5, 7, 13):
        np.testing.assert_array_equal(engine.multiply(isa, a[:count], b), together[:count])
        np.testing.assert_array_equal(engine.multiply(isa, a[count:], b), together[count:])


@each_isa
@each_dtype
def test_a_nan_stays_in_its_row(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = random(rng, dtype, 20, 30), random(rng, dtype, 30, 20)
    a[7, 3] = np.nan
    poisoned = np.isnan(engine.multiply(isa, a, b)).any(axis=1)
    assert np.flatnonzero(poisoned).tolist() == [7]
