"""C++ sources that the host's compiler builds for the tests when they are first asked for.

What is built stays under `build/` until a source changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"


def compiler() -> str:
    return os.environ.get("CXX", "c++")


def extension(
    name: str,
    sources: Iterable[Path],
    flags: Sequence[str],
    folders: Sequence[Path] = (),
    joined: Sequence[Path] = (),
) -> ModuleType:
    """A module for Python; sources may include what is in ``folders``. pybind11 is needed.

    Sources that are ``joined`` are compiled as one: its headers take longer than what they are for.
    """
    import pybind11

    python = [pybind11.get_include(), sysconfig.get_paths()["include"]]
    includes = [f"-I{folder}" for folder in python]
    built = _built(
        f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}",
        sources,
        [*flags, "-fPIC", "-fvisibility=hidden", *includes],
        ["-shared", *(["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else [])],
        folders,
        joined,
    )
    spec = importlib.util.spec_from_file_location(name, built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__file__ == str(built), f"{name} is in this process already, from other sources"
    return module


def program(name: str, sources: Iterable[Path], flags: Sequence[str]) -> Path:
    return _built(name, sources, flags, [], ())


def _built(
    name: str,
    sources: Iterable[Path],
    flags: Sequence[str],
    link_flags: Sequence[str],
    folders: Sequence[Path],
    joined: Sequence[Path] = (),
) -> Path:
    """The path of what the sources make, in a folder that is another one for other sources."""
    flags = [compiler(), "-std=c++17", *flags, *(f"-I{folder}" for folder in (*folders, CSRC))]
    digest = hashlib.sha256(repr((flags, sys.version)).encode())
    for folder in (CSRC, *folders):
        for path in sorted(folder.rglob("*.*")):
            digest.update(path.read_bytes())
    built = ROOT / "build" / "tests" / digest.hexdigest()[:16] / name
    built.parent.mkdir(parents=True, exist_ok=True)
    with (built.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of several test processes builds it
        if not built.exists():
            _build(built, list(sources), joined, flags, link_flags)
    return built


def _build(
    built: Path,
    sources: list[Path],
    joined: Sequence[Path],
    flags: Sequence[str],
    link_flags: Sequence[str],
) -> None:
    with TemporaryDirectory() as scratch:
        if joined:
            whole = Path(scratch) / "joined.cpp"
            whole.write_text("".join(f'#include "{source}"\n' for source in joined))
            sources = [whole, *sources]
        objects = [str(Path(scratch) / f"{i}.o") for i in range(len(sources))]

        def compile_one(source: Path, target: str) -> None:
            _run([*flags, "-x", "c++", "-c", str(source), "-o", target])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, sources, objects))
        _run([*flags, *link_flags, *objects, "-o", str(built)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
