"""`pytest` alone uses every core, and a part of the suite none but its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import processes
import pytest

Source = pytest.Config.ArgsSource


def chosen(source: Any = Source.TESTPATHS, **given: Any) -> Any:
    options = {"numprocesses": None, "dist": "no", "keyword": "", "usepdb": False} | given
    config: Any = SimpleNamespace(option=SimpleNamespace(**options), args_source=source)
    processes.choose(config)
    return config.option.numprocesses


def test_the_whole_suite_takes_a_process_for_each_core() -> None:
    assert chosen() == "auto"


@pytest.mark.parametrize("given", [{"numprocesses": 0}, {"numprocesses": 3}, {"numprocesses": "2"}])
def test_whoever_names_a_number_has_it(given: dict[str, Any]) -> None:
    assert chosen(**given) == given["numprocesses"]


@pytest.mark.parametrize("given", [{"keyword": "packed"}, {"usepdb": True}, {"dist": "each"}])
def test_parts_and_debuggers_have_one_process(given: dict[str, Any]) -> None:
    assert chosen(**given) is None
    assert chosen(Source.ARGS) is None


def test_without_xdist_nothing_is_asked_for() -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(), args_source=Source.TESTPATHS)
    processes.choose(config)
    assert config.option == SimpleNamespace()
