"""The engine's unit tests in C++: batches, memory, code, barriers and tickets, without Python."""

from __future__ import annotations

import subprocess

import pytest
from compiled import CSRC, program

# C++20 where threads sleep by its atomics
FLAGS = ("-O0", "-std=gnu++20", "-D_GLIBCXX_ASSERTIONS", "-pthread")


@pytest.mark.slow
def test_units_of_the_engine_hold() -> None:
    sources = [
        *(CSRC / "engine" / "call" / f"{name}.cpp" for name in ("batch", "placing", "program")),
        *sorted((CSRC / "engine" / "team").glob("*.cpp")),
        *sorted((CSRC / "testing" / "units").glob("*.cpp")),
    ]
    units = program("engine_units", sources, FLAGS)
    done = subprocess.run([units], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
