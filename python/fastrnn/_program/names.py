"""What a cell's methods get as ``x, u, s, p``: values by name, and errors that say which there are.

The values are tensors where the cell runs as torch code, and symbols where it is traced.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import torch

__all__ = ["Names", "line_of_an_error", "line_of_the_user"]

_NOT_THE_USERS = tuple(
    os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, torch.__file__)
)


def line_of_the_user() -> str:
    """The file and line that called this room, possibly by way of torch; "file:line"."""
    frame = sys._getframe()
    while frame.f_back and os.path.abspath(frame.f_code.co_filename).startswith(_NOT_THE_USERS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def line_of_an_error(error: Exception) -> str:
    """The file and line of the user's from which torch or Python has raised it; "file:line"."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not os.path.abspath(one.filename).startswith(_NOT_THE_USERS)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else "?"


class Names:
    """Values by name, as attributes.

    Parameters
    ----------
    name : str
        What the user calls it: "x".
    what : str
        What its values are, in an error: "gate".
    values : mapping of str to value
        A value that is a function is one that there is not: it gets no argument and says why.
    hints : mapping of str to str
        Of other names, what they are, in an error: {"f": "f is a gate: x.f, u.f"}.
    """

    __slots__ = ("_hints", "_name", "_values", "_what")

    def __init__(
        self, name: str, what: str, values: Mapping[str, Any], hints: Mapping[str, str] = {}
    ) -> None:
        own = {"_name": name, "_what": what, "_values": values, "_hints": hints}
        for slot, value in own.items():
            object.__setattr__(self, slot, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(
            f"{self._name}.{name} = ({line_of_the_user()}): what a cell is given stays as it is; "
            "step returns a dict of the new states"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        there = " ".join(self._values) or "none"
        hint = f"; {self._hints[name]}" if name in self._hints else ""
        raise ValueError(
            f"{self._name}.{name} ({line_of_the_user()}): there is no {self._what} {name!r}, "
            f"expected one of: {there}{hint}"
        )

    def __dir__(self) -> list[str]:
        return sorted(self._values)

    def __iter__(self) -> Iterator[Any]:
        """The values in order, for `fastrnn.layer_norm` of all of them."""
        return iter(self._values.values())


def _no_value(names: Any, *operands: Any, **keywords: Any) -> NoReturn:
    own = names._name if isinstance(names, Names) else "x, u, s or p"
    raise TypeError(f"{own} ({line_of_the_user()}): values by name, as x.gate, and not a value")


Names.__torch_function__ = classmethod(_no_value)  # type: ignore[attr-defined]
for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
    setattr(Names, f"__{_name}__", _no_value)
    setattr(Names, f"__r{_name}__", _no_value)
for _name in ("neg", "abs", "invert", "getitem", "lt", "le", "gt", "ge"):
    setattr(Names, f"__{_name}__", _no_value)
