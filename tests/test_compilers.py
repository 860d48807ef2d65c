"""A compiler that cannot build the kernels is refused in a sentence that says which one can."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).parent.parent / "cmake" / "compiler.cmake"


def asked(name: str, version: str) -> subprocess.CompletedProcess[str]:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    given = (f"-DCMAKE_CXX_COMPILER_ID={name}", f"-DCMAKE_CXX_COMPILER_VERSION={version}")
    command = [cmake, *given, "-P", CHECK]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("GNU", "9.4.0", "needs GCC 10 or later, or Clang 14 or later, got GNU 9.4.0"),
        ("Clang", "13.0.1", "needs GCC 10 or later, or Clang 14 or later, got Clang 13.0.1"),
        ("MSVC", "19.40", "Install clang-cl and say -DCMAKE_CXX_COMPILER=clang-cl"),
    ],
)
def test_a_compiler_that_is_too_old_is_named_with_those_that_are_not(
    name: str, version: str, said: str
) -> None:
    done = asked(name, version)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "version"),
    [("GNU", "10.2.1"), ("GNU", "14.2.0"), ("Clang", "14.0.6"), ("AppleClang", "13.1.6")],
)
def test_a_compiler_that_is_new_enough_is_taken(name: str, version: str) -> None:
    done = asked(name, version)
    assert done.returncode == 0, done.stderr
