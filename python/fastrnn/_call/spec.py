"""What is to be computed, as those who check, compute and judge it tell one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

from .. import _torch
from .._program.program import Program

__all__ = [
    "CELLS",
    "FLAT",
    "GATES",
    "PLAIN",
    "Cell",
    "Outputs",
    "Spec",
    "Variant",
    "cell_of",
    "from_flat",
    "to_flat",
]


class Outputs(NamedTuple):
    """Of a call, as `fastrnn.reference.rnn` describes them, or what belongs to each of them."""

    y: Any
    h_n: Any
    c_n: Any
    h_all: Any
    c_all: Any


class Cell(NamedTuple):
    """What one of torch's cells consists of, or one that a program describes."""

    kind: str
    """What torch calls the layer, or a program its cell; a single step has "Cell" behind that."""
    gates: Sequence[str]
    """A name for each block of H rows of a weight, in torch's order."""
    states: Sequence[str]
    """A name for each state, in the order of ``hx``; the first is what a layer puts out."""
    activation: str
    """Of the candidate: g of the LSTM, n of the GRU, h of the RNN."""
    reads_hidden: bool
    """Whether the step before's h enters beside its product with W_hh, too, as z * h in the GRU."""
    program: Program | None = None
    """What a step computes, of a cell that is not torch's. What follows is of such cells alone."""
    recurrent: str | int = "dense"
    """"dense", "none", or the number of blocks on the diagonal of W_hh."""
    vectors: int = 0
    """Blocks of H learned numbers, besides the matrices and biases."""
    per_unit: tuple[bool, ...] = ()
    """Of each per-step input whether it has a number for each unit, or one for a row."""
    initial: tuple[float, ...] = ()
    """What every unit of each state starts with."""
    held: int = 0
    """How many of the states, the last ones, stay what they are."""


CELLS = {
    "lstm": Cell("LSTM", "ifgo", "hc", "tanh", False),
    "gru": Cell("GRU", "rzn", "h", "tanh", True),
    "rnn_tanh": Cell("RNN", "h", "h", "tanh", False),
    "rnn_relu": Cell("RNN", "h", "h", "relu", False),
}
"""torch's cells by the name that they have in a `Spec`, in capitals torch's ``mode``."""

GATES = {cell.kind: "".join(cell.gates) for cell in CELLS.values()}
"""The gates by what torch calls the layer."""


def cell_of(name: str) -> Cell:
    """One of torch's cells by its name, or that of a program by its text."""
    found = CELLS.get(name)
    return _of_program(name) if found is None else found


@_torch.constant_to_compilers  # read no text there
def _of_program(text: str) -> Cell:
    return _parsed(text)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Cell:
    program = Program.parse(text)
    return Cell(
        program.name,
        program.gates,
        program.internal_states,
        activation="",
        reads_hidden=True,
        program=program,
        recurrent=program.recurrent,
        vectors=len(program.vector_slots),
        per_unit=tuple(per_unit for _, per_unit in program.inputs),
        initial=program.internal_initial,
        held=len(program.held),
    )


@dataclass(frozen=True, slots=True)
class Variant:
    """How a layer differs from torch's; by default it does not. `fastrnn.variants` explains.

    An ``activation`` of "" is the cell's own: tanh, or relu of "rnn_relu"; the others are names of
    `fastrnn.variants.ACTIVATIONS`, with their parameters if any. ``cell_clip`` is 0 for none.
    """

    activation: str = ""
    recurrent_activation: str = "sigmoid"
    output_activation: str = "tanh"
    peephole: str = ""
    cell_clip: float = 0.0
    input_forget: bool = False
    reset_after: bool = True
    reverse: bool = False


Variant.__module__ = "fastrnn.variants"  # pickles name what is public

PLAIN = Variant()
"""torch's own layers."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What kind of layers to run; letters as in `fastrnn.reference`.

    ``cell`` is "lstm", "gru", "rnn_tanh", "rnn_relu", or the text of a program; ``proj_size`` is 0
    without a projection; ``dropout`` is 0 when not training.

    All states of a program but the first stand side by side in c, and its per-step inputs behind
    the features of the input.

    ``products`` is "bfloat16" where the factors of products may be rounded to that.
    """

    cell: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    dropout: float
    variant: Variant
    products: str = "float32"

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def out(self) -> int:
        """K, the features of h, which a direction of a layer puts out."""
        return self.proj_size or self.hidden_size

    @property
    def program(self) -> Program | None:
        return cell_of(self.cell).program

    @property
    def name(self) -> str:
        """Of the cell, as torch's profiler shows it."""
        own = cell_of(self.cell)
        return self.cell if own.program is None else own.kind

    @property
    def gates(self) -> Sequence[str]:
        """Their names in the order of a weight's rows."""
        return cell_of(self.cell).gates

    @property
    def has_cell_state(self) -> bool:
        return len(cell_of(self.cell).states) > 1

    @property
    def widths(self) -> tuple[int, ...]:
        """The features of each state: of h, and of c where there is one."""
        others = len(cell_of(self.cell).states) - 1
        return (self.out, others * self.hidden_size) if others else (self.out,)

    @property
    def inputs_size(self) -> int:
        """The features of a program's per-step inputs."""
        return sum(self.hidden_size if one else 1 for one in cell_of(self.cell).per_unit)

    @property
    def data_size(self) -> int:
        """The features of the input, and of the per-step inputs behind them."""
        return self.input_size + self.inputs_size

    @property
    def initial(self) -> tuple[float, ...] | None:
        """What each of a program's states starts with; None if all start with zeros."""
        initial = cell_of(self.cell).initial
        return initial if any(initial) else None

    @property
    def held_size(self) -> int:
        """The features of c, the last ones, that stay what they are."""
        return cell_of(self.cell).held * self.hidden_size


_OWN = tuple(field for field in fields(Spec) if field.name != "variant")
_OF_VARIANT = fields(Variant)

FLAT = tuple((str(field.type), field.name) for field in (*_OWN, *_OF_VARIANT))
"""Types and names of all that a Spec says, as plain values."""


def to_flat(spec: Spec) -> tuple[Any, ...]:
    """The values of a Spec in the order of `FLAT`."""
    own = (getattr(spec, field.name) for field in _OWN)
    return *own, *(getattr(spec.variant, field.name) for field in _OF_VARIANT)


def from_flat(values: Sequence[Any]) -> Spec:
    """The inverse of `to_flat`."""
    own = {field.name: value for field, value in zip(_OWN, values, strict=False)}
    return Spec(**own, variant=Variant(*values[len(_OWN) :]))
