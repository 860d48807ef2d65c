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


def send_result(sender, function, arguments):
    sender.send(function(*arguments))


def in_process(method, function, *arguments):
    """What ``function`` returns in another process; fails if that hangs."""
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=send_result, args=(sender, function, arguments))
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


def in_children():
    """Whether results of forked children are the parent's, before the fork and after it."""
    same = {}
    for kind in LAYERS:
        arguments = job(kind)
        expected = results_of(*arguments)
        same[kind] = in_process("fork", results_of, *arguments) == expected
        same[f"{kind}'s parent"] = results_of(*arguments) == expected
    same["a child's child"] = (
        in_process("fork", in_process, "fork", results_of, *arguments) == expected
    )
    return same


def test_a_child_forked_after_use_computes_what_its_parent_computes():
    # From a process without a past: after a backward pass on some other device torch's autograd
    # refuses to run in any forked child.
    same = in_process("spawn", in_children)
    assert all(same.values()), same
    assert len(same) == 7
