"""The judge himself: a wrong reference is noticed by every test that compares with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
COMPARES = re.compile(r"\bOnReference\b|\breference\.(rnn|\w+_step)\(")
WITHOUT_COMPARING = {
    "test_reference_can_be_differentiated_twice",
    "test_given_masks_take_the_place_of_drawn_ones",
}
"""They ask the reference about itself, and 1.5 of it is as consistent as 1."""


def test_every_test_that_compares_with_the_reference_fails_if_that_is_wrong(tmp_path: Path) -> None:
    files = [
        file
        for folder in (TESTS, TESTS / "torch")
        for file in sorted(folder.glob("test_*.py"))
        if COMPARES.search(file.read_text())
    ]
    report = tmp_path / "report"
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    plugins = ["-p", "broken_reference", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--tb=no", "-q", *map(str, files)],
        env={**os.environ, "REPORT": str(report), "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    outcomes = [line.split(" ", 1) for line in report.read_text().splitlines()]
    passed = {re.split(r"::|\[", test)[1] for outcome, test in outcomes if outcome == "passed"}
    assert passed == WITHOUT_COMPARING
    asking = {test.split("::")[0] for _, test in outcomes}
    assert asking == {str(file.relative_to(ROOT)) for file in files}
