"""Points that are timed beside busy processes, or with more threads than there are processors."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

import stand_ins
from rich.console import Console
from stand_ins import STAND_IN, TINY, TORCH, be_brief

from benchmarks import cli, machine, report, timing, yardstick
from benchmarks.companions import Companion, await_line, companion
from benchmarks.contenders.jax_scan import JaxLayers
from benchmarks.plot import save_plot
from benchmarks.results import Point, Report, summarise_situations
from benchmarks.situations import Situation, busy_processes, cores, situations_of
from benchmarks.workloads import GRIDS, Phase

ROOT = Path(__file__).parent.parent
QUIET, BESIDE, CROWDED = Situation(0, 2), Situation(2, 2), Situation(0, 8)
LAYERS = (STAND_IN, TORCH)
DEADLINE_S = 60.0


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    be_brief(monkeypatch)
    monkeypatch.setattr(yardstick.in_cache, "active_isa", lambda: None)
    monkeypatch.setitem(GRIDS, "busy", (TINY,))


def run_cli(file: Path, *arguments: str) -> Report:
    common = ("--quick", "--grid", "busy", "--phase", "inference", "--no-language-model")
    assert cli.main([*common, "--json", str(file), *arguments], LAYERS) == 0
    return Report.load(file)


def point(ratio: float, situation: Situation, phase: Phase = "inference") -> Point:
    return replace(stand_ins.point(ratio, phase=phase), situation=situation)


def described(*situations: Situation) -> dict[str, object]:
    return {
        "cpu": "a",
        "threads": 2,
        "isa": None,
        "neighbours_share": 0.0,
        "packages": {"torch": "2"},
        "situations": [vars(situation) for situation in situations],
    }


def shown(found: Report) -> str:
    screen = io.StringIO()
    report.show(found, Console(width=100, file=screen))
    return screen.getvalue()


def state(pid: int) -> str:
    """The letter of proc(5): R computes or could, S sleeps, Z is dead; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def computed_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(pid: int) -> bool:
    return state(pid) in ("", "Z", "X")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@needs_proc
@pytest.mark.slow
def test_busy_processes_compute_without_sleep_and_end_with_the_block() -> None:
    before = machine._own_s()
    with busy_processes(2) as found:
        pids = [process.pid for process in found]
        wait_until(lambda: all(computed_s(pid) > 0.1 for pid in pids))
        states = {state(pid) for pid in pids for _ in range(100)}
    assert states == {"R"}
    assert all(ended(pid) for pid in pids)
    # What they have used is not held against the neighbours.
    assert machine._own_s() - before > 0.2


@pytest.mark.slow
def test_busy_processes_end_where_the_block_raises() -> None:
    with pytest.raises(KeyboardInterrupt), busy_processes(1) as found:
        raise KeyboardInterrupt
    assert found[0].returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_busy_process_that_ended_early_is_an_error() -> None:
    def end_one() -> None:
        with busy_processes(2) as found:
            found[0].kill()
            found[0].wait()

    with pytest.raises(RuntimeError, match=r"spinner.* ended with status -9"):
        end_one()


