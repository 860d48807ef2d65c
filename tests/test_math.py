"""The activations of every ISA against exact values, over the whole range."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from engine import DTYPES, applied

from fastrnn import reference
from fastrnn._call.written import activate

MAX_ULP = 4.0  # what csrc/engine/kernels/isa/math-inl.h promises


def activation(name: str, x: np.ndarray, *, slope: bool = False) -> np.ndarray:
    """As the engine computes it."""
    return applied(lambda a: activate(name, a), x, slope=slope)


def exact_in_float64(name: str, x: np.ndarray) -> np.ndarray:
    """Good to a small part of a float32 ULP."""
    x = x.astype(np.float64)
    if name == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    if name == "softplus":
        return np.maximum(x, 0) + np.log1p(e)
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def exact_in_mpmath(name: str, x: np.ndarray) -> list[mpmath.mpf]:
    with mpmath.workdps(60):
        if name == "tanh":
            return [mpmath.tanh(mpmath.mpf(v)) for v in x.tolist()]
        if name == "softplus":
            return [mpmath.log1p(mpmath.exp(mpmath.mpf(v))) for v in x.tolist()]
        return [1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in x.tolist()]


def every_kind_of_float32() -> np.ndarray:
    """Bit patterns at an odd stride: all signs, exponents and denormals, a million values."""
    x = np.arange(0, 2**32, 4099, dtype=np.uint32).view(np.float32)
    usual = np.random.default_rng(0).normal(scale=4, size=200_000).astype(np.float32)
    return np.concatenate([x[np.isfinite(x)], usual])


def every_kind_of_float64() -> np.ndarray:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**64, size=2000, dtype=np.uint64).view(np.float64)
    usual = rng.normal(scale=6, size=2000)
    saturating = rng.uniform(-760, 760, size=1000)
    tiny = rng.normal(size=500) * 10.0 ** rng.uniform(-320, -1, size=500)
    x = np.concatenate([patterns, usual, saturating, tiny])
    return x[np.isfinite(x)]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus"])
def test_float32_error_stays_within_the_promised_ulps(name: str) -> None:
    x = every_kind_of_float32()
    want = exact_in_float64(name, x)
    got = activation(name, x).astype(np.float64)
    ulp = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    worst = np.max(np.abs(got - want) / ulp)
    assert worst <= MAX_ULP


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus"])
def test_float64_error_stays_within_the_promised_ulps(name: str) -> None:
    x = every_kind_of_float64()
    want = exact_in_mpmath(name, x)
    got = activation(name, x)
    ulp = np.spacing(np.abs(np.array([float(w) for w in want])))
    error = [
        abs(mpmath.mpf(g) - w) / mpmath.mpf(u)
        for g, w, u in zip(got.tolist(), want, ulp.tolist(), strict=True)
    ]
    assert max(error) <= MAX_ULP


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_signs_and_nan_are_right(dtype: type) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30], dtype=dtype)
    np.testing.assert_array_equal(activation("tanh", x), [1, -1, np.nan, 0, 0, 1, -1])
    np.testing.assert_array_equal(activation("sigmoid", x), [1, 0, np.nan, 0.5, 0.5, 1, 0])
    assert np.signbit(activation("tanh", x)[[3, 4]]).tolist() == [False, True]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_stay_inside_their_range(dtype: type) -> None:
    x = np.linspace(-30, 30, 10_001, dtype=dtype)
    assert np.abs(activation("tanh", x)).max() <= 1
    sigmoid = activation("sigmoid", x)
    assert sigmoid.min() >= 0
    assert sigmoid.max() <= 1


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name",
    [
        *("relu", "hard_sigmoid(0.2, 0.5)", "softsign", "softplus", "elu(0.7)", "leaky_relu(0.1)"),
        *("affine(0.5, 2.0)", "scaled_tanh(0.7, 1.5)", "thresholded_relu(0.3)"),
    ],
)
def test_every_activation_and_its_derivative(dtype: type, name: str) -> None:
    x = np.concatenate([np.linspace(-45, 45, 997), [0.0, 1e-30, -1e-30]]).astype(dtype)
    judge = torch.from_numpy(x).double().requires_grad_()
    value = reference.activation(name, judge)
    (slope,) = torch.autograd.grad(value.sum(), judge)
    tolerance = {"rtol": 8 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
    np.testing.assert_allclose(activation(name, x), value.detach().numpy(), **tolerance)
    np.testing.assert_allclose(activation(name, x, slope=True), slope.numpy(), **tolerance)
    assert np.isnan(activation(name, np.array([np.nan], dtype=dtype))).all()
