"""The CUDA extension compiled for the CPU: its own sources, with the launches of `emulation/`.

What differs from the extension is how a block runs, and the arithmetic of the tensor cores, which
follows the PTX manual. Built by the host's compiler when first asked for, kept until a source
changes. pybind11 is needed, as for the extension itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CUDA = CSRC / "cuda"
EMULATION = Path(__file__).parent / "emulation"
NAME = "_cuda_emulated"
FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-fsanitize=alignment,bounds,shift,signed-integer-overflow",
    "-fno-sanitize-recover=all",
    f"-DFASTRNN_CUDA_MODULE={NAME}",
    '-DFASTRNN_CUDA_ARCHITECTURES="none"',
    '-DFASTRNN_CUDA_COMPILER="none"',
)


def compiler() -> str:
    return os.environ.get("CXX", "c++")


def missing() -> str | None:
    """Why it cannot be built here; None when it can."""
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed"
    try:
        subprocess.run([compiler(), "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return None


def load() -> ModuleType:
    """The module, built if it is not there yet."""
    built = _folder() / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    built.parent.mkdir(parents=True, exist_ok=True)
    with (built.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of several test processes builds it
        if not built.exists():
            _build(built)
    spec = importlib.util.spec_from_file_location(NAME, built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _folder() -> Path:
    """A place that is another one for other sources, flags and interpreters."""
    digest = hashlib.sha256(repr((FLAGS, compiler(), sys.version)).encode())
    for path in sorted((*CSRC.rglob("*.*"), *EMULATION.rglob("*.h"))):
        digest.update(path.read_bytes())
    return ROOT / "build" / "emulation" / digest.hexdigest()[:16]


def _build(built: Path) -> None:
    import pybind11

    includes = (EMULATION, CSRC, pybind11.get_include(), sysconfig.get_paths()["include"])
    sources = [*sorted(CUDA.glob("precisions/*.cu")), *sorted(CUDA.glob("*.cpp"))]
    with TemporaryDirectory() as scratch:
        objects = [Path(scratch) / f"{source.stem}.o" for source in sources]

        def compile_one(source: Path, target: Path) -> None:
            where = [f"-I{folder}" for folder in includes]
            _run([compiler(), *FLAGS, *where, "-x", "c++", "-c", str(source), "-o", str(target)])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, sources, objects))
        _run([compiler(), *FLAGS, "-shared", *map(str, objects), "-o", str(built)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
