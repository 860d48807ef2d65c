"""A wheel for Linux from glibc 2.28 on, looked through: ``python release/wheel.py FOLDER``.

It needs the extra ``wheels`` and no network. What this tree's build folder has compiled already is
only linked anew; with ``--sdist`` a source archive comes first, and the wheel is built out of that.
``--machine aarch64`` is by Debian's cross compiler and with this Python's headers.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import older_linux

ROOT = Path(__file__).resolve().parent.parent
CROSS_COMPILER = "aarch64-linux-gnu-gcc"


def build(folder: Path, machine: str, sdist: bool) -> None:
    """Leave a wheel in ``folder``, which is made, and with ``sdist`` a source archive.

    Raises
    ------
    subprocess.CalledProcessError
        It could not be built, or has not what it should have.
    """
    defined = {"FASTRNN_CUDA": "OFF"}  # whatever the environment or an earlier build has said
    if machine != platform.machine():
        defined |= cross(machine)
    with TemporaryDirectory() as scratch:
        built = Path(scratch) / "built"
        defined |= older_linux.settings(Path(scratch) / "linking", machine)
        settings = [f"-Ccmake.define.{name}={value}" for name, value in defined.items()]
        os.environ |= {"PIP_NO_INDEX": "1", "GIT_DIR": f"{scratch}/no-repository"}
        run("build", *([] if sdist else ["--wheel"]), "-n", "-o", built, *settings, ROOT)
        [wheel] = built.glob("*.whl")
        run_own("symbols", wheel)
        run("auditwheel", "repair", "--plat", "auto", "-w", folder, wheel)
        for archive in built.glob("*.tar.gz"):
            shutil.move(archive, folder)
    for wheel in folder.glob("*.whl"):
        run("auditwheel", "show", wheel)
    run_own("contents", *sorted(folder.iterdir()))


def cross(machine: str) -> dict[str, str]:
    """Definitions for CMake; the tools that build a wheel are told by the environment."""
    here = platform.machine()
    suffix = sysconfig.get_config_var("EXT_SUFFIX").replace(here, machine)
    os.environ |= {
        "CC": CROSS_COMPILER,
        "SETUPTOOLS_EXT_SUFFIX": suffix,
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
    }
    toolchain = ROOT / "cmake" / f"{machine}-linux.cmake"
    return {"CMAKE_TOOLCHAIN_FILE": str(toolchain), "PYTHON_MODULE_EXTENSION": suffix}


def run(module: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def run_own(name: str, *arguments: Path) -> None:
    script = Path(__file__).with_name(f"{name}.py")
    subprocess.run([sys.executable, script, *arguments], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machine", default=platform.machine(), choices=["x86_64", "aarch64"])
    parser.add_argument("--sdist", action="store_true", help="by way of a source archive")
    given = parser.parse_args()
    build(given.folder.resolve(), given.machine, given.sdist)
