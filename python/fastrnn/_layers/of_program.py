"""What layers and single steps of a program share, and how classes and modes see their calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call import precision, program_inputs
from .._call.spec import PLAIN, Variant
from .._call.weights import NAMES, Weights, expected_of_cell
from .._program.program import Program
from .._program.tracing import trace
from .cell import Cell
from .overrides import seen
from .parameters import by_name
from .plan import spec_of_cell
from .run import run_layer, run_program_step

__all__ = ["OfProgram", "recurrent", "recurrent_cell"]

_LONG = dict(zip(Weights._fields, NAMES, strict=True))


@_torch.constant_to_compilers  # make no programs there
def _text_of(text: str, per_unit: tuple[bool, ...]) -> str:
    """That of the same program for per-step inputs of these shapes."""
    return _text_with_inputs(text, per_unit)


@lru_cache(maxsize=256)
def _text_with_inputs(text: str, per_unit: tuple[bool, ...]) -> str:
    return Program.parse(text).with_inputs(per_unit).text


@seen
def recurrent(
    cell: str,
    sizes: tuple[int, int],
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    *,
    bias: bool,
    num_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
    proj_size: int = 0,
    reverse: bool = False,
    **extras: Any,
) -> tuple[Any, ...]:
    """A call of `Recurrent` as classes and modes see it: of a program's text, h and c.

    And of a layer with the options of `fastrnn.regularised`, which may have a projection, and which
    calls each direction by itself where their steps get masks.
    """
    dropout = dropout if training else 0.0
    variant = Variant(reverse=True) if reverse else None
    options = (cell, *sizes, proj_size, num_layers, bias, bidirectional, dropout, variant)
    return run_layer(options, input, hx, weights, batch_first, **extras)


@seen
def recurrent_cell(
    cell: str, sizes: tuple[int, int, bool], input: Any, hx: Any, weights: Sequence[Any]
) -> Any:
    """A call of `RecurrentCell` as classes and modes see it."""
    return run_program_step(cell, sizes, input, hx, weights)


class OfProgram(torch.nn.Module):
    """What layers and single steps share: a cell, its program, and its parameters by name."""

    def __init__(
        self,
        cell: Cell | type[Cell],
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_heads: int | None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        kind = cell if isinstance(cell, type) else type(cell)
        if not issubclass(kind, Cell):
            raise TypeError(f"cell: expected a fastrnn.Cell, got {kind.__name__}")
        self.cell = cell() if isinstance(cell, type) else cell
        self.program = trace(self.cell, num_heads=num_heads)
        heads = self.program.heads
        if hidden_size % heads:
            raise ValueError(
                f"hidden_size: expected a multiple of the {heads} heads, got {hidden_size}"
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        self.bias, self.num_heads = bias, num_heads
        self._text = self.program.text
        self._inputs = tuple(name for name, _ in self.program.inputs)
        self._vectors = tuple(name for name, _ in self.program.vectors)
        # Of one direction: names of matrices and biases as the Spec has them, then the vectors.
        self._own: tuple[str, ...] = ()
        self._weight_names: list[str] = []  # of all directions

    def _register(self, input_size: int, suffix: str, **factory: Any) -> None:
        """The parameters of one direction of a layer, whose names end with ``suffix``."""
        program, H = self.program, self.hidden_size
        spec = spec_of_cell(self._text, input_size, H, bool(self.bias), PLAIN)
        _, of_spec, names = expected_of_cell(spec)
        shapes = dict(zip(names, of_spec, strict=True))
        sizes = {"gate": len(program.gates) * H, "unit": H, "scalar": 1}
        own = {_LONG[name]: shape for name, shape in shapes.items() if name != "w_ch"}
        for name, kind in program.vectors:
            if name in own or hasattr(self, f"{name}{suffix}"):
                raise ValueError(f"vectors: {name!r} is the name of something else already")
            own[name] = (sizes[kind],)
        for name, shape in own.items():
            parameter = torch.nn.Parameter(torch.empty(shape, **factory))
            self.register_parameter(f"{name}{suffix}", parameter)
        self._own = tuple(own)
        self._weight_names += [f"{name}{suffix}" for name in own]

    def _suffixes(self) -> Sequence[str]:
        """What the names of each layer's and direction's parameters end with."""
        return ("",)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as the constructor did, and have the cell set its own."""
        bound = 1 / math.sqrt(self.hidden_size)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound)
            for suffix in self._suffixes():
                own = {name: getattr(self, f"{name}{suffix}") for name in self._own}
                given = dict(own)
                self.cell.reset_parameters(given)
                for name, parameter in given.items():
                    if parameter is not own.get(name):
                        raise ValueError(
                            f"{type(self.cell).__name__}.reset_parameters: {name!r} is another "
                            "tensor now, expected the parameter itself, changed in place"
                        )

    def _weights(self) -> list[Any]:
        """All that a call has, as they are now: the vectors of a direction are one tensor there."""
        return self._in_order(by_name(self, self._weight_names))

    def _in_order(self, found: Sequence[Any]) -> list[Any]:
        """The parameters as the weights of a call."""
        if not self._vectors:
            return list(found)
        weights: list[Any] = []
        count, vectors = len(self._own), len(self._vectors)
        for at in range(0, len(found), count):
            weights += found[at : at + count - vectors]
            weights.append(self._joined(found[at + count - vectors : at + count]))
        return weights

    def _joined(self, vectors: Sequence[Tensor]) -> Tensor:
        """The vectors of a direction as one, of blocks of H."""
        parts = [
            vector.expand(self.hidden_size) if kind == "scalar" else vector
            for vector, (_, kind) in zip(vectors, self.program.vectors, strict=True)
        ]
        return parts[0] if len(parts) == 1 else precision.joined(parts)

    def _with_inputs(self, input: Any, inputs: dict[str, Any]) -> tuple[str, Any]:
        """The program's text, and the input with the per-step inputs behind it."""
        ordered = {name: inputs[name] for name in self._inputs}
        joined, per_unit = program_inputs.appended(
            input, self.input_size, self.hidden_size, ordered
        )
        if not any(per_unit):
            return self._text, joined
        return _text_of(self._text, per_unit), joined

    def _options(self) -> list[str]:
        return []

    def extra_repr(self) -> str:
        options = [] if self.bias is True else [f"bias={self.bias}"]
        options += self._options()
        options += [] if self.num_heads is None else [f"num_heads={self.num_heads}"]
        return ", ".join([repr(self.cell), f"{self.input_size}, {self.hidden_size}", *options])
