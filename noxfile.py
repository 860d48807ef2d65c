"""Work in environments of its own: tests with other versions of torch and with clients, wheels.

``nox`` runs the suite with every version, ``nox -s "tests(torch='2.6.0')"`` with one of them,
``nox -s clients`` packages that build on torch; ``nox -s wheels`` builds a wheel and has it tried,
``nox -s wheel_aarch64`` one for another processor; ``nox -s compilers`` tries those that are
installed. ``pip install nox`` brings it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox

VERSIONS = ("2.6.0", "2.13.0", "2.15.0")
"""The oldest torch that pyproject.toml admits, the one that figures are from, and the newest."""
MEASURED = VERSIONS[1]
EXTRAS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]

COMPILERS = (
    *(f"g++-{version}" for version in range(10, 15)),
    *(f"clang++-{version}" for version in range(14, 20)),
    *(f"clang++-{version} -stdlib=libc++" for version in (14, 16, 19)),
)

WHEELHOUSE = Path(__file__).parent / "wheelhouse"
TRIED = ("import", "info", "modules", "packed", "fork", "threads", "shared_threads")
"""The tests that a wheel has to pass: whatever depends on how it was linked."""

nox.options.sessions = ["tests"]


@nox.session
@nox.parametrize("torch", VERSIONS)
def tests(session: nox.Session, torch: str) -> None:
    """The whole suite with one version of torch."""
    session.install(".", f"torch=={torch}", *packages("test"))
    session.run("pytest", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Packages that use torch's layers, with fastrnn's; their times are printed."""
    session.install(".", f"torch=={MEASURED}", *packages("clients"))
    session.run("pytest", "-s", "tests/clients", *session.posargs)


@nox.session
@nox.parametrize("compiler", COMPILERS)
def compilers(session: nox.Session, compiler: str) -> None:
    """The engine, warnings being errors, and its own tests by a compiler, if it is installed."""
    name, *flags = compiler.split()
    if not shutil.which(name):
        session.skip(f"{name} is not installed")
    session.install("cmake", "ninja")
    settings = {
        "CMAKE_CXX_COMPILER": name,
        "CMAKE_CXX_FLAGS": " ".join(flags),
        "FASTRNN_PYTHON": "OFF",
        "FASTRNN_TESTING": "ON",
        "FASTRNN_WERROR": "ON",
    }
    folder = session.create_tmp()
    session.run(
        "cmake", "-S", ".", "-B", folder, "-GNinja", *(f"-D{k}={v}" for k, v in settings.items())
    )
    session.run("cmake", "--build", folder)
    session.run("ctest", "--test-dir", folder, "--output-on-failure")


@nox.session
def wheels(session: nox.Session) -> None:
    """A source archive, and out of it, without git and network, a wheel for this Python.

    It runs on any Linux with glibc 2.28. ``--force-python 3.12`` builds for another Python.
    """
    build_wheel(session)
    session.notify("wheel_alone")
    session.notify("wheel_with_torch", session.posargs)


@nox.session
def wheel_aarch64(session: nox.Session) -> None:
    """The same for Linux on aarch64, by Debian's cross compiler and with this Python's headers.

    An argument is a command that starts such a Python, in emulation, which then imports the wheel.
    """
    if not shutil.which("aarch64-linux-gnu-g++"):
        session.skip("aarch64-linux-gnu-g++ is not installed")
    build_wheel(session, "--machine", "aarch64")
    if session.posargs:
        unpacked = Path(session.create_tmp()) / "unpacked"
        with zipfile.ZipFile(only_wheel()) as wheel:
            wheel.extractall(unpacked)
        path = {"PYTHONPATH": str(unpacked)}
        session.run(*session.posargs, "-m", "fastrnn", "info", env=path, external=True)


def build_wheel(session: nox.Session, *options: str) -> None:
    session.install(*EXTRAS["wheels"])
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    session.run("python", "release/wheel.py", str(WHEELHOUSE), "--sdist", *options)


@nox.session
def wheel_alone(session: nox.Session) -> None:
    """The wheel without torch."""
    session.install(str(only_wheel()))
    session.run("python", "-m", "fastrnn", "info")
    session.run("python", "-c", "import fastrnn; print(fastrnn.isa.active())")


@nox.session
def wheel_with_torch(session: nox.Session) -> None:
    """The wheel under those tests that depend on how it was linked, or as many as are asked for."""
    session.install(str(only_wheel()), f"torch=={MEASURED}", *packages("test"))
    session.run("pytest", "-q", *(session.posargs or [f"tests/test_{name}.py" for name in TRIED]))


def only_wheel() -> Path:
    [wheel] = WHEELHOUSE.glob("*.whl")
    return wheel


def packages(extra: str) -> Iterator[str]:
    """What an extra of pyproject.toml installs, but for torch."""
    for requirement in EXTRAS[extra]:
        if requirement.startswith("fastrnn["):
            for other in requirement.removeprefix("fastrnn[").removesuffix("]").split(","):
                yield from packages(other)
        elif not requirement.startswith("torch=="):
            yield requirement
