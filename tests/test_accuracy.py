"""Rounding errors beside torch's: sums keep their digits whatever else they are added to."""

from __future__ import annotations

import pytest
import torch

import fastrnn

LARGEST_RATIO = 1.2
"""Of the root mean square error to that of torch's layer."""


def error(got, exact):
    return (got.double() - exact).square().mean().sqrt().item()


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("large", [200.0, 5000.0])
@pytest.mark.parametrize("H", [64, 192, 512])
def test_a_large_input_costs_the_recurrent_sum_no_digit(H, large, steps, rows):
    """The product with the state is complete before it meets numbers that are so much larger; by
    every way to a step: alone or one of many, of one row or many."""
    plain = torch.nn.RNN(1, H, nonlinearity="relu", bias=False)
    plain.weight_ih_l0.data.fill_(1.0)
    fast = fastrnn.RNN(1, H, nonlinearity="relu", bias=False)
    exact = torch.nn.RNN(1, H, nonlinearity="relu", bias=False).double()
    for layer in (fast, exact):
        layer.load_state_dict(plain.state_dict())
    x, h = torch.full((steps, rows, 1), large), torch.rand(1, rows, H) * 2 - 1
    resets = torch.zeros(steps, rows, dtype=torch.bool)
    with torch.no_grad():
        right = exact(x.double(), h.double())[0][0]
        got = fast(x, h, resets=resets)[0][0]
        assert torch.equal(fast(x, h)[0][0], got)
        assert error(got, right) <= LARGEST_RATIO * error(plain(x, h)[0][0], right)
