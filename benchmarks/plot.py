"""The picture of a run: how many times as fast, workload by workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import machine
from benchmarks.contenders import BASELINE, SUBJECT
from benchmarks.results import Point, Report, situations_of_points, summarise
from benchmarks.situations import Situation
from benchmarks.workloads import CELLS, PHASES, Phase

# Okabe and Ito's palette: told apart by every kind of colour vision, and in grey.
COLOURS: dict[Phase, str] = {"inference": "#0072B2", "training": "#E69F00"}
FORMATS = {
    "bf16": "#0072B2",
    "int8": "#009E73",
    "amp": "#56B4E9",
    "torch_amp": "#E69F00",
    "torch_int8": "#D55E00",
    "onnx_int8": "#CC79A7",
}
"""Of the grid that compares formats: who is drawn over frozen layers of float32."""
OF_FORMATS = "frozen"
INK, GREY = "#222222", "#8a8a8a"
BAR, ROW_INCHES = 0.38, 0.42

Row = tuple[str, Situation]  # a shape, and what it was timed in


def save_plot(report: Report, path: Path) -> None:
    """Draw the subject's speed-up over the baseline, a panel for each cell.

    Of a grid that compares formats, that of each format over frozen layers of float32 instead.

    Raises
    ------
    ValueError
        No point of the report has a time of both.
    """
    if any(point.workload.formats for point in report.points):
        return _save_formats(report, path)
    points = [point for point in report.points if BASELINE in point.ratios()]
    if not points:
        raise ValueError(f"expected points with times of {SUBJECT} and {BASELINE}, found none")
    cells = list(dict.fromkeys(point.workload.recurrence for point in points))
    rows = list(dict.fromkeys((point.workload.shape, point.situation) for point in points))
    figure, panels = _figure_of(len(cells), ROW_INCHES * len(rows))
    for panel, cell in zip(panels, cells, strict=True):
        _draw_panel(panel, rows, [point for point in points if point.workload.recurrence == cell])
        panel.set_title(_panel_title(cell, points), fontsize=10, color=INK)
    several = len(situations_of_points(points)) > 1
    labels = [f"{shape}\n{situation.name}" if several else shape for shape, situation in rows]
    _explain(figure, labels, {phase: COLOURS[phase] for phase in PHASES})
    figure.suptitle(
        f"{SUBJECT} over torch.nn on {machine.title(report.machine)}", fontsize=11, color=INK
    )
    figure.savefig(path, dpi=160)


def _figure_of(cells: int, inches: float) -> tuple[Figure, Sequence[Axes]]:
    """Make a panel for each cell; `inches` are those of the rows."""
    figure = Figure(figsize=(1.6 + 4.4 * cells, 1.9 + inches), layout="constrained")
    (panels,) = figure.subplots(1, cells, squeeze=False, sharex=True, sharey=True)
    return figure, panels


def _explain(figure: Figure, labels: Sequence[str], colours: Mapping[str, str]) -> None:
    """Name the rows and the colours."""
    first = figure.axes[0]
    first.set_yticks(range(len(labels)), labels, fontsize=8)
    first.invert_yaxis()  # one axis, shared: the first workload stands on top
    keys = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)


def _save_formats(report: Report, path: Path) -> None:
    points = [
        point
        for point in report.points
        if point.phase == "inference" and OF_FORMATS in point.times_ms
    ]
    if not points:
        raise ValueError(f"expected points of inference with a time of {OF_FORMATS}, found none")
    cells = list(dict.fromkeys(point.workload.cell for point in points))
    rows = list(dict.fromkeys(point.workload.shape for point in points))
    drawn = [name for name in FORMATS if any(name in point.times_ms for point in points)]
    bar = 0.8 / len(drawn)  # a row's bars take four fifths of its line
    figure, panels = _figure_of(len(cells), 2.2 * ROW_INCHES * len(rows))
    for panel, cell in zip(panels, cells, strict=True):
        own = [point for point in points if point.workload.cell == cell]
        for number, name in enumerate(drawn):
            offset = (number + 0.5) * bar - 0.4
            ratios = {
                rows.index(point.workload.shape) + offset: point.times_ms[OF_FORMATS]
                / point.times_ms[name]
                for point in own
                if name in point.times_ms
            }
            _draw_bars(panel, ratios, bar, FORMATS[name])
        _style_speed_axis(panel, "frozen float32")
        panel.set_title(cell.upper(), fontsize=10, color=INK)
    _explain(figure, rows, {name: FORMATS[name] for name in drawn})
    figure.suptitle(f"Formats of weights on {machine.title(report.machine)}", fontsize=11)
    figure.savefig(path, dpi=110)


def _draw_bars(axes: Axes, ratios: Mapping[float, float], height: float, colour: str) -> None:
    """Draw a bar at each place, from the line of equal speed to the right or the left."""
    lengths = [ratio - 1 for ratio in ratios.values()]
    axes.barh(list(ratios), lengths, height, left=1, color=colour)
    for place, ratio in ratios.items():
        _label_bar(axes, place, ratio)


def _panel_title(cell: str, points: Sequence[Point]) -> str:
    means = [
        f"{summary.phase} {summary.geomean:.2f}x"
        for summary in summarise(points)
        if (summary.cell, summary.over) == (cell, BASELINE)
    ]
    return f"{cell.upper() if cell in CELLS else cell}, geometric mean: {', '.join(means)}"


def _draw_panel(axes: Axes, rows: Sequence[Row], points: Sequence[Point]) -> None:
    """Draw a group of bars a row."""
    for offset, phase in zip((-BAR / 2, BAR / 2), PHASES, strict=True):
        ratios = {
            rows.index((point.workload.shape, point.situation)) + offset: point.ratios()[BASELINE]
            for point in points
            if point.phase == phase
        }
        _draw_bars(axes, ratios, BAR, COLOURS[phase])
    _style_speed_axis(axes)


def _label_bar(axes: Axes, place: float, ratio: float) -> None:
    faster = ratio >= 1
    axes.annotate(
        f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x",
        (ratio, place),
        xytext=(3 if faster else -3, 0),
        textcoords="offset points",
        ha="left" if faster else "right",
        va="center",
        fontsize=7,
        color=INK,
    )


def _style_speed_axis(axes: Axes, over: str = "torch.nn") -> None:
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=1)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.02)
    axes.grid(axis="x", color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=8)
    axes.set_xlabel(f"times as fast as {over} (log scale)", fontsize=8, color=INK)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
