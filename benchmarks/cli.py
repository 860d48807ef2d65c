"""The command line: choose workloads and contenders, run, report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import device, language_model, machine, memory, report, self_check
from benchmarks.contenders import BASELINE, CONTENDERS, FROZEN, SUBJECT, Contender
from benchmarks.contenders.torch_nn import TorchLayers
from benchmarks.device import DEVICES
from benchmarks.language_model import Outcome
from benchmarks.results import Point, Report
from benchmarks.runner import Runner
from benchmarks.situations import Situation, situations_of
from benchmarks.timing import FULL, QUICK, steady_process
from benchmarks.workloads import CELLS, GRIDS, PHASES, Phase, Workload
from benchmarks.yardstick import chosen_yardsticks

Step = Callable[[str, int], None]


def main(
    arguments: Sequence[str] | None = None, contenders: Sequence[Contender] = CONTENDERS
) -> int:
    """Run the suite; return 1 if a result was wrong or a bound was broken, else 0."""
    options = _parser(contenders).parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110  # a log has no width; rich would fold tables at 80
    if options.list:
        _list(contenders, console)
        return 0
    if options.replay:
        finished = _earlier(options.replay)
    else:
        _check_device(options)
        if options.threads:
            torch.set_num_threads(options.threads)
        steady_process()
        if options.self_check:
            first = _chosen_situations(options)[:1]
            return _run_self_check(_chosen_points(options), first, console)
        finished = _run(options, _chosen_contenders(contenders, options, console), console)
    return _deliver(finished, options, console)


def _check_device(options: argparse.Namespace) -> None:
    reason = device.missing(options.device)
    if options.device != "cpu" and options.memory:
        reason = "memory is measured on the CPU alone"
    if reason:
        raise SystemExit(f"--device {options.device}: {reason}")


def _parser(contenders: Sequence[Contender]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time fastrnn beside its peers, after checking everyone's results.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a small grid with little effort: two minutes at most")
    add("--grid", choices=sorted(GRIDS), help="default: peers, on a GPU cudnn, with --quick quick")
    add("--cell", nargs="+", choices=CELLS, default=CELLS, help="default: all")
    add("--phase", nargs="+", choices=PHASES, default=PHASES, help="default: both")
    add(
        "--contender",
        nargs="+",
        choices=[contender.name for contender in contenders],
        help=f"default: all that are installed, with --quick: {SUBJECT} and {BASELINE}",
    )
    add("--workload", default="", metavar="TEXT", help="only workloads whose name contains this")
    add("--device", choices=DEVICES, default="cpu", help="default: cpu")
    add(
        "--threads",
        type=_positive,
        metavar="N",
        help="more than there are processors, too; default: torch's own choice",
    )
    add("--busy", type=_count, metavar="N", help="spin N processes beside everything that is timed")
    add("--memory", action="store_true", help="measure the memory of training steps as well")
    add("--no-language-model", action="store_true", help="skip the end-to-end run")
    add("--json", type=_new_file, metavar="F", help="write the results")
    add("--plot", type=_new_picture, metavar="F.png", help="draw the speed-ups over torch")
    add("--replay", type=Path, metavar="F", help="show (and plot) earlier results, run nothing")
    add("--self-check", action="store_true", help="time torch against torch, which must be 1x")
    add("--list", action="store_true", help="show grids and contenders, run nothing")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _new_file(text: str) -> Path:
    """Refuse a file that cannot be written before the run, not after it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a file that can be written, got {text}")
    return path


def _new_picture(text: str) -> Path:
    """Refuse a format that cannot be drawn as well."""
    from matplotlib.figure import Figure  # costs half a second to import

    path, known = _new_file(text), Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)}, got {text}")
    return path


def _earlier(path: Path) -> Report:
    try:
        return Report.load(path)
    except (OSError, LookupError, TypeError, ValueError) as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise SystemExit(f"--replay {path}: expected what --json wrote, got {reason}") from problem


def _list(contenders: Sequence[Contender], console: Console) -> None:
    for name, workloads in GRIDS.items():
        console.print(f"[bold]{name}[/]", *(f"  {w.name}" for w in workloads), sep="\n")
        situations = situations_of(name, None, None)
        if len(situations) > 1:
            console.print(f"  each with {', '.join(situation.name for situation in situations)}")
    console.print("[bold]contenders[/]")
    for contender in contenders:
        reason = contender.missing()
        state = f"skipped, {escape(reason)}" if reason else "installed"
        console.print(f"  {contender.name}: {state}")


def _chosen_grid(options: argparse.Namespace) -> str:
    default = "cudnn" if options.device == "cuda" else "peers"
    grid: str = options.grid or ("quick" if options.quick else default)
    return grid


def _chosen_situations(options: argparse.Namespace) -> tuple[Situation, ...]:
    return situations_of(_chosen_grid(options), options.busy, options.threads)


def _chosen_points(options: argparse.Namespace) -> list[tuple[Workload, Phase]]:
    points = [
        (workload, phase)
        for workload in GRIDS[_chosen_grid(options)]
        if workload.cell in options.cell and options.workload in workload.name
        for phase in PHASES
        if phase in options.phase
    ]
    if not points:
        raise SystemExit("no workload of the grid has that cell and name; see --list")
    return points


