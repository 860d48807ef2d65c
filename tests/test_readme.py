"""The README's figures are those of the committed results, and its commands are those that run."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.results import Point, Report

ROOT = Path(__file__).parent.parent
COLUMNS = [(cell, phase) for cell in ("lstm", "gru") for phase in ("inference", "training")]
ROW = re.compile(r"^\| [^|]*: (T\d+ B\d+ I\d+ H\d+[^|]*) \|(.*)\|$", re.M)


def committed_points() -> dict[tuple[str, str, str], Point]:
    reports = [Report.load(file) for file in ROOT.glob("benchmarks/results/*-avx512-2threads.json")]
    return {
        (point.workload.cell, point.workload.shape, point.phase): point
        for report in reports
        for point in report.points
    }


def test_every_speedup_in_the_table_is_in_a_results_file() -> None:
    points = committed_points()
    rows = ROW.findall(ROOT.joinpath("README.md").read_text())
    assert len(rows) == 10
    for shape, cells in rows:
        shown = [float(cell.strip().rstrip("x")) for cell in cells.split("|")]
        measured = [points[cell, shape, phase].ratios()["torch"] for cell, phase in COLUMNS]
        assert shown == [float(f"{value:.3g}") for value in measured], shape
