"""Everything that threads share, used by many at once: pools of threads, idle memory, plans, the
choice of the instruction set, what is known of the crowd."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from cases import LAYERS, Case, run
from engine import probe

import fastrnn

THREADS, ROUNDS = 12, 8


@pytest.fixture(params=["torch's threads", "the engine's own"])
def whose_threads(request):
    probe().pretend_no_openmp(request.param == "the engine's own")
    yield
    probe().pretend_no_openmp(False)


@pytest.fixture
def hurried_interpreter():
    """Python changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def automatic_isa():
    """Whatever threads that force one at once have left of it."""
    yield
    fastrnn.isa.force(None)


def bits(job):
    outputs, gradients = run(*job)
    return [t.detach().numpy().tobytes() for t in (*outputs, *gradients)]


def jobs_of_every_kind():
    shapes = [
        {"lengths": (1,)},
        {"lengths": (9,) * 40, "hidden_size": 70},
        {"lengths": (3, 9, 1, 5), "form": "unsorted"},
    ]
    cases = [Case(kind, bidirectional=True, **shape) for kind in LAYERS for shape in shapes]
    jobs = [(case.build(), case.input(), case.state()) for case in cases]
    torch.set_num_threads(3)
    return [(job, bits(job)) for job in jobs]


@pytest.mark.slow
@pytest.mark.usefixtures("whose_threads", "hurried_interpreter", "automatic_isa", "restore_threads")
def test_many_threads_get_the_bits_of_one():
    jobs = jobs_of_every_kind()
    together = Barrier(THREADS)

    def worker(number):
        order = random.Random(number)
        wrong = 0
        together.wait()
        for _ in range(ROUNDS):
            for job, expected in order.sample(jobs, len(jobs)):
                wrong += bits(job) != expected
            fastrnn.empty_cache()
            with fastrnn.isa.force(fastrnn.isa.active()):
                wrong += fastrnn.isa.active() not in fastrnn.isa.available()
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(worker, range(THREADS))) == 0
    assert len(jobs) == 3 * len(LAYERS)