@pytest.mark.slow
def test_a_process_that_does_not_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with companion("benchmarks.nowhere") as process, pytest.raises(RuntimeError, match="nowhere"):
        await_line(process)
    assert "No module named benchmarks.nowhere" in capfd.readouterr().err


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_busy_processes_do_not_outlive_who_started_them(number: signal.Signals) -> None:
    program = (
        "import signal, time\n"
        # Whoever was started in the background by a shell has been told to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from benchmarks.situations import busy_processes\n"
        "with busy_processes(2) as found:\n"
        "    print(*(process.pid for process in found), flush=True)\n"
        "    time.sleep(600)\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    ) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(ended(pid) for pid in pids)
        starter.send_signal(number)
        starter.wait(DEADLINE_S)
    wait_until(lambda: all(ended(pid) for pid in pids))


def test_more_threads_than_processors_are_given_and_taken_back() -> None:
    before, given = torch.get_num_threads(), []

    def fail_with_many() -> None:
        with Situation(threads=4 * cores()).entered():
            given.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail_with_many()
    assert (given, torch.get_num_threads()) == ([4 * cores()], before)


def test_the_grid_is_run_quiet_beside_two_and_with_too_many_threads() -> None:
    threads = torch.get_num_threads()
    expected = (Situation(0, threads), Situation(2, threads), Situation(0, 4 * cores()))
    assert situations_of("busy", None, None) == expected
    assert situations_of("peers", None, None) == expected[:1]
    assert len(GRIDS["busy"]) == 8


@pytest.mark.parametrize(
    ("busy", "threads", "expected"),
    [(3, None, (3, None)), (0, None, (0, None)), (None, 9, (0, 9)), (1, 9, (1, 9))],
)
@pytest.mark.parametrize("grid", ["busy", "peers"])
def test_what_is_asked_for_holds_for_the_whole_grid(
    grid: str, busy: int | None, threads: int | None, expected: tuple[int, int | None]
) -> None:
    (found,) = situations_of(grid, busy, threads)
    assert found == Situation(expected[0], expected[1] or torch.get_num_threads())


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_points_are_written_and_read_with_their_situation(tmp_path: Path) -> None:
    found = run_cli(tmp_path / "results.json")
    assert tuple(p.situation for p in found.points) == situations_of("busy", None, None)
    assert found.machine["situations"] == [vars(p.situation) for p in found.points]
    written = json.loads((tmp_path / "results.json").read_text())["points"]
    assert [p["situation"]["busy"] for p in written] == [0, 2, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_asked_for_processes_and_threads_are_there_while_points_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, started = [], []
    take_turns, enter_companion = timing.take_turns, companion

    @contextmanager
    def noted(module: str) -> Iterator[Companion]:
        with enter_companion(module) as process:
            started.append(process)
            yield process

    def watched(*arguments: object) -> object:
        alive = sum(process.poll() is None for process in started)
        seen.append((alive, torch.get_num_threads()))
        return take_turns(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmarks.situations.companion", noted)
    monkeypatch.setattr("benchmarks.runner.take_turns", watched)
    before = torch.get_num_threads()
    try:
        found = run_cli(tmp_path / "results.json", "--busy", "1", "--threads", "5")
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 5)]
    assert [p.situation for p in found.points] == [Situation(1, 5)]
    assert found.machine["threads"] == 5


@pytest.mark.parametrize("arguments", [("--busy", "-1"), ("--busy", "x"), ("--threads", "0")])
def test_what_cannot_be_a_count_is_refused(arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(list(arguments))


def test_points_of_files_without_situations_have_the_machines_threads(tmp_path: Path) -> None:
    file = tmp_path / "older.json"
    Report(described(), "abc", [point(2.0, QUIET)]).save(file)
    content = json.loads(file.read_text())
    del content["points"][0]["situation"], content["machine"]["situations"]
    file.write_text(json.dumps({**content, "machine": {**content["machine"], "threads": 7}}))
    loaded = Report.load(file)
    assert loaded.points[0].situation == Situation(0, 7)
    assert "a, 7 threads, torch 2" in shown(loaded)


def test_each_situation_has_its_mean_and_its_worst_point() -> None:
    points = [
        point(2.0, QUIET),
        point(8.0, QUIET, "training"),
        point(0.5, BESIDE),
        point(0.125, BESIDE, "training"),
    ]
    quiet, beside = summarise_situations(points)
    assert (quiet.situation, quiet.geomean, quiet.worst) == (QUIET, pytest.approx(4.0), 2.0)
    assert (beside.situation, beside.geomean, beside.worst) == (BESIDE, pytest.approx(0.25), 0.125)
    assert (beside.worst_point, beside.points) == (points[3], 2)


def test_the_report_tells_situations_apart_where_there_are_several() -> None:
    points = [point(2.0, QUIET), point(0.5, BESIDE), point(0.25, CROWDED)]
    text = shown(Report(described(QUIET, BESIDE, CROWDED), "abc", points))
    for situation in (QUIET, BESIDE, CROWDED):
        assert f"Inference, {situation.name}" in text
        assert f"fastrnn is, {situation.name}" in text
    assert "by situation" in text
    assert "…" not in text


def test_the_report_of_a_single_situation_says_it_once() -> None:
    text = shown(Report(described(BESIDE), "abc", [point(2.0, BESIDE)]))
    assert text.count("2 threads beside 2 busy processes") == 1
    assert "by situation" not in text


def test_every_situation_has_a_row_of_its_own_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    from matplotlib.axes import Axes

    labelled = Axes.set_yticks

    def record(axes: Axes, ticks: object, labels: list[str], **options: object) -> None:
        drawn.extend(labels)
        labelled(axes, ticks, labels, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "set_yticks", record)
    points = [point(2.0, QUIET), point(0.5, BESIDE)]
    save_plot(Report(described(QUIET, BESIDE), "abc", points), tmp_path / "plot.png")
    assert drawn == [f"{TINY.shape}\n{situation.name}" for situation in (QUIET, BESIDE)]


def test_jax_is_left_out_where_its_pool_has_another_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NPROC", str(torch.get_num_threads()))
    assert JaxLayers().supports(TINY, "inference")
    monkeypatch.setenv("NPROC", str(torch.get_num_threads() + 1))
    assert not JaxLayers().supports(TINY, "inference")


def test_memory_is_measured_in_the_first_situation_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.memory, "missing", lambda: None)
    monkeypatch.setattr(cli.memory, "training_peak_mib", lambda contender, workload: 1.0)
    points = [point(2.0, QUIET, "training"), point(2.0, BESIDE, "training")]
    first, second = cli._measure_memory(points, LAYERS, Console(quiet=True))
    assert first.peak_mib.keys() == {"fastrnn", "torch"}
    assert second == replace(points[1], peak_mib={})


def test_the_list_says_in_which_situations_a_grid_is_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--list"]) == 0
    names = [situation.name for situation in situations_of("busy", None, None)]
    assert ", ".join(names) in capsys.readouterr().out
