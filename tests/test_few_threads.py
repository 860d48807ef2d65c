"""A system that has fewer threads than a call asks for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import itertools
import torch, fastrnn
layers = [
    fastrnn.LSTM(20, 290, 2, bidirectional=True),
    fastrnn.GRU(300, 290),
    fastrnn.RNN(100, 16),
]
for isa, layer in itertools.product(fastrnn.isa.available(), layers):
    x = torch.randn(70, 3, layer.input_size, requires_grad=True)
    results = []
    with fastrnn.isa.force(isa):
        for threads in (1, 5):
            torch.set_num_threads(threads)
            y = layer(x)[0]
            results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert all(map(torch.equal, *results)), (isa, layer)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2])
def test_fewer_threads_than_a_call_asks_for_change_no_bit(limit):
    """Who does what is decided for as many as come."""
    environment = {**os.environ, "OMP_THREAD_LIMIT": str(limit)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
