"""The peers of the benchmark suite compute what torch computes, option by option."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

import fastrnn
from benchmarks.contenders import BASELINE, CONTENDERS, SUBJECT, Contender, formats
from benchmarks.contenders.base import Results
from benchmarks.contenders.cell_loop import loop_of
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import runs_on
from benchmarks.problem import Problem, make_problem
from benchmarks.runner import TOLERANCE, largest_error
from benchmarks.workloads import CELLS, PHASES, Cell, Phase, Workload

TORCH = TorchLayers("torch", "torch.nn")
PEERS = [
    contender
    for contender in CONTENDERS
    if contender.name not in (SUBJECT, BASELINE) and runs_on(contender, "cpu")
]
INFERENCE_ONLY = [peer for peer in PEERS if peer.name in ("onnx_runtime", "openvino")]

FORMATS = formats.CONTENDERS
AUTOCAST = [peer for peer in FORMATS if isinstance(peer, formats.UnderAutocast)]
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
HEADS = Workload("lstm", 2, 3, 5, 8, program="SLSTM", variant=(("num_heads", 4),))
TIMED = Workload("gru", 2, 3, 5, 7, program="GRUD")
KINDS += [
    Workload("lstm", **SIZE, program="LSTM"),
    Workload("gru", **SIZE, program="GRU"),
    HEADS,
    TIMED,
    Workload("gru", 2, 3, 5, 7, program="MinGRU"),
]
OF_ZOO = {name: getattr(fastrnn.cells, name) for name in fastrnn.cells.__all__}
ZOO = [name for name, found in OF_ZOO.items() if issubclass(found, fastrnn.Cell)]
POINTS = [
    pytest.param(
        peer,
        workload,
        phase,
        id=f"{peer.name}-{workload.name}-{phase}",
        marks=[pytest.mark.slow] if peer.name == "compiled_loop" else [],
    )
    for peer in PEERS
    for workload in KINDS
    for phase in PHASES
    if peer.supports(workload, phase)
    and (peer.name, phase) != ("compiled_loop", "inference")  # slow; training has its outputs
]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process for the peers, whose threads would make other tests' forks unsafe.

    XLA compiles without optimising there, which takes it longer than to compute.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context, os.putenv, ("XLA_FLAGS", flags)) as process:
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


OF_FORMATS = [
    pytest.param(peer, cell, id=f"{peer.name} {cell}")
    for peer in FORMATS
    for cell in CELLS[:2]
    if (peer.name, cell) != ("onnx_int8", "gru")
]


@pytest.mark.parametrize(("peer", "cell"), OF_FORMATS)
def test_rounded_weights_cost_what_their_format_allows(peer: Contender, cell: Cell) -> None:
    workload = Workload(cell, 4, 3, 32, 32, formats=True)
    reason = peer.missing()
    if reason:
        pytest.skip(reason)
    assert peer.supports(workload, "inference")
    assert peer.supports(workload, "training") == (peer in AUTOCAST)
    assert peer.supports(Workload(cell, **SIZE), "inference") == (peer == formats.FROZEN)
    error_of = error(peer, workload, "inference")
    assert error_of <= (getattr(peer, "tolerance", None) or TOLERANCE["float32"])
    if peer.name != "amp":  # whose products are float32 on processors without bfloat16
        assert (error_of > TOLERANCE["float32"]) == (peer.name != "frozen")


@pytest.mark.parametrize("cell", CELLS[:2])
@pytest.mark.parametrize("peer", AUTOCAST, ids=lambda peer: peer.name)
def test_training_under_autocast_costs_what_bfloat16_allows(peer: Contender, cell: Cell) -> None:
    if reason := peer.missing():
        pytest.skip(reason)
    workload = Workload(cell, 4, 3, 32, 32, formats=True)
    assert error(peer, workload, "training") <= formats.OF_BFLOAT16


@pytest.mark.parametrize("peer", INFERENCE_ONLY, ids=lambda peer: peer.name)
def test_runtimes_for_inference_leave_out_what_they_cannot_do(peer: Contender) -> None:
    assert peer.supports(Workload("lstm", **SIZE), "inference")
    assert not peer.supports(Workload("lstm", **SIZE), "training")
    assert not peer.supports(Workload("lstm", **SIZE, proj_size=3), "inference")
    assert not peer.supports(Workload("lstm", **SIZE, episode=2), "inference")
    assert not peer.supports(Workload("lstm", **SIZE, dtype="float64"), "inference")


def test_programs_are_left_to_those_who_run_them() -> None:
    def peers(workload: Workload) -> set[str]:
        supporting = [peer for peer in PEERS if peer.supports(workload, "inference")]
        return {peer.name for peer in supporting}

    assert peers(Workload("gru", **SIZE, program="GRU")) == {"built_in", "frozen"}
    assert peers(TIMED) == peers(HEADS) == {"compiled_loop", "frozen"}
    assert not peers(Workload("gru", **SIZE)) & {"built_in", "compiled_loop"}


def test_a_programs_gradients_are_checked_with_those_of_its_inputs() -> None:
    problem = make_problem(TIMED)
    names = {f"{name}.grad" for name in ("x", "decay", *problem.weights)}
    assert results(TORCH, problem, "training").keys() == {"y", "h_n"} | names
    assert not problem.inputs["decay"].requires_grad
    assert problem.double().on("cpu").inputs["decay"].dtype == torch.float64


def test_every_number_of_a_program_counts_in_its_check() -> None:
    states = {"y", "h_n", "c_n", "n_n", "m_n"}
    assert results(TORCH, make_problem(HEADS), "inference").keys() == states
    gradients = results(TORCH, make_problem(HEADS).double(), "training")
    assert all(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("name", ZOO)
def test_the_loop_computes_what_the_layer_does_of_every_cell(name: str) -> None:
    cell = OF_ZOO[name]
    heads = 2 if cell.recurrent == "heads" else None
    torch.manual_seed(4)
    layer = fastrnn.Recurrent(cell, 3, 4, num_heads=heads, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(0.1, 0.6)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    given = {name: torch.rand(5, 2, 4, dtype=torch.float64) for name in layer.cell.inputs.split()}
    y, hx = layer(x, **given)
    of_loop, states = loop_of(layer, given)(x)
    torch.testing.assert_close((of_loop, states), (y, hx), rtol=1e-12, atol=1e-12)


def test_the_loop_refuses_layers_that_are_more_than_it() -> None:
    layer = fastrnn.Recurrent(fastrnn.cells.MGU, 3, 4, num_layers=2)
    with pytest.raises(ValueError, match="one layer in one direction"):
        loop_of(layer, {})


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
