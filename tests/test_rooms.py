"""The house keeps its order: imports go down, and files, functions and signatures stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "fastrnn"
IMPORTS = (ast.Import, ast.ImportFrom)

ROOMS = (
    ("_torch", "_core", "_cuda"),
    ("_program",),
    ("_call",),
    ("variants", "regularised"),
    ("reference",),
    ("_engine", "isa"),
    ("_autograd",),
    ("_layers", "functional"),
    ("_interop", "onnx", "keras", "cells"),
    ("", "__main__", "_info", "_explain", "_explain_gpu", "_explain_programs", "spec", "modules"),
)
"""From the ground up, by the first part of a module's name; the last is the door, "" the package.

A module imports from its own room and from those below.
"""

FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def files_in(*folders: str, endings: tuple[str, ...] = (".py",)) -> list[Path]:
    found = [file for folder in folders for file in sorted((ROOT / folder).rglob("*"))]
    files = [file for file in found if file.suffix in endings]
    assert files
    return files


def from_root(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    """A module's name within the package; "" is the package."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in files_in("python", endings=(".py", ".pyi"))}


def imports_of(module: str) -> Iterator[str]:
    """The modules of the package that one imports, be it within a function."""
    inner = MODULES[module].name != "__init__.py"
    package = module.split(".")[:-1] if inner else module.split(".")
    for node in ast.walk(parsed(MODULES[module])):
        names = [alias.name for alias in getattr(node, "names", ()) if isinstance(node, IMPORTS)]
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [part for part in package[: len(package) + 1 - node.level] if part]
            base += node.module.split(".") if node.module else []
            for name in names:
                found = ".".join([*base, name])
                yield found if found in MODULES else ".".join(base)
        else:
            given = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            assert not any(name.split(".")[0] == "fastrnn" for name in given), module


def floor_of(module: str) -> int:
    return FLOOR[module.split(".")[0]]


def test_imports_only_go_down() -> None:
    upwards = {
        (module, imported)
        for module in MODULES
        for imported in imports_of(module)
        if floor_of(imported) > floor_of(module)
    }
    assert not upwards


def test_no_module_imports_itself_by_way_of_others() -> None:
    reached = {module: set(imports_of(module)) for module in MODULES if module}
    for between in reached:
        for others in reached.values():
            if between in others:
                others |= reached[between]
    assert not {module for module, others in reached.items() if module in others}


def test_the_engine_includes_nothing_that_knows_python_torch_or_a_gpu() -> None:
    may_include = {
        "engine": {"engine"},
        "cuda": {"engine", "cuda"},
        "cuda/torch": {"engine", "cuda", "python"},  # the short way, as in python/torch
        "python": {"engine", "python"},
    }
    outside = set()
    for file in files_in("csrc/engine", "csrc/cuda", "csrc/python", endings=(".cpp", ".h", ".cu")):
        first, second = from_root(file).split("/")[1:3]
        room = f"{first}/{second}" if f"{first}/{second}" in may_include else first
        others = {"engine", "cuda", "python", "testing"} - may_include[room]
        for included in re.findall(r'#include ["<]([^">]+)', file.read_text()):
            knows = room == "engine" and re.match("pybind11|Python|torch|ATen|c10|cuda", included)
            if knows or included.startswith("..") or included.split("/")[0] in others:
                outside.add((from_root(file), included))
    assert not outside


def undocumented_of_torch(file: Path) -> Iterator[str]:
    for node in ast.walk(parsed(file)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            names = [ast.unparse(node)]
        for name in names:
            root, *parts = name.split(".")
            if root == "torch" and any(part[0] == "_" and part[1] != "_" for part in parts):
                yield name


def test_one_module_alone_knows_names_that_torch_does_not_document() -> None:
    found = {file: set(undocumented_of_torch(file)) for file in files_in("python")}
    assert [module_of(file) for file, names in found.items() if names] == ["_torch"]


def test_the_tree_for_contributors_has_the_modules_that_there_are() -> None:
    text = ROOT.joinpath("CONTRIBUTING.md").read_text()
    tree = text.split("\npython/fastrnn/\n")[1].split("\ntests/")[0]
    named = re.findall(r"[\w*]+\.py\b", tree)
    here = {file.name for file in files_in("python") if file.parent.name not in ("cells", "cuda")}
    assert [name for name in named if not any(fnmatch(file, name) for file in here)] == [
        "initial.py"  # of cells, which are too many to be named
    ]
    assert not {file for file in here if not any(fnmatch(file, name) for name in named)} - {
        "__init__.py"
    }


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    files = files_in(
        *("python", "csrc", "tests", "benchmarks"),
        endings=(".py", ".pyi", ".cpp", ".h", ".cu", ".cuh"),
    )
    too_long = {from_root(file) for file in files if len(file.read_text().splitlines()) > 420}
    assert not too_long


def functions_in(*folders: str) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in files_in(*folders):
        for node in statements_of(parsed(file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield file, node


def statements_of(node: ast.AST) -> Iterator[ast.stmt]:
    """All within a node; expressions, of which there are many more, hold none."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt):
            yield inner
        if not isinstance(inner, ast.expr):
            yield from statements_of(inner)


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_no_function_is_too_long_to_be_understood_at_once() -> None:
    """Docstrings are not counted."""
    too_long = set()
    for file, function in functions_in("python", "tests", "benchmarks", "examples"):
        documented = ast.get_docstring(function) is not None
        lines = lines_of(function) - (lines_of(function.body[0]) if documented else 0)
        if lines > 60:
            too_long.add((from_root(file), function.name))
    assert not too_long


def test_no_function_has_more_positional_parameters_than_one_can_tell_apart() -> None:
    too_many = {
        (from_root(file), function.name)
        for file, function in functions_in("python")
        if len([one for one in _positional(function) if one.arg not in ("self", "cls", "ctx")]) > 10
    }
    assert not too_many


def _positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return function.args.posonlyargs + function.args.args
