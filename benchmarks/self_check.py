"""Proof of the method: torch against torch, of which neither is faster."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmarks.report import new_table
from benchmarks.results import Point
from benchmarks.timing import ratio_of_rounds

ALLOWED = (0.95, 1.05)
NAMES = ("torch", "torch again")


def spread(points: Sequence[Point]) -> list[float]:
    """Return each point's ratio, which an ideal measurement would find to be 1."""
    return [ratio_of_rounds(*(point.rounds_ms[name] for name in NAMES)) for point in points]


def within_bounds(ratios: Sequence[float]) -> bool:
    return ALLOWED[0] <= min(ratios) and max(ratios) <= ALLOWED[1]


def show(points: Sequence[Point], complaint: str, console: Console) -> None:
    """Print every ratio, the verdict, and what may have spoilt it."""
    table = new_table("torch against torch")
    table.add_column("workload", no_wrap=True)
    table.add_column("phase")
    for name in (*NAMES, "ratio", "rounds"):
        table.add_column(name, justify="right")
    ratios = spread(points)
    for point, ratio in zip(points, ratios, strict=True):
        times = [f"{point.times_ms[name]:.3g} ms" for name in NAMES]
        rounds = str(len(point.rounds_ms[NAMES[0]]))
        colour = "green" if within_bounds([ratio]) else "red"
        table.add_row(point.workload.name, point.phase, *times, f"[{colour}]{ratio:.3f}[/]", rounds)
    console.print(table)
    verdict = "within" if within_bounds(ratios) else "[bold red]OUTSIDE[/]"
    console.print(
        f"Ratios from {min(ratios):.3f} to {max(ratios):.3f}: {verdict} "
        f"{ALLOWED[0]:.2f}-{ALLOWED[1]:.2f}."
    )
    if complaint:
        console.print(f"[bold yellow]{complaint}[/]")
