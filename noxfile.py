"""Tests in environments of their own: other versions of torch, and packages that build on torch.

``nox`` runs the suite with every version, ``nox -s "tests(torch='2.6.0')"`` with one of them,
``nox -s clients`` the packages of other people. ``pip install nox`` brings it.
"""

from __future__ import annotations

from collections.abc import Iterator

import nox

VERSIONS = ("2.6.0", "2.13.0", "2.15.0")
"""The oldest torch that pyproject.toml admits, the one that figures are from, and the newest."""
MEASURED = VERSIONS[1]
EXTRAS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]

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


def packages(extra: str) -> Iterator[str]:
    """What an extra of pyproject.toml installs, but for torch."""
    for requirement in EXTRAS[extra]:
        if requirement.startswith("fastrnn["):
            for other in requirement.removeprefix("fastrnn[").removesuffix("]").split(","):
                yield from packages(other)
        elif not requirement.startswith("torch=="):
            yield requirement
