"""What a run found out: points, the figures derived from them, and their JSON."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.contenders import FROZEN, SUBJECT
from benchmarks.device import Device
from benchmarks.language_model import Outcome
from benchmarks.situations import Situation
from benchmarks.timing import ratio_of_rounds
from benchmarks.workloads import GRIDS, Phase, Workload

BEST_PEER = "best peer"

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Point:
    """One workload in one phase.

    Attributes
    ----------
    times_ms : contender -> median over all timed calls.
    rounds_ms : contender -> median of each round; index r of everyone was timed side by side.
    gemm_gflops : rate of a large matrix product in each round; empty where none was timed.
    errors : contender -> largest relative error against the float64 reference.
    failures : contender -> why it was not timed.
    peak_mib : contender -> memory at the peak of a training step; empty where none was measured.
    device : where everyone computed.
    situation : how many threads everyone had, and beside what.
    """

    workload: Workload
    phase: Phase
    times_ms: dict[str, float] = field(default_factory=dict)
    rounds_ms: dict[str, list[float]] = field(default_factory=dict)
    gemm_gflops: list[float] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    device: Device = "cpu"
    situation: Situation = field(default_factory=Situation)

    @property
    def subject(self) -> str:
        """Whom the others are compared with: fastrnn's layers, or frozen ones in their absence."""
        return SUBJECT if SUBJECT in self.times_ms or FROZEN not in self.times_ms else FROZEN

    def peers(self) -> list[str]:
        """Return the contenders that were timed beside the subject."""
        return [name for name in self.times_ms if name != self.subject]

    def ratios(self) -> dict[str, float]:
        """Return peer -> how many times as fast the subject is."""
        if self.subject not in self.times_ms:
            return {}
        subject = self.rounds_ms[self.subject]
        return {peer: ratio_of_rounds(self.rounds_ms[peer], subject) for peer in self.peers()}

    def memory_ratios(self) -> dict[str, float]:
        """Return peer -> how many times as much memory as the subject it takes."""
        if SUBJECT not in self.peak_mib:
            return {}
        subject = self.peak_mib[SUBJECT]
        return {peer: mib / subject for peer, mib in self.peak_mib.items() if peer != SUBJECT}

    def step_us(self) -> dict[str, float]:
        """Return contender -> microseconds for each step of the sequence."""
        return {name: 1e3 * ms / self.workload.T for name, ms in self.times_ms.items()}

    def gflops(self) -> dict[str, float]:
        """Return contender -> GFLOP/s at its median time."""
        work = self.workload.flops(self.phase) / 1e6
        return {name: work / ms for name, ms in self.times_ms.items()}

    def shares(self) -> dict[str, float]:
        """Return contender -> share of the matrix product's rate, round by round."""
        if not self.gemm_gflops:
            return {}
        work = self.workload.flops(self.phase) / 1e6
        return {
            name: statistics.median(
                work / ms / rate for ms, rate in zip(rounds, self.gemm_gflops, strict=True)
            )
            for name, rounds in self.rounds_ms.items()
        }

    def to_json(self) -> dict[str, Any]:
        workload = asdict(self.workload)
        dtype = workload.pop("dtype")
        return {
            "workload": {"name": self.workload.name, **workload},
            "phase": self.phase,
            "dtype": dtype,
            "device": self.device,
            "situation": asdict(self.situation),
            "times_ms": self.times_ms,
            "ratios": self.ratios(),
            "gflops": self.gflops(),
            "share_of_gemm": self.shares(),
            "errors": self.errors,
            "failures": self.failures,
            "rounds_ms": self.rounds_ms,
            "gemm_gflops": self.gemm_gflops,
            "peak_mib": self.peak_mib,
        }

    @staticmethod
    def from_json(point: dict[str, Any]) -> Point:
        """Rebuild a point from what was measured; derived figures are derived again."""
        sizes = {key: value for key, value in point["workload"].items() if key != "name"}
        lengths = sizes.pop("lengths")
        variant = tuple((name, value) for name, value in sizes.pop("variant", ()))
        workload = Workload(
            **sizes,
            lengths=None if lengths is None else tuple(lengths),
            dtype=point["dtype"],
            variant=variant,
        )
        measured = ("times_ms", "rounds_ms", "gemm_gflops", "errors", "failures", "peak_mib")
        found = {key: point[key] for key in measured if key in point}  # older files have fewer
        situation = Situation(**point["situation"])
        return Point(workload, point["phase"], **found, device=point["device"], situation=situation)


# The ratios of one peer, with where they were found
Row = list[tuple[float, Point]]


