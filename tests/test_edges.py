"""Vectors are wider than what is left of a row; nothing beyond a tensor's end may be read."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest
import torch
from cases import LAYERS, run
from torch import Tensor

import fastrnn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are protected another way here")
NO_ACCESS = 0


def at_the_edge(tensor: Tensor) -> Tensor:
    """A copy whose last element is followed by a page that cannot be read."""
    size = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert protect(address + size, mmap.PAGESIZE, NO_ACCESS) == 0
    first = size - tensor.nbytes
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=first)
    return copy.copy_(tensor.detach().flatten()).view(tensor.shape)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LAYERS)
def test_tensors_at_the_edge_of_memory_give_the_bits_of_others(kind, dtype):
    for width in (1, 5, 17, 33, 64, 100):
        layer = getattr(fastrnn, kind)(width + 1, width, dtype=dtype)
        for steps, rows in ((1, 1), (1, 7), (1, 18), (3, 6), (9, 4)):
            x = torch.randn(steps, rows, width + 1, dtype=dtype)
            h, c = torch.randn(2, 1, rows, width, dtype=dtype)
            states = [h, c] if kind == "LSTM" else [h]
            results = []
            for place in (torch.clone, at_the_edge):
                for parameter in layer.parameters():
                    parameter.data = place(parameter.data)
                leaves = [place(tensor).requires_grad_() for tensor in (x, *states)]
                hx = tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
                outputs, gradients = run(layer, leaves[0], hx)
                results.append([*outputs, *gradients])
            assert all(map(torch.equal, *results))
