"""What the package says of itself is said in one place, pyproject.toml, and the same elsewhere."""

from __future__ import annotations

import importlib.util
import re
import zipfile
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


@pytest.fixture(scope="module")
def contents():
    """release/contents.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("contents", ROOT / "release" / "contents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel_with(folder: Path, names: set[str]) -> Path:
    path = folder / "fastrnn-1-cp311-cp311-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, "")
    return path


INFO = "fastrnn-1.dist-info"
EXTENSION = "fastrnn/_core.cpython-311-x86_64-linux-gnu.so"


def names_of_a_wheel(contents) -> set[str]:
    licences = [path.name for path in ROOT.glob("licenses/*")]
    return {
        EXTENSION,
        *(f"fastrnn/{source}" for source in contents.sources()),
        *(f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")),
        *(f"{INFO}/licenses/licenses/{name}" for name in licences),
    }


def test_a_wheel_of_what_is_listed_has_no_fault(contents, tmp_path) -> None:
    wheel = wheel_with(tmp_path, names_of_a_wheel(contents))
    assert list(contents.faults(wheel)) == []


def test_what_a_wheel_lacks_or_has_too_much_is_named(contents, tmp_path) -> None:
    names = names_of_a_wheel(contents) - {EXTENSION, "fastrnn/_layers/run.py"} | {"tests/cases.py"}
    assert set(contents.faults(wheel_with(tmp_path, names))) == {
        "has tests/cases.py, which the list lacks",
        "misses fastrnn/_core.*[od]",
        "misses fastrnn/_layers/run.py",
    }


def test_a_wheel_that_grew_too_large_is_named(contents, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(contents, "MOST_BYTES", 10)
    [fault] = contents.faults(wheel_with(tmp_path, names_of_a_wheel(contents)))
    assert fault.endswith("more than 10")
