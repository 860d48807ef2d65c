"""What a cell declares beside its methods, looked at once and found good."""

from __future__ import annotations

from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, NamedTuple

__all__ = ["Declared", "declared_by"]

_KINDS = ("gate", "unit", "scalar")
_LATER_PRODUCTS = 4


class Declared(NamedTuple):
    """The declarations of a `fastrnn.Cell`, names apart."""

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    products: tuple[tuple[str, ...], ...]
    chained: bool
    recurrent: str | int
    vectors: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    held: tuple[str, ...]


def declared_by(cell: Any, num_heads: int | None = None) -> Declared:
    """The declarations of a cell.

    Raises
    ------
    ValueError, TypeError
        One that is not as `fastrnn.Cell` describes it.
    """
    gates = _names(cell, "gates", None)
    if not gates:
        raise ValueError(f"{_of(cell)}.gates: expected one gate at least")
    vectors = _vectors(cell)
    inputs = _names(cell, "inputs", "")
    twice = set(inputs) & {name for name, _ in vectors}
    if twice:
        raise ValueError(f"{_of(cell)}: both a vector and an input are called {min(twice)!r}")
    recurrent = _recurrent(cell, num_heads)
    late = getattr(cell, "late", "") or ""
    states = _names(cell, "states", "h")
    return Declared(
        name=_of(cell),
        gates=gates,
        states=states,
        products=_products(cell, gates, recurrent),
        chained=not isinstance(late, str),
        recurrent=recurrent,
        vectors=vectors,
        inputs=inputs,
        held=_held(cell, states),
    )


def _of(cell: Any) -> str:
    return type(cell).__name__


def _split(cell: Any, field: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, str):
        raise TypeError(
            f"{_of(cell)}.{field}: expected names in a str, apart by spaces, "
            f"got {type(names).__name__}"
        )
    found = tuple(names.split())
    for name in found:
        if not name.isidentifier() or iskeyword(name) or name.startswith("_"):
            raise ValueError(f"{_of(cell)}.{field}: {name!r} is not a name that Python can write")
        if found.count(name) > 1:
            raise ValueError(f"{_of(cell)}.{field}: {name!r} is there twice")
    return found


def _names(cell: Any, field: str, default: str | None) -> tuple[str, ...]:
    names = getattr(cell, field, default)
    if names is None and default is None:
        raise TypeError(f"{_of(cell)} declares no {field}: a str of names, apart by spaces")
    found = _split(cell, field, names)
    if field == "states" and not found:
        raise ValueError(f"{_of(cell)}.states: expected one state at least")
    return found


def _held(cell: Any, states: tuple[str, ...]) -> tuple[str, ...]:
    held = _names(cell, "held", "")
    for name in held:
        if name not in states:
            raise ValueError(
                f"{_of(cell)}.held: {name!r} is no state, expected some of {' '.join(states)}"
            )
    if held and (states[len(states) - len(held) :] != held or held[0] == states[0]):
        raise ValueError(
            f"{_of(cell)}.held: expected the last of the states and not the first, in their "
            f"order, {' '.join(states)}, got {' '.join(held)}"
        )
    return held


def _vectors(cell: Any) -> tuple[tuple[str, str], ...]:
    vectors = getattr(cell, "vectors", None) or {}
    if not isinstance(vectors, Mapping):
        raise TypeError(
            f"{_of(cell)}.vectors: expected a dict of names and kinds, got {type(vectors).__name__}"
        )
    for name, kind in vectors.items():
        if _split(cell, "vectors", name) != (name,):
            raise ValueError(f"{_of(cell)}.vectors: {name!r} is not a name that Python can write")
        if kind not in _KINDS:
            raise ValueError(
                f"{_of(cell)}.vectors: {name!r} is {kind!r}, expected one of {', '.join(_KINDS)}"
            )
    return tuple(vectors.items())


def _recurrent(cell: Any, num_heads: int | None) -> str | int:
    recurrent = getattr(cell, "recurrent", "dense")
    if recurrent == "heads":
        if num_heads is None:
            raise ValueError(f"{_of(cell)}.recurrent is 'heads', so num_heads must say how many")
        recurrent = num_heads
    elif num_heads is not None and num_heads != recurrent:
        raise ValueError(
            f"num_heads: {_of(cell)}.recurrent must be 'heads' to take it, it is {recurrent!r}"
        )
    if isinstance(recurrent, bool) or not isinstance(recurrent, (str, int)):
        raise TypeError(f"{_of(cell)}.recurrent: expected a str or int, got {recurrent!r}")
    if isinstance(recurrent, int) and recurrent > 0:
        return recurrent
    if recurrent not in ("dense", "none"):
        raise ValueError(
            f"{_of(cell)}.recurrent: expected 'dense', 'none', 'heads' or a number of heads, "
            f"got {recurrent!r}"
        )
    return recurrent


def _products(cell: Any, gates: tuple[str, ...], recurrent: str | int) -> tuple[Any, ...]:
    late = getattr(cell, "late", "") or ""
    if not isinstance(late, (str, list, tuple)):
        raise TypeError(
            f"{_of(cell)}.late: expected names in a str, or a list of such, "
            f"got {type(late).__name__}"
        )
    stages = [late] if isinstance(late, str) else list(late)
    later = [_split(cell, "late", stage) for stage in stages if stage or len(stages) > 1]
    if recurrent == "none":
        if later:
            raise ValueError(f"{_of(cell)}.late: recurrent = 'none' has no product that is late")
        return ((),)
    if len(later) > _LATER_PRODUCTS:
        raise ValueError(
            f"{_of(cell)}.late: expected up to {_LATER_PRODUCTS} products, got {len(later)}"
        )
    named = [gate for stage in later for gate in stage]
    for gate in named:
        if gate not in gates:
            raise ValueError(
                f"{_of(cell)}.late: {gate!r} is no gate, expected some of {' '.join(gates)}"
            )
        if named.count(gate) > 1:
            raise ValueError(f"{_of(cell)}.late: {gate!r} is there twice")
    if not all(later):
        raise ValueError(f"{_of(cell)}.late: a product without gates")
    # A product's gates stand in the order of the weights' rows.
    ordered = (tuple(gate for gate in gates if gate in stage) for stage in later)
    return tuple(gate for gate in gates if gate not in named), *ordered