@dataclass(frozen=True)
class Report:
    """Everything that one run writes to JSON."""

    machine: dict[str, Any]
    commit: str
    points: list[Point] = field(default_factory=list)
    language_models: list[Outcome] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write JSON with one point a line, so that two runs can be compared as text."""
        sections = {
            "machine": json.dumps(_rounded(self.machine)),
            "commit": json.dumps(self.commit),
            "points": _lines(_rounded(point.to_json()) for point in self.points),
            "language_models": _lines(outcome.to_json() for outcome in self.language_models),
        }
        body = ",\n".join(f"{json.dumps(key)}: {text}" for key, text in sections.items())
        path.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Report:
        """Read what `save` wrote. Points of older files were all in the machine's situation."""
        content = json.loads(path.read_text(encoding="utf-8"))
        older = {"situation": {"threads": content["machine"]["threads"]}}
        return Report(
            content["machine"],
            content["commit"],
            [Point.from_json(older | point) for point in content["points"]],
            [Outcome.from_json(outcome) for outcome in content["language_models"]],
        )


def processors_of(folder: Path) -> dict[str, set[str]]:
    """List the processors of all results files of a folder.

    Returns
    -------
    dict
        The processor as the names of files have it -> what the system called it there.
    """
    grids = "|".join(sorted(GRIDS, key=len, reverse=True))
    name = re.compile(rf"(?:frozen-)?(?:{grids})-(?P<processor>.+)-[^-]+-\d+threads")
    found: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.json")):
        matched = name.fullmatch(file.stem)
        if matched is None:
            raise ValueError(f"expected GRID-PROCESSOR-ISA-Nthreads.json, got {file.name}")
        machine = json.loads(file.read_text(encoding="utf-8"))["machine"]
        found.setdefault(matched["processor"], set()).add(machine["cpu"])
    return found


def _lines(items: Iterable[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"


def _rounded(value: Any) -> Any:
    """Keep six digits of every float, which is more than any clock here knows.

    Loss curves are kept whole: their differences begin at the seventh.
    """
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


@dataclass(frozen=True)
class Summary:
    """A ratio over all points of one recurrence in one phase: its mean, and where it is worst.

    Attributes
    ----------
    over : the peer that the subject is compared with, or BEST_PEER, the best of each point.
    """

    cell: str
    phase: Phase
    over: str
    geomean: float
    worst: float
    worst_workload: Workload
    points: int


@dataclass(frozen=True)
class SituationSummary:
    """The same over all points of one situation, of whatever cell and phase."""

    situation: Situation
    over: str
    geomean: float
    worst: float
    worst_point: Point
    points: int


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def summarise(
    points: Iterable[Point], ratios: Callable[[Point], dict[str, float]] = Point.ratios
) -> list[Summary]:
    """Summarise ratios, the speed-ups unless others are asked for, over every peer.

    Where there are several, the best one of each point is summarised as well: over all points,
    while a peer's own row has those that it supports.
    """
    groups = _grouped(points, ratios, lambda point: (point.workload.recurrence, point.phase))
    return [
        Summary(*key, over, _mean(row), _worst(row)[0], _worst(row)[1].workload, len(row))
        for key, rows in groups.items()
        for over, row in rows.items()
    ]


def summarise_situations(points: Iterable[Point]) -> list[SituationSummary]:
    """Summarise the speed-ups of every situation over every peer, and the best of each point."""
    groups = _grouped(points, Point.ratios, lambda point: point.situation)
    return [
        SituationSummary(situation, over, _mean(row), *_worst(row), len(row))
        for situation, rows in groups.items()
        for over, row in rows.items()
    ]


def situations_of_points(points: Iterable[Point]) -> list[Situation]:
    """Return those that points were timed in, each once, in their order."""
    return list(dict.fromkeys(point.situation for point in points))


def _grouped(
    points: Iterable[Point],
    ratios: Callable[[Point], dict[str, float]],
    key: Callable[[Point], Key],
) -> dict[Key, dict[str, Row]]:
    groups: dict[Key, list[tuple[Point, dict[str, float]]]] = {}
    for point in points:
        found = ratios(point)
        if found:
            groups.setdefault(key(point), []).append((point, found))
    return {key: _rows(group) for key, group in groups.items()}


def _rows(group: Sequence[tuple[Point, dict[str, float]]]) -> dict[str, Row]:
    peers = list(dict.fromkeys(peer for _, found in group for peer in found))
    rows = {
        peer: [(found[peer], point) for point, found in group if peer in found] for peer in peers
    }
    if len(peers) > 1:
        rows[BEST_PEER] = [(min(found.values()), point) for point, found in group]
    return rows


def _mean(row: Row) -> float:
    return geometric_mean([ratio for ratio, _ in row])


def _worst(row: Row) -> tuple[float, Point]:
    return min(row, key=lambda pair: pair[0])
