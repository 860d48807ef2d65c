"""The README's figures are those of the committed results, and its commands are those that run."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.results import Point, Report

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
