"""The terminal's view of a run: tables of times, ratios and shares, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import machine
from benchmarks.contenders import BASELINE, SUBJECT
from benchmarks.language_model import EARLY_STEPS, EARLY_TOLERANCE, TOLERANCE, Outcome
from benchmarks.results import (
    Point,
    Report,
    SituationSummary,
    Summary,
    situations_of_points,
    summarise,
    summarise_situations,
)
from benchmarks.workloads import PHASES

MOST_PEERS = 7
"""With more of them a table has no room for what a step takes and the machine's limit."""


def show(report: Report, console: Console) -> None:
    """Print everything that a report holds."""
    console.print(machine.title(report.machine))
    complaint = machine.complaint(report.machine["neighbours_share"])
    if complaint:
        console.print(f"[bold yellow]{complaint}[/]")
    for line in yardsticks(report.machine):
        console.print(line)
    situations = situations_of_points(report.points)
    for situation in situations:
        found = [point for point in report.points if point.situation == situation]
        _show_speed(found, f", {situation.name}" if len(situations) > 1 else "", console)
    by_situation = summarise_situations(report.points)
    if by_situation and len(situations) > 1:
        console.print(situations_table(by_situation))
    with_memory = [point for point in report.points if point.peak_mib]
    if with_memory:
        console.print(memory_table(with_memory))
    frugality = summarise(report.points, Point.memory_ratios)
    if frugality:
        title = f"How many times as much memory as {SUBJECT} others take"
        console.print(summary_table(title, frugality))
    for outcome in report.language_models:
        console.print(language_model_table(outcome), curves(outcome), sep="")
    for failure in failures(report.points):
        console.print(f"[bold red]FAILED[/] {escape(failure)}")


def _show_speed(points: Sequence[Point], where: str, console: Console) -> None:
    """Print the tables of one situation, whose name stands in their titles if it is not alone."""
    for phase in PHASES:
        of_phase = [point for point in points if point.phase == phase]
        if of_phase:
            console.print(points_table(phase.capitalize() + where, of_phase))
    speed = summarise(points)
    if speed:
        title = f"How many times as fast {points[0].subject} is{where}"
        console.print(summary_table(title, speed))


def yardsticks(machine: dict[str, Any]) -> list[str]:
    """Say of each precision which product is the limit that shares refer to, and the others."""
    lines = []
    for dtype, rates in machine.get("gemm_gflops", {}).items():
        best, *others = sorted(rates, key=lambda name: -rates[name])
        line = f"The limit in {dtype}: {best}, {_three_digits(rates[best])} GFLOP/s"
        beside = ", ".join(f"{name} {_three_digits(rates[name])}" for name in others)
        lines.append(f"{line} ({beside})" if beside else line)
    return lines


def new_table(title: str) -> Table:
    """Make a table that wastes no columns: a log has a hundred."""
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )


def failures(points: Iterable[Point]) -> list[str]:
    """Describe every contender that was not timed because its result was wrong."""
    return [
        f"{point.workload.name}, {point.phase}: {name}: {reason}"
        for point in points
        for name, reason in point.failures.items()
    ]


