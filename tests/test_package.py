"""What the package says of itself is said in one place, pyproject.toml, and the same elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parent.parent


def said(name: str, file: str, form: str) -> str:
    """What a file says under a name: Python 3.10 parses no TOML, and YAML no Python."""
    found = re.search(form.format(name), ROOT.joinpath(file).read_text(), re.M)
    assert found is not None, (name, file)
    return found[1]


def declared(name: str) -> str:
    return said(name, "pyproject.toml", '^{} = "(.*)"$')


def test_the_version_is_the_one_in_pyproject() -> None:
    assert fastrnn.__version__ == declared("version")


@pytest.mark.parametrize("name", ["version", "license"])
def test_the_citation_names_this_version_and_licence(name: str) -> None:
    assert said(name, "CITATION.cff", "^{}: (.*)$") == declared(name)
