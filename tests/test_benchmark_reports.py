"""What the benchmarks say: the command line, the tables, the files and the picture."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from stand_ins import KINDS, STAND_IN, TINY, TORCH, Wrong, be_brief, point

pytest.importorskip("rich")

from rich.console import Console

from benchmarks import cli, device, memory, report, self_check
from benchmarks.contenders import CONTENDERS, FROZEN
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.plot import save_plot
from benchmarks.results import Point, Report, summarise
from benchmarks.workloads import CELLS, GRIDS, PHASES, Phase, Workload

DESCRIBED = {
    "cpu": "a",
    "threads": 2,
    "isa": None,
    "neighbours_share": 0.4,
    "packages": {"torch": "2"},
}


@dataclass(frozen=True)
class Absent(TorchLayers):
    def missing(self) -> str | None:
        return "its library is not installed"


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    be_brief(monkeypatch)


def run_cli(*arguments: str, contenders: tuple[TorchLayers, ...] = (STAND_IN, TORCH)) -> int:
    return cli.main(["--quick", "--no-language-model", *arguments], contenders)


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


def test_frozen_layers_are_the_subject_where_those_of_fastrnn_do_not_take_part() -> None:
    measured = {"torch": 4.0, "frozen": 2.0}
    rounds = {name: [ms, ms] for name, ms in measured.items()}
    alone = replace(point(1.0), times_ms=measured, rounds_ms=rounds)
    ours = {"times_ms": measured | {"fastrnn": 1.0}, "rounds_ms": rounds | {"fastrnn": [1.0, 1.0]}}
    beside = replace(alone, **ours)
    assert (alone.subject, alone.ratios()) == ("frozen", pytest.approx({"torch": 2.0}))
    assert (beside.subject, beside.ratios()) == ("fastrnn", pytest.approx(measured))
    assert report.points_table("", [alone]).columns[-1].header == "share\nof\ngemm"


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
def test_a_file_that_cannot_be_written_is_refused_before_the_run(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, new = tmp_path / "folder.png", tmp_path / "new.png"
    folder.mkdir()
    for path in ("no/such/folder/file.png", str(folder)):
        with pytest.raises(SystemExit):
            run_cli(option, path)
        assert f"expected a file in a folder that exists, got {path}" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda *_: False)  # there is nothing that root may not write
    with pytest.raises(SystemExit):
        run_cli(option, str(new))
    assert f"expected a file that can be written, got {new}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plot", "plot.xyz"])
def test_a_picture_of_no_known_format_is_refused_before_the_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_cli("--plot", str(tmp_path / name))
    assert "png" in capsys.readouterr().err.partition("argument --plot: expected one of ")[2]


@pytest.mark.parametrize("option", ["--threads", "--busy"])
@pytest.mark.parametrize("text", ["two", "-1", "1.5", ""])
def test_a_count_that_is_none_is_an_error(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_cli(f"{option}={text}")
    assert f"argument {option}: expected a positive number, got {text}" in capsys.readouterr().err


@dataclass(frozen=True)
class Elsewhere(TorchLayers):
    devices: tuple[device.Device, ...] = ("cuda",)


def test_a_run_of_nobody_ends_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    contenders = (Elsewhere("haste", "torch.nn"), Absent("jax", "torch.nn"), TORCH)
    with pytest.raises(SystemExit, match="no contender is left"):
        run_cli("--contender", "haste", "jax", contenders=contenders)
    printed = capsys.readouterr().out
    assert "haste is skipped: it does not compute on cpu" in printed
    assert "jax is skipped: its library is not installed" in printed


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("grid", GRIDS)
def test_no_table_is_cut_at_a_hundred_columns_with_everyone_who_is_in_it(
    phase: Phase, grid: str
) -> None:
    where: device.Device = "cuda" if grid.startswith("cudnn") else "cpu"
    names = [
        contender.name
        for contender in CONTENDERS
        if device.runs_on(contender, where)
        and (contender.name != FROZEN or grid == "formats")
        and any(contender.supports(workload, phase) for workload in GRIDS[grid])
    ]
    longest = max(GRIDS[grid], key=lambda workload: len(workload.name))
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


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_replay_of_what_is_no_run_says_so(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit, match=f"--replay {file}: expected what --json wrote, got "):
        cli.main(["--replay", str(file)])


def test_programs_have_rows_and_panels_of_their_own(tmp_path: Path) -> None:
    results, picture = tmp_path / "results.json", tmp_path / "plot.png"
    heads = replace(TINY, H=8, program="SLSTM", variant=(("num_heads", 4),))
    workloads = [TINY, replace(TINY, program="LSTM"), heads]
    points = [point(ratio, w) for ratio, w in zip((2, 3, 4), workloads, strict=True)]
    Report(DESCRIBED, "abc", points).save(results)
    loaded = Report.load(results)
    assert [found.workload for found in loaded.points] == workloads
    means = {row.cell: row.geomean for row in summarise(loaded.points)}
    assert means == pytest.approx({"lstm": 2, "LSTM": 3, "SLSTM": 4})
    save_plot(loaded, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_formats_are_drawn_over_frozen_layers_of_float32(tmp_path: Path) -> None:
    picture = tmp_path / "plot.png"
    workload = replace(TINY, formats=True)
    times = {"fastrnn": 2.0, "frozen": 1.0, "int8": 0.5}
    save_plot(Report(DESCRIBED, "abc", [Point(workload, "inference", times)]), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    without = Report(DESCRIBED, "abc", [Point(workload, "inference", {"fastrnn": 2.0})])
    with pytest.raises(ValueError, match="expected points of inference with a time of frozen"):
        save_plot(without, picture)


def test_a_plot_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected points with times of fastrnn and torch"):
        save_plot(Report({}, "abc"), tmp_path / "plot.png")
    with pytest.raises(SystemExit, match=r"--plot .*: expected points with times of fastrnn and"):
        run_cli("--contender", "torch", "--plot", str(tmp_path / "plot.png"))


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
