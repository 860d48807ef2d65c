"""docs/cells.md has a row for every cell, and one of two documents a section."""

import inspect
import re
from pathlib import Path
from textwrap import dedent

import pytest

import fastrnn
from fastrnn import cells

DOCS = Path(__file__).parent.parent / "docs"
PARTS = {
    name: (DOCS / name).read_text(encoding="utf-8")
    for name in ("cells.md", "cells-of-other-kinds.md")
}
HOME = {
    name: part for part, text in PARTS.items() for name in re.findall(r"^### (\w+)$", text, re.M)
}
ROWS = {
    row[0]: row[1:]
    for row in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PARTS["cells.md"].splitlines()
        if re.match(r"\| \[`\w+`\]", line)
    )
}
ZOO = sorted(name for name in cells.__all__ if issubclass(getattr(cells, name), fastrnn.Cell))


def link(name):
    """How a row names a cell: with the place of its section."""
    part = "" if HOME[name] == "cells.md" else HOME[name]
    return f"[`{name}`]({part}#{name.lower()})"


def words(column):
    return re.findall(r"`([^`]*)`", column)


def test_the_table_has_a_row_for_every_cell_and_for_nothing_else():
    assert sorted(ROWS) == sorted(map(link, ZOO))


@pytest.mark.parametrize("name", ZOO)
def test_a_row_says_what_the_cell_declares(name):
    cell = getattr(cells, name)
    paper, states, products, vectors, inputs, size = ROWS[link(name)]
    assert re.search(r"(19|20)\d\d, \[.*\]\(https://.*\)$", paper)
    assert words(states) == [cell.states]
    assert words(vectors) == list(cell.vectors)
    assert words(inputs) == cell.inputs.split()
    heads = 2 if cell.recurrent == "heads" else None
    I, H = 5, 6  # noqa: E741
    rnn = fastrnn.Recurrent(cell, I, H, num_heads=heads)
    gates = [" ".join(product) for product in rnn.program.products if product]
    assert words(products) == gates
    formula = re.sub(r"(\d) \(", r"\1 * (", size)
    count = sum(parameter.numel() for parameter in rnn.parameters())
    assert H * eval(formula, {"I": I, "H": H, "heads": heads}) == pytest.approx(count)


@pytest.mark.parametrize("name", ZOO)
def test_a_section_has_the_equations_of_the_docstring(name):
    section = PARTS[HOME[name]].split(f"\n### {name}\n", 1)[1].split("\n#", 1)[0]
    document = inspect.getdoc(getattr(cells, name))
    (equations,) = re.findall(r"::\n\n((?:    .*\n|\n)+)", document + "\n")
    assert f"```text\n{dedent(equations).strip()}\n```" in section
    assert document.splitlines()[0].replace("``", "`") in section
