"""Many Python threads at once, and any number of the engine's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import LAYERS, Case
from one_thread import job_and_results, results_of

pytestmark = pytest.mark.usefixtures("each_isa", "restore_threads")


@pytest.fixture
def jobs():
    """Layers of all kinds with inputs of all forms, some large enough for a team of threads."""
    shapes = [{"lengths": (7,) * 40}, {"form": "unsorted", "lengths": (3, 9, 1, 5)}, {}]
    cases = [
        Case(kind, hidden_size=33, num_layers=2, bidirectional=True, **shape)
        for kind in LAYERS
        for shape in shapes
    ]
    return [(case.build(), case.input(), case.state()) for case in cases]


def test_calls_from_many_threads_at_once_give_the_bits_of_calls_in_turn(jobs):
    serial = [results_of(*job) for job in jobs]
    rounds = 4
    with ThreadPoolExecutor(max_workers=6) as pool:
        parallel = list(pool.map(lambda job: results_of(*job), jobs * rounds))
    for k, got in enumerate(parallel):
        for g, s in zip(got, serial[k % len(jobs)], strict=True):
            assert torch.equal(g, s)


def test_one_layer_may_be_called_from_many_threads(jobs):
    layer, x, hx = jobs[0]
    expected = results_of(layer, x, hx)
    with ThreadPoolExecutor(max_workers=6) as pool:
        for got in pool.map(lambda _: results_of(layer, x, hx), range(12)):
            assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


def test_the_number_of_threads_changes_no_bit(jobs):
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append([results_of(*job) for job in jobs])
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    "shape",
    [
        {"input_size": 300, "lengths": (4,) * 13},
        {"input_size": 5, "lengths": (4,) * 20 + (2,) * 13 + (1,) * 9, "form": "packed"},
        {"input_size": 5, "lengths": (4, 4), "bidirectional": True, "num_layers": 2},
    ],
    ids=["projected ahead", "within the step", "directions in turn"],
)
@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False}), ("RNN", {})],
    ids=["lstm", "gru", "gru reset before", "rnn"],
)
def test_wide_layers_give_the_same_bits_however_threads_share_them(kind, options, shape, threads):
    """Wide enough for every thread to take units of its own, with a panel of units left over, whose
    rows they share; and for two directions to have all threads in turn."""
    job, expected = job_and_results(Case(kind, hidden_size=290, **shape), options)
    torch.set_num_threads(threads)
    got = results_of(*job)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


def test_backward_may_run_in_another_thread_than_forward():
    layer, x = Case().build(), torch.randn(5, 2, 3)
    layer(x)[0].sum().backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    loss = layer(x)[0].sum()
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(loss.backward).result()
    assert all(torch.equal(p.grad, e) for p, e in zip(layer.parameters(), expected, strict=True))
