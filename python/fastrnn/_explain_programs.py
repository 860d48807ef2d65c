"""Cells that ``python -m fastrnn explain`` is given by name, as ``fastrnn.cells:MGU``."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _core
    from ._program.program import Program

__all__ = ["described", "native", "program_of"]


@lru_cache
def program_of(name: str, heads: int | None) -> Program:
    """The program of a cell.

    Parameters
    ----------
    name : str
        ``module:attribute``, a `fastrnn.Cell` or a class of them that takes no arguments.
    heads : int, optional
        Blocks on the diagonal of its recurrent weights, if it leaves their number open.

    Raises
    ------
    ValueError
        If there is no such cell, or it cannot be a program.
    """
    module, _, attribute = name.partition(":")
    try:
        from ._layers.cell import Cell
        from ._program.tracing import trace

        found = getattr(import_module(module), attribute)
        cell = found() if isinstance(found, type) else found
        if isinstance(cell, Cell):
            return trace(cell, num_heads=heads)
    except (ImportError, AttributeError, TypeError, ValueError) as problem:
        raise ValueError(f"cell: {name}: {' '.join(str(problem).split())}") from problem
    raise ValueError(f"cell: {name}: expected a fastrnn.Cell, got {type(cell).__name__}")


def native(program: Program, hidden_size: int) -> _core.Program:
    """The program as the engine has it."""
    from . import _core
    from ._program.lowering import engine_arguments

    return _core.Program(**engine_arguments(program, hidden_size))


def described(program: Program) -> list[str]:
    """What a step computes forward and backward, in lines."""
    return program.describe().splitlines()
