"""The README's figures are those of the committed results, and its commands are those that run."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.results import Point, Report

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "peers-amd-epyc-avx512-2threads.json"
COLUMNS = [(cell, phase) for cell in ("lstm", "gru") for phase in ("inference", "training")]


def ratio(points: list[Point], cell: str, shape: str, phase: str) -> float:
    (found,) = [
        point.ratios()["torch"]
        for point in points
        if (point.workload.cell, point.workload.shape, point.phase) == (cell, shape, phase)
    ]
    return found


def test_every_speedup_in_the_table_is_in_the_results_file() -> None:
    points = Report.load(RESULTS).points
    rows = re.findall(
        r"^\| [^|]*: (T\d+ B\d+ I\d+ H\d+) \|(.*)\|$", ROOT.joinpath("README.md").read_text(), re.M
    )
    assert len(rows) == 6
    for shape, cells in rows:
        shown = [float(cell.strip().rstrip("x")) for cell in cells.split("|")]
        measured = [ratio(points, cell, shape, phase) for cell, phase in COLUMNS]
        assert shown == [float(f"{value:.3g}") for value in measured], shape
