"""What the engine works in is kept from call to call, up to a limit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import fastrnn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own counters")

LARGE_PAGE = 2 * 2**20
PRELUDE = """
import resource
import torch, fastrnn
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
"""


def printed_by(program: str) -> int:
    """The number that a program prints in a process where nothing else has run before."""
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + program], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_a_repeated_call_finds_its_memory_where_it_left_it():
    """Packed weights alone are 51 MiB, which malloc would ask the system for at every call."""
    faults = printed_by("""
layer, x = fastrnn.LSTM(512, 1600), torch.zeros(2, 1, 512)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with torch.no_grad():
    layer(x)
    before = faults()
    for _ in range(10):
        layer(x)
print(faults() - before)
""")
    assert faults < 10 * 51 * 2**20 // LARGE_PAGE


@pytest.mark.parametrize("lengths", ["None", "torch.full((64,), 64)"])
def test_what_was_kept_for_backward_is_left_for_later_calls(lengths):
    """25 MiB, by the short way and by the long one; workspaces alone are less than 7."""
    left = printed_by(f"""
layer, x = fastrnn.LSTM(8, 256), torch.zeros(64, 64, 8)
for _ in range(2):
    layer(x, lengths={lengths})[0].sum().backward()
before = resident()
fastrnn.empty_cache()
print(before - resident())
""")
    assert left > 25 * 2**20


def test_what_many_calls_leave_has_one_limit():
    """Four times 100 MiB for backward, held at once, and 256 of them left afterwards at most."""
    left = printed_by("""
layer, x = fastrnn.LSTM(8, 256), torch.zeros(256, 64, 8)
layer(x[:1])[0].sum().backward()
before = resident()
held = [layer(x)[0] for _ in range(4)]
at_most = resident() - before
del held
left = resident() - before
assert at_most > 4 * 100 * 2**20, at_most
assert left > 100 * 2**20, left
print(left)
""")
    assert left < 272 * 2**20


def test_what_is_kept_is_nobody_elses_while_a_graph_holds_it():
    layer, x = fastrnn.LSTM(8, 256), torch.rand(64, 64, 8)
    (expected,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
    held = layer(x)[0].sum()
    layer(1 - x)[0].sum().backward()
    (got,) = torch.autograd.grad(held, layer.weight_hh_l0)
    assert torch.equal(got, expected)


def test_memory_beyond_the_limit_is_given_back():
    """Outputs of the inner layers, rows of 64 floats: 320 MiB in two buffers."""
    left = printed_by("""
layer, x = fastrnn.RNN(1, 64, num_layers=3), torch.zeros(40_000, 16, 1)
with torch.no_grad():
    layer(x[:1])
    before = resident()
    y, _ = layer(x)
    print(resident() - before - y.nbytes)
""")
    assert left < 64 * 2**20


def test_emptying_the_cache_gives_everything_back_and_the_next_call_works():
    """The same 51 MiB; threads and libraries keep a few."""
    left = printed_by("""
layer, x = fastrnn.LSTM(512, 1600), torch.zeros(2, 1, 512)
with torch.no_grad():
    fastrnn.LSTM(512, 16)(x)
    before = resident()
    y, _ = layer(x)
    kept = resident() - before
    assert kept > 48 * 2**20, kept
    fastrnn.empty_cache()
    left = resident() - before
    assert torch.equal(layer(x)[0], y)
print(left)
""")
    assert left < 16 * 2**20
