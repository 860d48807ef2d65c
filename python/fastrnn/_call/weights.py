"""The weights of a layer: their names, shapes and order, and which belong to one direction.

They stand in the order of torch's ``_flat_weights``: layer by layer and in it direction by
direction, of each what there is of the fields of `Weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from .spec import Spec, cell_of

__all__ = [
    "NAMES",
    "Expected",
    "Weights",
    "by_direction",
    "each_direction",
    "expected_of_cell",
    "expected_of_layer",
    "flat",
    "name_of",
    "shapes_of_direction",
    "shapes_of_weights",
    "weights_of",
    "weights_of_cell",
]


class Weights(NamedTuple):
    """What belongs to the weights of one direction of a layer; None for one that there is not.

    ``w_ch`` holds the vectors of a cell: peepholes, or those of a program.
    """

    w_ih: Any
    w_hh: Any
    b_ih: Any = None
    b_hh: Any = None
    w_hr: Any = None
    w_ch: Any = None

    def with_matrices(self, w_ih: Any, w_hh: Any) -> Weights:
        """The others as they are; the compilers of some versions of torch trace no ``_replace``."""
        return Weights(w_ih, w_hh, self.b_ih, self.b_hh, self.w_hr, self.w_ch)


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch")
"""What torch calls the fields of `Weights`, in a cell; in a layer `name_of` says."""


def name_of(name: str, layer: int, direction: int) -> str:
    """One of `NAMES` as it is called in a layer and a direction."""
    return f"{name}_l{layer}{'_reverse' if direction else ''}"


def shapes_of_direction(spec: Spec, layer: int = 0) -> Weights:
    """Of the weights of each direction of a layer; None for one that there is not."""
    rows, H = len(spec.gates) * spec.hidden_size, spec.hidden_size
    bias = (rows,) if spec.bias else None
    w_ih = rows, spec.directions * spec.out if layer else spec.input_size
    w_hh: tuple[int, ...] | None = (rows, spec.out)
    own = cell_of(spec.cell)
    if isinstance(own.recurrent, int):
        w_hh = own.recurrent, rows // own.recurrent, H // own.recurrent
    elif own.recurrent == "none":
        w_hh = None
    vectors = len(spec.variant.peephole) if own.program is None else own.vectors
    return Weights(
        w_ih,
        w_hh,
        bias,
        None if w_hh is None else bias,
        (spec.proj_size, H) if spec.proj_size else None,
        (vectors * H,) if vectors else None,
    )


def weights_of(spec: Spec) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights, in their order."""
    return [
        (name_of(name, layer, direction), shape)
        for layer in range(spec.num_layers)
        for direction in range(spec.directions)
        for name, shape in zip(NAMES, shapes_of_direction(spec, layer), strict=True)
        if shape is not None
    ]


@lru_cache(maxsize=256)
def shapes_of_weights(spec: Spec) -> tuple[tuple[int, ...], ...]:
    return tuple(shape for _, shape in weights_of(spec))


class Expected(NamedTuple):
    """What one set of options asks of the weights; the names are those of messages."""

    spec: Spec
    shapes: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]


def expected_of_layer(spec: Spec) -> Expected:
    """Of the weights as one sequence, in which they have a place."""
    weights = weights_of(spec)
    names = tuple(f"weights[{place}] ({name})" for place, (name, _) in enumerate(weights))
    return Expected(spec, tuple(shape for _, shape in weights), names)


def expected_of_cell(spec: Spec) -> Expected:
    """Of the weights of a single step, by the names of the cell functions' arguments."""
    shapes = zip(Weights._fields, shapes_of_direction(spec, 0), strict=True)
    own = {name: shape for name, shape in shapes if shape is not None}
    return Expected(spec, tuple(own.values()), tuple(own))


def each_direction(spec: Spec, values: Sequence[Any]) -> list[Weights]:
    """What belongs to the weights, by name for each direction of each layer."""
    shapes, rest = shapes_of_direction(spec, 0), iter(values)
    return [
        Weights(*(None if shape is None else next(rest) for shape in shapes))
        for _ in range(spec.num_layers * spec.directions)
    ]


def by_direction(spec: Spec, values: Sequence[Any]) -> list[list[Weights]]:
    """The same, for each layer and in it for each direction."""
    found = each_direction(spec, values)
    return [found[at : at + spec.directions] for at in range(0, len(found), spec.directions)]


def flat(directions: Sequence[Weights]) -> list[Any]:
    """What belongs to the weights of these directions, in the order of the weights."""
    return [value for one in directions for value in one if value is not None]


def weights_of_cell(w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> tuple[Any, ...]:
    """The weights of a layer that does the same; torch's cells may lack one bias of two."""
    if b_ih is None and b_hh is None:
        return w_ih, w_hh
    if b_ih is None:
        return w_ih, w_hh, torch.zeros_like(b_hh), b_hh
    if b_hh is None:
        return w_ih, w_hh, b_ih, torch.zeros_like(b_ih)
    return w_ih, w_hh, b_ih, b_hh
