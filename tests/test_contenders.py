"""The peers of the benchmark suite compute what torch computes, option by option."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.contenders import BASELINE, CONTENDERS, SUBJECT, Contender
from benchmarks.contenders.base import Results
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import runs_on
from benchmarks.problem import Problem, make_problem
from benchmarks.runner import TOLERANCE, largest_error
from benchmarks.workloads import CELLS, PHASES, Phase, Workload

TORCH = TorchLayers("torch", "torch.nn")
PEERS = [
    contender
    for contender in CONTENDERS
    if contender.name not in (SUBJECT, BASELINE) and runs_on(contender, "cpu")
]
INFERENCE_ONLY = [peer for peer in PEERS if peer.name in ("onnx_runtime", "openvino")]

SIZE = {"T": 4, "B": 3, "I": 5, "H": 7}
KINDS = [
    workload
    for cell in CELLS
    for workload in (
        Workload(cell, **SIZE),
        Workload(cell, **SIZE, layers=2, bidirectional=True, batch_first=True, lengths=(2, 4, 1)),
        Workload(cell, **SIZE, lengths=(2, 4, 1), padded=True),
        Workload(cell, **SIZE, dtype="float64"),
        Workload(cell, **SIZE | {"T": 1}, single_step=True),
    )
]
KINDS.append(Workload("lstm", **SIZE, layers=2, bidirectional=True, proj_size=3))
POINTS = [
    pytest.param(peer, workload, phase, id=f"{peer.name}-{workload.name}-{phase}")
    for peer in PEERS
    for workload in KINDS
    for phase in PHASES
    if peer.supports(workload, phase)
]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process for the peers, whose threads would make other tests' forks unsafe."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as process:
        yield process


def error(peer: Contender, workload: Workload, phase: Phase) -> float:
    problem = make_problem(workload)
    expected = results(TORCH, problem.double(), phase)
    return largest_error(results(peer, problem, phase), expected)


def results(contender: Contender, problem: Problem, phase: Phase) -> Results:
    entry = contender.prepare(problem, phase)
    return entry.results(entry.call())


@pytest.mark.parametrize(("peer", "workload", "phase"), POINTS)
def test_outputs_and_gradients_pass_the_suites_own_check(
    peer: Contender, workload: Workload, phase: Phase, elsewhere: Executor
) -> None:
    reason = peer.missing()
    if reason:
        pytest.skip(reason)
    assert elsewhere.submit(error, peer, workload, phase).result() <= TOLERANCE[workload.dtype]


@pytest.mark.parametrize("peer", INFERENCE_ONLY, ids=lambda peer: peer.name)
def test_runtimes_for_inference_leave_out_what_they_cannot_do(peer: Contender) -> None:
    assert peer.supports(Workload("lstm", **SIZE), "inference")
    assert not peer.supports(Workload("lstm", **SIZE), "training")
    assert not peer.supports(Workload("lstm", **SIZE, proj_size=3), "inference")
    assert not peer.supports(Workload("lstm", **SIZE, episode=2), "inference")
    assert not peer.supports(Workload("lstm", **SIZE, dtype="float64"), "inference")


def test_asking_who_is_installed_imports_no_peer() -> None:
    program = (
        "import sys; from benchmarks.contenders import CONTENDERS\n"
        "reasons = [contender.missing() for contender in CONTENDERS]\n"
        "print({'onnx', 'onnxruntime', 'openvino', 'jax'} & sys.modules.keys())"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"
