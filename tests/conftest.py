"""What all tests share: the hypothesis profile, which skips are in order, and fixtures."""

from __future__ import annotations

import gc
import os

# Threads of OpenMP that wait for work sleep. On a machine that others use too they would spin on
# cores that they then wait for: a small backward pass of torch's took fifty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# torch's compiler compiles in the process that asks: others of its own would import torch once
# more for each of pytest's, and find no processor free.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import processes
import pytest
import roads
import torch  # before the engine, so that both share one pool of threads
from cases import seed
from engine import USUAL_SIGNAL, probe
from hypothesis import HealthCheck, settings

from fastrnn import isa
from fastrnn._engine import backends, cpu

# Examples are few because every one of them runs again for each instruction set. A fixture that
# only forces an instruction set may well live across examples.
settings.register_profile(
    "fastrnn",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fastrnn")


ISAS = [isa.active()] if os.environ.get("FASTRNN_ISA") else isa.available()
"""What `each_isa` runs a test with: all of this machine, or the one that the environment names."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allowed-skips",
        metavar="FILE",
        type=Path,
        help="make every skip a failure but those that a line of FILE matches, 'path: reason' with "
        "wildcards; '#' begins a comment",
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the options
def pytest_cmdline_main(config: pytest.Config) -> None:
    processes.choose(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    return _without_strange_skips((yield), item.config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    return _without_strange_skips((yield), collector.config)


def _without_strange_skips(report: Report, config: pytest.Config) -> Report:
    """The report; a failure in place of a skip that the file of --allowed-skips does not list."""
    allowed: Path | None = config.getoption("--allowed-skips")
    if allowed is None or not report.skipped or hasattr(report, "wasxfail"):
        return report
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    skip = f"{report.nodeid.partition('::')[0]}: {reason}"
    lines = (line.partition("#")[0].strip() for line in allowed.read_text().splitlines())
    if not any(fnmatchcase(skip, line) for line in lines):
        report.outcome = "failed"
        report.longrepr = f"skipped, which {allowed} does not allow: {skip}"
    return report


def pytest_configure(config: pytest.Config) -> None:
    """Let torch's own layers say what they please; every other warning is an error."""
    config.addinivalue_line("filterwarnings", "ignore:LSTM with projections is not supported")


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what stays: modules, and thousands of tests."""
    gc.collect()
    gc.freeze()


_full_collections = 0


def pytest_runtest_logfinish() -> None:
    """And what a full collection has found in use after a test: torch's compilers and caches.

    Each of the next would look at all of it again, for half a second.
    """
    global _full_collections
    collections = gc.get_stats()[-1]["collections"]
    if collections > _full_collections:
        _full_collections = collections
        gc.freeze()


@pytest.fixture(params=ISAS)
def each_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Force one instruction set; the test runs once for each of `ISAS`."""
    with isa.force(request.param):
        yield request.param


@pytest.fixture(autouse=True, scope="session")
def _every_thread() -> None:
    """As many threads as a test asks for, on a machine that has fewer processors or is busy too,
    and the same choices however far apart they are."""
    probe().pretend_processors(64)
    probe().pretend_crowded(-1)
    probe().pretend_signal(USUAL_SIGNAL)


@pytest.fixture(autouse=True, scope="session")
def _share_of_threads() -> None:
    """Of pytest-xdist's processes each has its share of the processors, if a test asks for none."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


@pytest.fixture(params=roads.ROADS)
def each_road(request: pytest.FixtureRequest) -> Iterator[str]:
    """Send every call of the test by one road to the engine; the test runs once for each."""
    with roads.road(request.param):
        yield request.param


@pytest.fixture(params=["reference", *ISAS])
def each_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have the equations compute, or the engine with one instruction set; once for each."""
    if request.param == "reference":
        with backends.using("reference"):
            yield request.param
    else:
        with isa.force(request.param):
            yield request.param


@pytest.fixture(params=roads.LONG)
def each_long_road(request: pytest.FixtureRequest) -> Iterator[str]:
    """`each_road`, without the short one."""
    with roads.road(request.param):
        yield request.param


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Give torch its number of threads back after a test that sets others."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seed() -> None:
    seed(0)


@pytest.fixture
def float32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in bfloat16 multiply in float32, as they do on processors without bfloat16."""
    monkeypatch.setattr(cpu, "_multiplies_bfloat16", lambda isa: False)
