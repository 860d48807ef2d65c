"""What torch says of a mistake, and whether fastrnn says the same and then more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

SAME_WORDS = torch.__version__.startswith("2.13.")
"""Whether this is the version whose sentences fastrnn has; others word some of them otherwise."""

_OF_OTHERS = re.compile(
    r"'[\w.]+' object |tuple index out of range|index \d|Dimension out of range|"
    r"lstm(_cell)?\(\)|expected Tensor as element|"
    r"get_mkldnn_dtype|could not create a primitive|"
    r"mat1 and mat2 shapes|self and mat2|The size of tensor|The expanded size|t\(\) expects|"
    r"INDICES element|Tensor on device|MatrixRef|ArrayRef|output with shape|start \(\d|"
    r"expected scalar type|index_select"
)
"""Beginnings of what Python, the parser of arguments, oneDNN or an operation inside of torch's
layers says when it fails, of its own operands and not of the layer's arguments."""


def error_of(function: Callable[..., Any], *arguments: Any) -> Exception:
    """What the call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which type it is, is the question
        function(*arguments)
    return caught.value


def assert_as_in_torch(
    fast_call: Callable[[], Any], plain_call: Callable[[], Any], named: str
) -> None:
    """Both fail, with one type, and fastrnn's message begins with torch's.

    Where torch has no sentence of its own, fastrnn's names the argument.
    """
    expected, got = error_of(plain_call), error_of(fast_call)
    assert isinstance(got, type(expected)), f"torch: {expected!r}, fastrnn: {got!r}"
    words = str(expected).partition("\n")[0]
    if SAME_WORDS and not _OF_OTHERS.match(words):
        assert str(got).startswith(words)
    else:
        assert re.search(named.replace("hx", "(hx|hidden)"), str(got)), str(got)