def _chosen_contenders(
    contenders: Sequence[Contender], options: argparse.Namespace, console: Console
) -> list[Contender]:
    """Drop the contenders that nobody asked for, and with a line those that cannot take part.

    Raises
    ------
    SystemExit
        None is left.
    """
    quick = (SUBJECT, BASELINE) if options.quick else None
    usual = [contender.name for contender in contenders if contender.name != FROZEN]
    if any(workload.formats for workload in GRIDS[_chosen_grid(options)]):
        usual.append(FROZEN)
    names = options.contender or quick or usual
    installed = []
    for contender in contenders:
        here = device.runs_on(contender, options.device)
        if contender.name not in (names if here else options.contender or ()):
            continue
        reason = contender.missing() if here else f"it does not compute on {options.device}"
        if reason:
            console.print(f"[yellow]{contender.name} is skipped:[/] {escape(reason)}")
        else:
            installed.append(contender)
    if not installed:
        raise SystemExit("no contender is left; see --list")
    return installed


def _run(options: argparse.Namespace, contenders: Sequence[Contender], console: Console) -> Report:
    points, situations = _chosen_points(options), _chosen_situations(options)
    commit, neighbours = machine.commit(), machine.Neighbours()
    effort = QUICK if options.quick else FULL
    dtypes = (workload.dtype for workload, _ in points)
    with chosen_yardsticks(dtypes, options.device) as yardsticks:
        runner = Runner(contenders, effort, yardsticks, options.device)
        measured = _run_points(runner, points, situations, console)
    with situations[0].entered():
        language_models = _run_language_models(options, console)
    during = {
        "situations": [asdict(situation) for situation in situations],
        "gemm_gflops": {dtype: found.probed_gflops for dtype, found in yardsticks.items()},
        "yardstick": {dtype: found.name for dtype, found in yardsticks.items()},
        "neighbours_share": neighbours.share(),
    }
    if options.memory:  # in processes that the measurement above would count as neighbours
        measured = _measure_memory(measured, contenders, console)
    described = machine.describe() | device.describe(options.device) | during
    return Report(described, commit, measured, language_models)


def _run_points(
    runner: Runner,
    points: Sequence[tuple[Workload, Phase]],
    situations: Sequence[Situation],
    console: Console,
) -> list[Point]:
    found = []
    with _progress(len(points) * len(situations), console) as step:
        for situation in situations:
            with situation.entered():
                for workload, phase in points:
                    step(f"{workload.name}, {phase}, {situation.name}", 0)
                    point = runner.run(workload, phase)
                    found.append(replace(point, situation=situation))
                    step("", 1)
    return found


def _measure_memory(
    points: list[Point], contenders: Sequence[Contender], console: Console
) -> list[Point]:
    reason = memory.missing()
    if reason:
        console.print(f"[yellow]Memory is not measured:[/] {escape(reason)}")
        return points
    found, first = [], points[0].situation
    with _progress(len(points), console) as step:
        for point in points:
            step(f"memory, {point.workload.name}", 0)
            asked = contenders if point.situation == first else ()  # neighbours take none of it
            found.append(memory.with_peaks(point, asked))
            step("", 1)
    return found


def _run_language_models(options: argparse.Namespace, console: Console) -> list[Outcome]:
    cells = [cell for cell in options.cell if cell in language_model.CELLS]
    wanted = options.device == "cpu" and not options.no_language_model
    if not wanted or "training" not in options.phase or not cells:
        return []
    size = language_model.QUICK if options.quick else language_model.FULL
    conversions = language_model.conversions()
    with _progress(len(cells) * len(conversions) * size.blocks, console) as step:
        return [
            language_model.compare(cell, size, conversions, lambda: step("language model", 1))
            for cell in cells
        ]


def _run_self_check(
    points: Sequence[tuple[Workload, Phase]], situations: Sequence[Situation], console: Console
) -> int:
    runner = Runner([TorchLayers(name, "torch.nn") for name in self_check.NAMES], FULL)
    neighbours = machine.Neighbours()
    found = _run_points(runner, points, situations, console)
    self_check.show(found, machine.complaint(neighbours.share()), console)
    return 0 if self_check.within_bounds(self_check.spread(found)) else 1


def _deliver(finished: Report, options: argparse.Namespace, console: Console) -> int:
    report.show(finished, console)
    if options.json:
        finished.save(options.json)
        console.print(f"Wrote {options.json}")
    if options.plot:
        from benchmarks.plot import save_plot  # costs a second to import

        try:
            save_plot(finished, options.plot)
        except ValueError as problem:
            raise SystemExit(f"--plot {options.plot}: {problem}") from problem
        console.print(f"Wrote {options.plot}")
    right = all(outcome.agrees() for outcome in finished.language_models)
    return 0 if right and not report.failures(finished.points) else 1


@contextmanager
def _progress(total: int, console: Console) -> Iterator[Step]:
    """Show a bar, drawn only when a step is reported: a label, and how far it moves.

    A thread that redraws it ten times a second would take its time from one of the contenders.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda label, done: progress.update(
            task, description=label, advance=done, refresh=True
        )
