"""`--allowed-skips`: a skip that nobody has listed is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
IN_A_TEST = """
import pytest
def test_one(): pytest.skip("no such machine")
@pytest.mark.skipif(True, reason="no such machine")
def test_two(): pass
@pytest.mark.xfail(strict=True)
def test_three(): assert False
"""
IN_A_MODULE = """
import pytest
pytest.importorskip("no_such_package")
def test_one(): pass
"""
SKIPS = """
# skips that are in order
test_listed*.py: no such machine  # wherever it stands
test_listed*.py: could not import 'no_such_package'*
"""


@pytest.mark.slow
def test_a_skip_that_is_not_listed_is_a_failure(tmp_path: Path) -> None:
    for name in ("listed", "other"):
        (tmp_path / f"test_{name}.py").write_text(IN_A_TEST)
        (tmp_path / f"test_{name}_module.py").write_text(IN_A_MODULE)
    (tmp_path / "skips").write_text(SKIPS)
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-p", "conftest", "--allowed-skips", "skips", "--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rfE", *options, "."],
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR "))]
    named = [line.split()[1] for line in failures]
    expected = ["test_other.py::test_one", "test_other.py::test_two", "test_other_module.py"]
    assert sorted(named) == expected, done.stdout + done.stderr
    assert "1 failed, 3 skipped, 2 xfailed, 2 errors" in done.stdout
