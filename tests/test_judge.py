"""The judge himself: a wrong reference is noticed by every test that compares with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from broken_reference import functions_that_ask

TESTS = Path(__file__).parent
ROOT = TESTS.parent
WITHOUT_COMPARING = {
    "test_reference_can_be_differentiated_twice",
    "test_given_masks_take_the_place_of_drawn_ones",
}
"""They ask the reference about itself, and 1.5 of it is as consistent as 1."""


@pytest.mark.slow
def test_every_test_that_compares_with_the_reference_fails_if_that_is_wrong(tmp_path: Path) -> None:
    files = [file for folder in (TESTS, TESTS / "torch") for file in folder.glob("test_*.py")]
    asking = {
        f"{file.relative_to(ROOT)}::{name}"
        for file in files
        for name in functions_that_ask(file)
        if name.startswith("test_")
    }
    report = tmp_path / "report"
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    plugins = ["-p", "broken_reference", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--tb=no", "-q", *sorted(asking)],
        env={**os.environ, "REPORT": str(report), "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    outcomes = dict(line.split(" ", 1)[::-1] for line in report.read_text().splitlines())
    assert {test.partition("[")[0] for test in outcomes} == asking
    passed = {test for test, outcome in outcomes.items() if outcome == "passed"}
    assert {re.split(r"::|\[", test)[1] for test in passed} == WITHOUT_COMPARING
