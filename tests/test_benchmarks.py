"""The benchmark suite itself: a benchmark that is wrong misleads more people than a slow kernel."""

from __future__ import annotations

import gc
import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from rich.console import Console

from benchmarks import cli, device, machine, memory, report, self_check, timing, yardstick
from benchmarks.contenders import CONTENDERS, Entry
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.plot import save_plot
from benchmarks.problem import Problem, make_problem
from benchmarks.results import Point, Report, summarise
from benchmarks.runner import Runner, largest_error
from benchmarks.timing import Effort, ratio_of_rounds, relative_error_of_median, take_turns
from benchmarks.workloads import CELLS, GRIDS, PHASES, Phase, Workload

BRIEF = Effort(block_s=1e-4, min_rounds=2, max_rounds=2, budget_s=0.0, precision=0.0)
TINY = Workload("lstm", 3, 2, 4, 5)
TORCH = TorchLayers("torch", "torch.nn")
STAND_IN = TorchLayers("fastrnn", "torch.nn")
DESCRIBED = {
    "cpu": "a",
    "threads": 2,
    "isa": None,
    "neighbours_share": 0.4,
    "packages": {"torch": "2"},
}
LAYERS = [contender for contender in CONTENDERS if contender.name in ("fastrnn", "torch")]


@dataclass(frozen=True)
class Wrong(TorchLayers):
    """A contender whose results are off by a factor."""

    factor: float = 1.01

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        entry = super().prepare(problem, phase)
        return Entry(
            entry.call,
            lambda returned: {k: v * self.factor for k, v in entry.results(returned).items()},
        )


@dataclass(frozen=True)
class Absent(TorchLayers):
    def missing(self) -> str | None:
        return "its library is not installed"


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
    """Keep the method, take the waiting out of it, and leave this process as it is."""
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(gc, "collect", lambda: 0)
    monkeypatch.setattr(yardstick, "SIZE", 32)
    monkeypatch.setattr(yardstick, "_PROBE", BRIEF)
    monkeypatch.setattr(cli, "FULL", BRIEF)
    monkeypatch.setattr(cli, "QUICK", BRIEF)
    monkeypatch.setattr(cli, "steady_process", lambda: None)
    monkeypatch.setitem(GRIDS, "quick", (TINY, replace(TINY, cell="gru")))


def run_cli(*arguments: str, contenders: tuple[TorchLayers, ...] = (STAND_IN, TORCH)) -> int:
    return cli.main(["--quick", "--no-language-model", *arguments], contenders)


def point(ratio: float, workload: Workload = TINY, phase: Phase = "inference") -> Point:
    return Point(
        workload,
        phase,
        times_ms={"fastrnn": 1.0, "torch": ratio},
        rounds_ms={"fastrnn": [1.0, 1.0], "torch": [ratio, ratio]},
        gemm_gflops=[100.0, 100.0],
    )


def shrunk(workload: Workload) -> Workload:
    """The same kind of workload, small enough for a test."""
    T, B = min(workload.T, 4), min(workload.B, 3)
    lengths = None if workload.lengths is None else (2, T, 1)[:B]
    proj_size = min(workload.proj_size, 3)
    sizes = {"lengths": lengths, "proj_size": proj_size, "episode": min(workload.episode, 2)}
    return replace(workload, T=T, B=B, I=5, H=7, **sizes)


KINDS = list(dict.fromkeys(shrunk(workload) for grid in GRIDS.values() for workload in grid))


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


def test_summary_has_the_geometric_mean_and_the_worst_point() -> None:
    slow = replace(TINY, T=9)
    (summary,) = summarise([point(8.0), point(0.5, slow)])
    assert (summary.geomean, summary.worst) == pytest.approx((2.0, 0.5))
    assert summary.worst_workload == slow


def test_best_peer_is_chosen_point_by_point() -> None:
    two_peers = [
        replace(
            point(1.0),
            times_ms=dict.fromkeys(("fastrnn", "torch", "other"), 1.0),
            rounds_ms={"fastrnn": [1.0], "torch": [torch_ms], "other": [other_ms]},
        )
        for torch_ms, other_ms in [(2.0, 8.0), (8.0, 2.0)]
    ]
    means = {summary.over: summary.geomean for summary in summarise(two_peers)}
    assert means == pytest.approx({"torch": 4.0, "other": 4.0, "best peer": 2.0})


def test_a_point_with_a_single_peer_counts_for_the_best_peer_too() -> None:
    both = replace(
        point(4.0),
        times_ms={"fastrnn": 1.0, "torch": 4.0, "other": 2.0},
        rounds_ms={"fastrnn": [1.0], "torch": [4.0], "other": [2.0]},
    )
    means = {row.over: (row.geomean, row.points) for row in summarise([point(8.0), both])}
    assert means["best peer"] == (pytest.approx(4.0), 2)
    assert means["other"] == (pytest.approx(2.0), 1)
    assert list(means) == ["torch", "other", "best peer"]


def test_share_compares_rounds_timed_side_by_side() -> None:
    work = TINY.flops("inference") / 1e6
    assert point(2.0).shares()["fastrnn"] == pytest.approx(work / 1.0 / 100.0)