def points_table(title: str, points: Sequence[Point]) -> Table:
    """One row a workload: times, how many times as fast the subject is, its rate and share.

    Several peers leave no room for their times, which the subject's and the ratios imply.
    """
    names = list(dict.fromkeys(name for point in points for name in point.times_ms))
    subject = points[0].subject
    peers = [name for name in names if name != subject] if subject in names else []
    timed = [subject] if len(peers) > 1 else names
    measured = subject if subject in names else BASELINE
    table = new_table(title)
    table.add_column("workload", no_wrap=True)
    headings = [
        *(f"{_in_lines(name)}\nms" for name in timed),
        *(f"over\n{_in_lines(peer)}" for peer in peers),
    ]
    has_room = len(peers) <= MOST_PEERS
    if has_room:
        headings += ["us a\nstep", "GFLOP\n/s", "share\nof\ngemm"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for point in points:
        ratios = point.ratios()
        row = [
            point.workload.name,
            *(_three_digits(point.times_ms.get(name)) for name in timed),
            *(_ratio(ratios.get(peer)) for peer in peers),
        ]
        if has_room:
            row += [
                _three_digits(point.step_us().get(measured)),
                _three_digits(point.gflops().get(measured)),
                _percent(point.shares().get(measured)),
            ]
        table.add_row(*row)
    return table


def memory_table(points: Sequence[Point]) -> Table:
    """One row a workload: what a training step takes, and how many times as much peers take."""
    names = list(dict.fromkeys(name for point in points for name in point.peak_mib))
    table = new_table("Memory at the peak of a training step")
    table.add_column("workload", no_wrap=True)
    for name in names:
        table.add_column(f"{_in_lines(name)}\nMiB", justify="right")
    peers = [name for name in names if name != SUBJECT] if SUBJECT in names else []
    for peer in peers:
        table.add_column(f"{_in_lines(peer)}\nover {SUBJECT}", justify="right")
    for point in points:
        ratios = point.memory_ratios()
        table.add_row(
            point.workload.name,
            *(_three_digits(point.peak_mib.get(name)) for name in names),
            *(_ratio(ratios.get(peer)) for peer in peers),
        )
    return table


def summary_table(title: str, summaries: Sequence[Summary]) -> Table:
    table = new_table(title)
    for name in ("cell", "phase", "over"):
        table.add_column(name)
    for name in ("points", "geometric mean", "worst"):
        table.add_column(name, justify="right")
    table.add_column("at", no_wrap=True)
    for row in summaries:
        table.add_row(
            row.cell,
            row.phase,
            row.over,
            str(row.points),
            _ratio(row.geomean),
            _ratio(row.worst),
            row.worst_workload.shape,
        )
    return table


def situations_table(summaries: Sequence[SituationSummary]) -> Table:
    """One row a situation and peer, over both phases and all cells."""
    table = new_table(f"How many times as fast {SUBJECT} is, by situation")
    for name in ("situation", "over"):
        table.add_column(name)
    for name in ("points", "geometric\nmean", "worst"):
        table.add_column(name, justify="right")
    table.add_column("at", no_wrap=True)
    for row in summaries:
        table.add_row(
            row.situation.name,
            row.over,
            str(row.points),
            _ratio(row.geomean),
            _ratio(row.worst),
            f"{row.worst_point.workload.name}, {row.worst_point.phase}",
        )
    return table


def language_model_table(outcome: Outcome) -> Table:
    """One row a model: the end of its curve, what it learned, and what a step took."""
    size = outcome.size
    table = new_table(
        f"Character language model, two layers of {size.hidden} units, {outcome.cell}"
    )
    table.add_column("layers from")
    for name in (f"loss after {size.steps} steps", "held-out bits/char", "ms a step"):
        table.add_column(name, justify="right")
    for name, ms in outcome.step_ms().items():
        loss, bits = outcome.losses[name][-1], outcome.bits[name]
        table.add_row(name, f"{loss:.6f}", f"{bits:.6f}", _three_digits(ms))
    return table


def curves(outcome: Outcome) -> str:
    """Say whether the losses agree, how nearly, and how the times compare."""
    if len(outcome.losses) < 2:
        return f"{SUBJECT} is not installed: there is no curve to compare."
    verdict = "agree" if outcome.agrees() else "[bold red]DISAGREE[/]"
    early, whole = outcome.largest_difference(EARLY_STEPS), outcome.largest_difference()
    line = (
        f"The loss curves {verdict}. Largest difference, relative: {early:.1e} in the first "
        f"{EARLY_STEPS} steps ({EARLY_TOLERANCE:.0e} allowed), {whole:.1e} in all "
        f"({TOLERANCE:.0e} allowed)."
    )
    if {SUBJECT, BASELINE} <= outcome.losses.keys():
        line += f" {SUBJECT} trains {outcome.ratio(BASELINE, SUBJECT):.2f}x as fast."
    return line


def _in_lines(name: str) -> str:
    """Break a long name, to keep its column narrow."""
    return name.replace("_", "\n")


def _three_digits(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"[{'green' if ratio >= 1 else 'red'}]{_three_digits(ratio)}x[/]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"
