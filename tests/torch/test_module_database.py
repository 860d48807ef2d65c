"""The samples that torch tests its own recurrent layers with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CELLS, LAYERS


@pytest.fixture(scope="module")
def report() -> dict[str, tuple[int, int, list[str]]]:
    """For each layer the numbers of inputs and of mistakes, and what went wrong."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(here / "module_database.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, int, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_what_torch_tests_its_layer_with_passes_here(report, kind):
    inputs, mistakes, wrong = report[kind]
    assert inputs > 0
    assert mistakes > 0
    assert not wrong
