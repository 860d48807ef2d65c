"""Choosing an instruction set: what is forced is what runs."""

from __future__ import annotations

import pytest
import torch
from new_process import run_python

import fastrnn

RUN = "import torch, fastrnn; fastrnn.LSTM(3, 5)(torch.ones(2, 1, 3)); print(fastrnn.isa.active())"


def fingerprint() -> torch.Tensor:
    """A float32 result whose rounding gives the ISA away."""
    torch.manual_seed(0)
    layer = fastrnn.LSTM(37, 41)
    with torch.no_grad():
        return layer(torch.randn(50, 3, 37))[0]


@pytest.mark.parametrize("isa", fastrnn.isa.available())
def test_environment_variable_picks_the_isa_that_runs(isa: str) -> None:
    done = run_python("-c", RUN, FASTRNN_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


def test_unknown_isa_in_the_environment_says_what_exists() -> None:
    done = run_python("-c", RUN, FASTRNN_ISA="nonsense")
    assert done.returncode != 0
    for name in ("FASTRNN_ISA", "nonsense", *fastrnn.isa.available()):
        assert name in done.stderr


def test_forced_isas_really_run_different_code() -> None:
    if "avx2" not in fastrnn.isa.available():
        pytest.skip("one instruction set alone: nothing to tell apart")
    with fastrnn.isa.force("sse2"):
        without_fma = fingerprint()
    with fastrnn.isa.force("avx2"):
        with_fma = fingerprint()
    assert not torch.equal(without_fma, with_fma)  # fused multiply-add rounds once
    torch.testing.assert_close(without_fma, with_fma)


def test_a_backward_pass_runs_on_the_isa_of_its_forward() -> None:
    def gradient(other: str | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = fastrnn.GRU(9, 11)
        x = torch.randn(4, 2, 9, requires_grad=True)
        y = layer(x)[0].sum()
        with fastrnn.isa.force(other or fastrnn.isa.active()):
            y.backward()
        assert x.grad is not None
        return x.grad

    own = gradient(None)
    for other in fastrnn.isa.available():
        assert torch.equal(gradient(other), own)
