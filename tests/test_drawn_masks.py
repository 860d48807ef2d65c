"""Masks of the recurrence: the engine makes the same of random words as torch's operations."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastrnn
from fastrnn._engine import native
from fastrnn._layers import masks

pytestmark = pytest.mark.skipif(native.tensors() is None, reason="this torch has no short way")

SHAPES = [(1,), (3,), (7, 5), (35, 8, 20), (40, 16, 128)]


def drawn(p: float, shape: tuple[int, ...], dtype: torch.dtype, divisor: float) -> torch.Tensor:
    torch.manual_seed(3)
    return masks._drawn(p, shape, torch.empty(0, dtype=dtype), divisor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [2.0**-7, 0.2, 0.5, 0.9, 1 - 2.0**-7])
def test_the_engine_draws_what_torchs_operations_draw(p, dtype, each_isa, monkeypatch):
    cases = [(p, shape, dtype, divisor) for shape in SHAPES for divisor in (p, 1.0)]
    by_the_engine = [drawn(*case) for case in cases]
    monkeypatch.setattr(native, "tensors", lambda: None)
    for case, got in zip(cases, by_the_engine, strict=True):
        want = drawn(*case)
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.99])
def test_a_mask_has_as_many_ones_as_asked_for(p):
    mask = drawn(p, (400, 250), torch.float32, 1.0)
    assert mask.unique().tolist() == [0, 1]
    assert mask.mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / mask.numel()) ** 0.5)


def test_numbers_from_the_limit_on_are_taken():
    words = torch.arange(-2, 14, dtype=torch.int16).view(torch.int64)
    mask = torch.empty(15)
    assert native.tensors().drawn(words, mask, 3, 2.5, 2)
    assert mask.tolist() == [0] * 5 + [2.5] * 10


def test_what_is_no_mask_for_the_engine_is_left_alone():
    words = torch.zeros(4, dtype=torch.int64)
    mask = torch.full((16,), 7.0)
    for given in [
        (words.int(), mask, 0, 1.0, 1),
        (words.double(), mask, 0, 1.0, 1),
        (words[:3], mask, 0, 1.0, 1),
        (words, torch.full((4, 8), 7.0)[:, ::2], 0, 1.0, 1),
        (words, mask.bfloat16(), 0, 1.0, 1),
        (words, mask, 2**15, 1.0, 1),
        (words, None, 0, 1.0, 1),
    ]:
        assert not native.tensors().drawn(*given)
    assert mask.tolist() == [7.0] * 16


def test_a_mask_is_drawn_by_operations_for_whoever_sees_them():
    seen = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Seeing():
        fastrnn.LSTM(3, 4, recurrent_dropout=0.2)(torch.randn(5, 2, 3))
    assert torch.ops.aten.floor_.default in seen
