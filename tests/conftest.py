"""What all tests share: the hypothesis profile, fixtures for ISAs and for numbers of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import roads
import torch  # before the engine, so that both share one pool of threads
from hypothesis import HealthCheck, settings

from fastrnn import isa

# Examples are few because every one of them runs again for each instruction set. A fixture that
# only forces an instruction set may well live across examples.
settings.register_profile(
    "fastrnn",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fastrnn")


def pytest_configure(config: pytest.Config) -> None:
    """Let torch's own layers say what they please; every other warning is an error."""
    config.addinivalue_line("filterwarnings", "ignore:LSTM with projections is not supported")


@pytest.fixture(params=isa.available())
def each_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Force one instruction set that this machine has; the test runs once for each."""
    with isa.force(request.param):
        yield request.param


@pytest.fixture(params=roads.ROADS)
def each_road(request: pytest.FixtureRequest) -> Iterator[str]:
    """Send every call of the test by one road to the engine; the test runs once for each."""
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
    torch.manual_seed(0)
