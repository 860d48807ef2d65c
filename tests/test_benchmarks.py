"""The benchmark suite itself: a benchmark that is wrong misleads more people than a slow kernel."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, replace

import pytest
import torch
from stand_ins import BRIEF, KINDS, TINY, TORCH, Wrong, be_brief, point

from benchmarks import device, machine, memory, timing
from benchmarks.contenders import CONTENDERS, Entry
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.problem import Problem, make_problem
from benchmarks.runner import TOLERANCE, Runner, largest_error
from benchmarks.timing import ratio_of_rounds, relative_error_of_median, take_turns
from benchmarks.workloads import GRIDS, PHASES, Phase, Workload

LAYERS = [contender for contender in CONTENDERS if contender.name in ("fastrnn", "torch")]


@dataclass(frozen=True)
class InferenceOnly(TorchLayers):
    def supports(self, workload: Workload, phase: Phase) -> bool:
        return phase == "inference"


@dataclass(frozen=True)
class Raising(TorchLayers):
    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        raise RuntimeError("no kernel")


@dataclass(frozen=True)
class Dying(TorchLayers):
    """A contender that takes its process with it, as one does that runs out of memory."""

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        os._exit(1)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    be_brief(monkeypatch)


@pytest.mark.parametrize("workload", KINDS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("phase", PHASES)
def test_fastrnn_and_torch_are_right_on_every_kind_of_workload(
    workload: Workload, phase: Phase
) -> None:
    found = Runner(LAYERS, BRIEF).run(workload, phase)
    assert not found.failures
    assert set(found.times_ms) == {contender.name for contender in LAYERS}


def test_names_tell_the_workloads_of_a_grid_apart() -> None:
    for name, grid in GRIDS.items():
        assert len({workload.name for workload in grid}) == len(grid), name


def test_peers_grid_has_fourteen_shapes_of_both_gated_cells() -> None:
    for cell in ("lstm", "gru"):
        shapes = [workload.shape for workload in GRIDS["peers"] if workload.cell == cell]
        assert len(shapes) == 14
    assert {workload.cell for workload in GRIDS["peers"]} == {"lstm", "gru"}


@pytest.mark.parametrize(
    ("workload", "flops"),
    [
        (Workload("lstm", 1, 1, 128, 128), 2 * 4 * 128 * 256),
        (Workload("gru", 10, 3, 5, 7), 2 * 30 * 3 * 7 * 12),
        (Workload("rnn", 1, 1, 2, 3, layers=2, bidirectional=True), 2 * 2 * 3 * (5 + 9)),
        (Workload("lstm", 1, 1, 2, 4, proj_size=3), 2 * (16 * 5 + 4 * 3)),
        (Workload("rnn", 4, 2, 2, 3, lengths=(4, 1)), 2 * 5 * 3 * 5),
        (Workload("gru", 3, 2, 5, 7, program="MGU"), 2 * 6 * 2 * 7 * 12),
        (Workload("gru", 3, 2, 5, 7, program="MinGRU"), 2 * 6 * 2 * 7 * 5),
        (
            Workload("lstm", 3, 2, 5, 8, program="SLSTM", variant=(("num_heads", 4),)),
            2 * 6 * 4 * 8 * (5 + 2),
        ),
    ],
)
def test_flops_count_real_steps_and_every_product(workload: Workload, flops: int) -> None:
    assert workload.flops("inference") == flops
    assert workload.flops("training") == 3 * flops


def test_a_problem_is_the_same_every_time_and_leaves_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = make_problem(TINY), make_problem(TINY)
    assert torch.equal(first.x, second.x)
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("phase", PHASES)
def test_a_wrong_result_is_never_timed(phase: Phase) -> None:
    found = Runner([Wrong("fastrnn", "torch.nn"), TORCH], BRIEF).run(TINY, phase)
    assert list(found.times_ms) == ["torch"]
    assert "relative error" in found.failures["fastrnn"]
    assert found.errors["fastrnn"] == pytest.approx(0.01, rel=1e-2)


def test_what_rounds_much_is_measured_by_torch_in_the_same_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TOLERANCE, "float32", 1e-9)
    (normed,) = (w for w in GRIDS["regularised"] if w.name == "lstm T100 B8 I128 H128 norm both")
    found = Runner([*LAYERS, Wrong("wrong", "torch.nn")], BRIEF).run(normed, "training")
    assert min(found.errors.values()) > TOLERANCE["float32"]
    assert set(found.failures) == {"wrong"}


def test_a_contender_that_raises_does_not_stop_the_others() -> None:
    found = Runner([Raising("fastrnn", "torch.nn"), TORCH], BRIEF).run(TINY, "inference")
    assert list(found.times_ms) == ["torch"]
    assert found.failures == {"fastrnn": "RuntimeError: no kernel"}


def test_a_point_that_nobody_gets_right_has_no_times() -> None:
    found = Runner([Wrong("fastrnn", "torch.nn")], BRIEF).run(TINY, "inference")
    assert not found.times_ms


def test_results_that_are_absent_misshapen_or_not_numbers_are_infinitely_wrong() -> None:
    entry = TORCH.prepare(make_problem(TINY), "inference")
    right = entry.results(entry.call())
    assert largest_error(right, right) == 0
    for y in (right["y"][:1], right["y"] * float("nan")):
        assert largest_error({**right, "y": y}, right) == float("inf")
    assert largest_error({"y": right["y"]}, right) == float("inf")


def test_training_leaves_a_gradient_for_x_and_every_parameter() -> None:
    problem = make_problem(TINY)
    entry = TORCH.prepare(problem, "training")
    names = {f"{name}.grad" for name in ("x", *problem.weights)}
    assert entry.results(entry.call()).keys() == {"y", "h_n", "c_n"} | names


def test_gradients_do_not_accumulate_from_call_to_call() -> None:
    entry = TORCH.prepare(make_problem(TINY), "training")
    first = entry.results(entry.call())
    assert largest_error(entry.results(entry.call()), first) < 1e-6


def test_a_contender_is_left_out_where_it_does_not_support_the_point() -> None:
    runner = Runner([InferenceOnly("fastrnn", "torch.nn"), TORCH], BRIEF)
    assert set(runner.run(TINY, "inference").times_ms) == {"fastrnn", "torch"}
    assert set(runner.run(TINY, "training").times_ms) == {"torch"}


def test_the_order_of_turns_rotates_and_a_block_is_not_interrupted() -> None:
    turns: list[str] = []
    effort = replace(BRIEF, min_rounds=3, max_rounds=3)
    take_turns({name: lambda name=name: turns.append(name) for name in "abc"}, effort)
    merged = [name for i, name in enumerate(turns) if i == 0 or turns[i - 1] != name]
    # Sizing the blocks goes first; b's second turn follows its first, as the order moves on by one.
    assert "".join(merged) == "abcabcbcacab"


def test_the_collector_sleeps_during_a_block_and_wakes_after_it() -> None:
    awake: list[bool] = []
    with timing.quiet_block():
        awake.append(gc.isenabled())
    assert [*awake, gc.isenabled()] == [False, True]


def test_rounds_go_on_while_ratios_scatter_and_end_when_they_are_known() -> None:
    assert relative_error_of_median([2.0] * 5) == 0
    assert relative_error_of_median([1.0, 2.0, 3.0]) > relative_error_of_median([1.9, 2.0, 2.1])
    effort = replace(BRIEF, max_rounds=9, budget_s=60.0, precision=float("inf"))
    assert len(take_turns({"a": int, "b": int}, effort)["a"].blocks) == effort.min_rounds


def test_drift_that_slows_everyone_leaves_the_ratio_alone() -> None:
    assert ratio_of_rounds([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]) == 2


def test_work_of_other_processes_is_noticed_and_ones_own_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"wall": 0.0, "busy": 0.0, "own": 0.0}
    monkeypatch.setattr(machine.time, "perf_counter", lambda: seconds["wall"])
    monkeypatch.setattr(machine.time, "process_time", lambda: seconds["own"])
    monkeypatch.setattr(machine, "_busy_s", lambda: seconds["busy"])
    neighbours = machine.Neighbours()
    seconds.update(wall=10.0, busy=20.0, own=20.0)
    assert not machine.complaint(neighbours.share())
    seconds.update(busy=20.0 + 3 * (os.cpu_count() or 1))
    assert "30% of the processors" in machine.complaint(neighbours.share())


needs_proc = pytest.mark.skipif(memory.missing() is not None, reason=str(memory.missing()))


@needs_proc
def test_a_larger_step_takes_more_memory_and_at_least_what_it_returns() -> None:
    small, large = Workload("gru", 20, 8, 64, 64), Workload("gru", 200, 32, 64, 64)
    peaks = [memory.training_peak_mib(TORCH, workload) for workload in (small, large)]
    y_and_gradient_of_x = 2 * large.rows * 64 * 4 / 2**20
    assert peaks[0] < y_and_gradient_of_x < peaks[1] < 100 * y_and_gradient_of_x


@needs_proc
def test_a_contender_that_dies_has_no_memory_figure_and_stops_nobody() -> None:
    timed = replace(point(2.0), phase="training")
    found = memory.with_peaks(timed, [Dying("fastrnn", "torch.nn"), TORCH])
    assert found.peak_mib.keys() == {"torch"}


def test_contenders_are_asked_only_where_they_compute() -> None:
    on_gpu = {c.name for c in CONTENDERS if device.runs_on(c, "cuda")}
    on_cpu = {c.name for c in CONTENDERS if device.runs_on(c, "cpu")}
    assert on_gpu == {"fastrnn", "torch", "haste", "flashrnn"}
    assert on_cpu == {c.name for c in CONTENDERS} - {"haste", "flashrnn"}


def test_a_clock_is_settled_before_calls_are_timed() -> None:
    """What was started before must not go on within the time of a call."""
    log: list[str] = []

    class Clock:
        def each(self, call: timing.Call, calls: int) -> tuple[float, ...]:
            assert log[-1] == "settled"
            return (1e-9,) * calls

        def settle(self) -> None:
            log.append("settled")

    timed = take_turns({"a": lambda: log.append("called")}, BRIEF, Clock())
    assert timed["a"].median() == 1e-9


def test_a_problem_keeps_its_numbers_on_the_way_to_a_device() -> None:
    problem = make_problem(replace(TINY, episode=2))
    moved = problem.on("cpu")
    assert torch.equal(moved.x, problem.x)
    assert moved.resets is not None
    assert moved.double().device == moved.device == "cpu"
