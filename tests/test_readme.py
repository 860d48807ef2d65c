"""The README's figures are those of the committed results, and its commands are those that run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

import fastrnn
from benchmarks.results import Point, Report, summarise
from fastrnn import __main__

ROOT = Path(__file__).parent.parent
COLUMNS = [(cell, phase) for cell in ("lstm", "gru") for phase in ("inference", "training")]
ROW = re.compile(r"^\| [^|]*: (T\d+ B\d+ I\d+ H\d+[^|]*) \|(.*)\|$", re.M)


def committed_points() -> dict[tuple[str, str, str], list[Point]]:
    """Every measurement of a point; some workloads are in several grids."""
    points: dict[tuple[str, str, str], list[Point]] = {}
    for file in ROOT.glob("benchmarks/results/*-amd-epyc-avx512-2threads.json"):
        for point in Report.load(file).points:
            key = (point.workload.cell, point.workload.shape, point.phase)
            points.setdefault(key, []).append(point)
    return points


def test_every_speedup_in_the_table_is_in_a_results_file() -> None:
    points = committed_points()
    rows = ROW.findall(ROOT.joinpath("README.md").read_text())
    assert len(rows) == 12
    for shape, cells in rows:
        shown = [float(cell.strip().rstrip("x")) for cell in cells.split("|")]
        for value, column in zip(shown, COLUMNS, strict=True):
            measured = [point.ratios()["torch"] for point in points[column[0], shape, column[1]]]
            assert value in [float(f"{ratio:.3g}") for ratio in measured], (shape, column)


def test_the_means_of_other_processors_are_those_of_their_files() -> None:
    text = " ".join(ROOT.joinpath("README.md").read_text().split())
    means = r"(\S+)x, (\S+)x, (\S+)x and (\S+)x"
    for processor, words in {
        "zen4-avx512": r"\[Zen 4\]\S+, whose vector units are half as wide, the four means are ",
        "zen3-avx2": r"\[Zen 3\]\S+ with AVX2 alone ",
    }.items():
        found = re.search(words + means, text)
        assert found is not None, processor
        file = ROOT / f"benchmarks/results/peers-amd-epyc-{processor}-2threads.json"
        summaries = summarise(Report.load(file).points)
        over_torch = {(s.cell, s.phase): s.geomean for s in summaries if s.over == "torch"}
        assert list(found.groups()) == [f"{over_torch[column]:.2f}" for column in COLUMNS]


def test_the_cell_that_it_writes_runs_as_printed_and_is_the_published_one() -> None:
    section = ROOT.joinpath("README.md").read_text().split("## Write a cell")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    x, lengths = torch.randn(7, 3, 128), torch.tensor([7, 2, 5])
    names: dict[str, Any] = {"fastrnn": fastrnn, "x": x, "lengths": lengths}
    exec(compile(code, "README.md", "exec"), names)
    published = fastrnn.Recurrent(fastrnn.cells.MGU, 128, 256, num_layers=2, bidirectional=True)
    published.load_state_dict(names["rnn"].state_dict())
    y, h = published(x, lengths=lengths)
    torch.testing.assert_close((names["y"], names["h"]), (y, h))
    assert (y[2:, 1] == 0).all()


def test_the_calls_that_it_explains_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ROOT.joinpath("README.md").read_text().splitlines()
    calls = [line.removeprefix("python -m fastrnn ") for line in lines if " explain " in line]
    assert len(calls) == 2
    for call in calls:
        __main__.main(shlex.split(call))
        assert call.split()[1] in capsys.readouterr().out
