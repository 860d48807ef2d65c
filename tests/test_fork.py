"""A forked child computes, also when its parent has used the engine with many threads.

Torch itself cannot: once its thread pool has run, its parallel ops wait forever in a forked
child. So the child calls nothing of torch's that would go parallel, and all else is made by the
parent.
"""

from __future__ import annotations

import multiprocessing
import sys

import pytest
import torch
from cases import LAYERS, Case

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork"),
]


def results_of(layer, x, d_y):
    y, _ = layer(x)
    gradients = torch.autograd.grad(y, list(layer.parameters()), d_y)
    return [t.detach().numpy().tobytes() for t in (y, *gradients)]


def in_child(function, *arguments):
    """What ``function`` returns in a forked child; fails if the child hangs."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function(*arguments)))
    child.start()
    try:
        assert receiver.poll(60), "the child neither answered nor ended"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


def job(kind):
    """A call that is large enough for a team of threads."""
    case = Case(kind, hidden_size=64, lengths=(8,) * 48, num_layers=2, bidirectional=True)
    return case.build(), case.input(), torch.randn(8, 48, 128)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_child_forked_after_use_computes_what_its_parent_computes(kind):
    arguments = job(kind)
    expected = results_of(*arguments)
    assert in_child(results_of, *arguments) == expected
    assert results_of(*arguments) == expected


def test_a_child_of_a_child_computes_too():
    arguments = job("GRU")
    expected = results_of(*arguments)
    assert in_child(in_child, results_of, *arguments) == expected