def test_json_has_the_published_schema_and_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert run_cli("--json", str(file)) == 0
    content = json.loads(file.read_text())
    assert {"machine", "commit", "points"} <= content.keys()
    assert {"cpu", "threads", "isa"} <= content["machine"].keys()
    assert len(content["points"]) == len(GRIDS["quick"]) * len(PHASES)
    for found in content["points"]:
        assert {"workload", "phase", "dtype", "device", "times_ms"} <= found.keys()
        assert found["times_ms"].keys() == {"fastrnn", "torch"}
        assert (found["dtype"], found["device"]) == ("float32", "cpu")
    loaded = Report.load(file)
    loaded.save(tmp_path / "again.json")
    assert Report.load(tmp_path / "again.json") == loaded


@pytest.mark.parametrize("workload", KINDS, ids=lambda workload: workload.name)
def test_every_workload_survives_json(workload: Workload) -> None:
    content = json.loads(json.dumps(point(2.0, workload).to_json()))
    assert Point.from_json(content).workload == workload


def test_a_wrong_result_fails_the_run_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(contenders=(Wrong("fastrnn", "torch.nn"), TORCH)) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_contender_that_is_not_installed_is_skipped_with_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_cli(contenders=(Absent("fastrnn", "torch.nn"), TORCH)) == 0
    assert "fastrnn is skipped: its library is not installed" in capsys.readouterr().out


def test_contenders_are_chosen_by_name_and_a_quick_run_has_two(tmp_path: Path) -> None:
    file, contenders = tmp_path / "results.json", (TORCH, STAND_IN, TorchLayers("jax", "torch.nn"))
    for arguments, expected in [((), {"fastrnn", "torch"}), (("--contender", "jax"), {"jax"})]:
        narrow = ("--cell", "gru", "--phase", "inference", "--json", str(file))
        assert run_cli(*narrow, *arguments, contenders=contenders) == 0
        (found,) = Report.load(file).points
        assert found.times_ms.keys() == expected


def test_a_contender_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(SystemExit):
        run_cli("--contender", "nobody")


def test_options_narrow_the_run(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert run_cli("--cell", "gru", "--phase", "training", "--json", str(file)) == 0
    (found,) = Report.load(file).points
    assert (found.workload.cell, found.phase) == ("gru", "training")


def test_asking_for_no_workload_at_all_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no workload"):
        run_cli("--workload", "T77")


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(option: str) -> None:
    with pytest.raises(SystemExit):
        run_cli(option, "no/such/folder/file")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("where", device.DEVICES)
def test_no_table_is_cut_at_a_hundred_columns_with_every_contender(
    phase: Phase, where: device.Device
) -> None:
    names = [contender.name for contender in CONTENDERS if device.runs_on(contender, where)]
    grids = [grid for name, grid in GRIDS.items() if name.startswith("cudnn") == (where == "cuda")]
    longest = max((w for grid in grids for w in grid), key=lambda w: len(w.name))
    crowded = Point(
        longest,
        phase,
        times_ms=dict.fromkeys(names, 12.3),
        rounds_ms={name: [12.3] for name in names},
        gemm_gflops=[100.0],
        peak_mib=dict.fromkeys(("fastrnn", "torch", "jax"), 1234.0),
    )
    screen = io.StringIO()
    report.show(Report(DESCRIBED, "abc", [crowded]), Console(width=100, file=screen))
    assert longest.name in screen.getvalue()
    assert "…" not in screen.getvalue()


def test_older_results_without_memory_still_load_and_show() -> None:
    files = sorted(Path(cli.__file__).parent.glob("results/*.json"))
    assert files
    for file in files:
        report.show(Report.load(file), Console(quiet=True))


def test_replay_shows_and_draws_without_running(tmp_path: Path) -> None:
    results, picture = tmp_path / "results.json", tmp_path / "plot.png"
    points = [point(3.0, replace(TINY, cell=cell), phase) for cell in CELLS for phase in PHASES]
    points.append(replace(points[0], failures={"other": "relative error"}))
    Report(DESCRIBED, "abc", points).save(results)
    assert cli.main(["--replay", str(results), "--plot", str(picture)]) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected points with times of fastrnn and torch"):
        save_plot(Report({}, "abc"), tmp_path / "plot.png")


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


@pytest.mark.parametrize(("bounds", "status"), [((0.0, float("inf")), 0), ((-2.0, -1.0), 1)])
def test_self_check_fails_when_the_spread_is_too_wide(
    bounds: tuple[float, float], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "ALLOWED", bounds)
    assert run_cli("--self-check") == status


def test_list_names_every_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in GRIDS)


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


def test_memory_is_measured_when_asked_for_and_only_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "missing", lambda: None)
    monkeypatch.setattr(memory, "training_peak_mib", lambda contender, _: len(contender.name))
    file = tmp_path / "results.json"
    assert run_cli("--memory", "--json", str(file)) == 0
    for found in Report.load(file).points:
        training = found.phase == "training"
        assert found.peak_mib == ({"fastrnn": 7, "torch": 5} if training else {})
        assert found.memory_ratios() == ({"torch": 5 / 7} if training else {})


def test_a_system_that_cannot_measure_memory_says_so_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "missing", lambda: "no /proc")
    assert run_cli("--memory") == 0
    assert "Memory is not measured: no /proc" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cuda: torch finds no GPU"):
        cli.main(["--device", "cuda"])


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
