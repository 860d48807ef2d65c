"""What somebody chooses for a process: by a function, or by an environment variable."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["Setting"]


class Setting:
    """One of some words; the first of them unless somebody says otherwise.

    Parameters
    ----------
    variable : str
        The environment variable that is asked until `choose` is called.
    choices : sequence of str
    """

    def __init__(self, variable: str, choices: Sequence[str]) -> None:
        self.variable, self.choices = variable, choices
        self.chosen: str | None = None

    def choose(self, to: str) -> None:
        """Overrule the environment variable; ValueError if ``to`` is none of the choices."""
        self._check(to, "to")
        self.chosen = to

    def value(self) -> str:
        """What was chosen; ValueError if the environment variable has none of the choices."""
        if self.chosen is not None:
            return self.chosen
        to = os.environ.get(self.variable, self.choices[0])
        self._check(to, self.variable)
        return to

    def _check(self, to: str, what: str) -> None:
        if to not in self.choices:
            known = ", ".join(map(repr, self.choices))
            raise ValueError(f"{what}: expected one of {known}, got {to!r}")
