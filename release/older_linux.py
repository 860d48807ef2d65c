"""How to link an extension on this machine that runs on older Linux, as far back as glibc 2.28.

Official builds need nothing of this: they happen in the container images of manylinux. Here the
linker is given the symbols of the old glibc, which zig carries, and the C++ library's own archive.
wheel.py asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

GLIBC = "2.28"
LIBRARIES = ("libm.so.6", "libpthread.so.0", "libdl.so.2", "libld.so.2", "libc.so.6")


def settings(folder: Path, machine: str) -> dict[str, str]:
    """Definitions for CMake; ``folder`` is where what they name is put.

    ``CC`` in the environment names a C compiler for ``machine``.

    Raises
    ------
    RuntimeError
        This is no Linux, or the extension is not for x86-64 or aarch64.
    """
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        raise RuntimeError(f"expected Linux, x86_64 or aarch64, got {sys.platform}, {machine}")
    folder.mkdir(parents=True, exist_ok=True)
    stubs = make_stubs(folder, machine)
    shim = folder / "glibc.o"
    source = Path(__file__).with_name("glibc.c")
    run(
        [os.environ.get("CC", "cc"), "-O2", "-fPIC", "-fvisibility=hidden", "-c"],
        source,
        "-o",
        shim,
    )
    libraries = [
        shim,
        "-l:libstdc++.a",
        *(stubs / name for name in LIBRARIES[:-1]),
        "-lgcc_s",
        stubs / LIBRARIES[-1],
        "-l:libc_nonshared.a",
        "-lgcc",
    ]
    return {
        "CMAKE_MODULE_LINKER_FLAGS": "-nodefaultlibs -Wl,--exclude-libs,ALL",
        "CMAKE_CXX_STANDARD_LIBRARIES": " ".join(map(str, libraries)),
    }


def make_stubs(folder: Path, machine: str) -> Path:
    """The folder of the shared libraries' symbols, which zig writes when it links anything."""
    empty, cache = folder / "empty.c", folder / "zig"
    empty.write_text("")
    target = f"{machine}-linux-gnu.{GLIBC}"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-fPIC"]
    run(zig, empty, "-o", folder / "empty.so", ZIG_GLOBAL_CACHE_DIR=str(cache))
    [libc] = cache.glob("o/*/libc.so.6")
    return libc.parent


def run(command: list[str], *arguments: str | Path, **environment: str) -> None:
    subprocess.run([*command, *map(str, arguments)], env=os.environ | environment, check=True)
