"""docs/write-a-cell.md: its code runs, and says what the page says."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "write-a-cell.md").read_text(encoding="utf-8")
BEFORE, ERRORS = PAGE.split("## Errors that one meets")
BLOCK = r"```python\n(.*?)```\n"
CASES = re.findall(BLOCK + r"\n```text\n(.*?)```\n", ERRORS, re.DOTALL)


def run(block, names):
    exec(compile(block, "cell.py", "exec"), names)


@pytest.fixture(scope="module")
def names():
    """What the page's code up to its errors has defined; the training is two steps long."""
    defined = {}
    for block in re.findall(BLOCK, BEFORE, re.DOTALL):
        run(block.replace("range(201)", "range(2)"), defined)
    return defined


def test_the_code_of_the_page_runs_and_learns(names):
    assert names["loss"].isfinite()
    assert all(parameter.grad is not None for parameter in names["rnn"].parameters())


def test_the_parameters_are_those_of_the_page(names):
    printed = [f"{name} {tuple(p.shape)}" for name, p in names["rnn"].named_parameters()]
    assert "```text\n" + "\n".join(printed) + "\n```" in BEFORE


@pytest.mark.parametrize(("code", "message"), CASES)
def test_an_error_reads_as_on_the_page(names, code, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        run(code, dict(names))
    assert f"{type(caught.value).__name__}: {caught.value}".split() == message.split()


def test_every_error_of_the_page_is_tried():
    assert len(CASES) == ERRORS.count("```text") == 7
