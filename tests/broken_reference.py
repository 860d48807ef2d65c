"""A plugin for pytest: where a test asks for the reference's outputs, they are 1.5 times too large.

Of each test function that may ask the first case is run, since all cases of one end in the same
comparison. Every test that asked is named in the file that `REPORT` in the environment names, one
to a line, with "failed" or "passed" before it. `test_judge.py` looks there.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401 - before the engine, so that both share one pool of threads
from torch import Tensor

from fastrnn import reference

TESTS = str(Path(__file__).parent)
WHAT_TESTS_ASK_FOR = ("rnn", "lstm_step", "gru_step", "rnn_step")

ASKS = (
    r"\bOnReference\b|\bassert_derivatives_of_the_equations\b"
    rf"|\breference\.({'|'.join(WHAT_TESTS_ASK_FOR)})\("
)

asked: set[str] = set()
running = ""


def functions_that_ask(file: Path) -> set[str]:
    """The functions of a file that ask for the reference, or name one that does."""
    text = file.read_text()
    parts = [part for part in ast.parse(text).body if isinstance(part, ast.FunctionDef)]
    sources = {part.name: ast.get_source_segment(text, part) or "" for part in parts}
    found: set[str] = set()
    while True:
        pattern = "|".join([ASKS, *(rf"\b{name}\b" for name in found)])
        more = {name for name, source in sources.items() if re.search(pattern, source)}
        if more == found:
            return found
        found = more


def _too_large(value: Any) -> Any:
    if isinstance(value, Tensor):
        return 1.5 * value
    return tuple(map(_too_large, value)) if isinstance(value, tuple) else value


def _broken(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        computed = function(*arguments, **keywords)
        if not sys._getframe(1).f_code.co_filename.startswith(TESTS):
            return computed  # the library's own derivatives
        asked.add(running)
        return _too_large(computed)

    return call


def pytest_configure() -> None:
    from hypothesis import Phase, settings

    for name in WHAT_TESTS_ASK_FOR:
        setattr(reference, name, _broken(getattr(reference, name)))
    of_suite = settings.get_profile("fastrnn")
    settings.register_profile(
        "broken",
        of_suite,
        phases=[Phase.generate],
        max_examples=5,
        derandomize=True,
        database=None,
    )
    settings.load_profile("broken")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    asking = {path: functions_that_ask(path) for path in {item.path for item in items}}
    first: dict[str, pytest.Item] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name.rpartition("::")[2] in asking[item.path]:
            first.setdefault(name, item)
    items[:] = first.values()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    global running
    running = item.nodeid
    outcome = "failed"
    try:
        yield
        outcome = "passed"
    finally:
        running = ""
        if item.nodeid in asked:
            with open(os.environ["REPORT"], "a") as report:
                report.write(f"{outcome} {item.nodeid}\n")
