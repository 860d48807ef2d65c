"""What is to be computed, as those who check, compute and judge it tell one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

__all__ = [
    "CELLS",
    "FLAT",
    "GATES",
    "PLAIN",
    "Cell",
    "Outputs",
    "Spec",
    "Variant",
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
    """What one of torch's cells consists of."""

    kind: str
    """What torch calls the layer; the cell is the same with "Cell" behind."""
    gates: str
    """A letter for each block of H rows of a weight, in torch's order."""
    states: str
    """A letter for each state, in the order of ``hx``."""
    activation: str
    """Of the candidate: g of the LSTM, n of the GRU, h of the RNN."""
    reads_hidden: bool
    """Whether the step before's h enters beside its product with W_hh, too, as z * h in the GRU."""


CELLS = {
    "lstm": Cell("LSTM", "ifgo", "hc", "tanh", False),
    "gru": Cell("GRU", "rzn", "h", "tanh", True),
    "rnn_tanh": Cell("RNN", "h", "h", "tanh", False),
    "rnn_relu": Cell("RNN", "h", "h", "relu", False),
}
"""Every cell by the name that it has in a `Spec`, in capitals torch's ``mode``."""

GATES = {cell.kind: cell.gates for cell in CELLS.values()}
"""The gates by what torch calls the layer."""


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

    ``cell`` is "lstm", "gru", "rnn_tanh" or "rnn_relu"; ``proj_size`` is 0 without a projection;
    ``dropout`` is 0 when not training.
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

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def out(self) -> int:
        """K, the features of h, which a direction of a layer puts out."""
        return self.proj_size or self.hidden_size

    @property
    def gates(self) -> str:
        """Their letters in the order of a weight's rows."""
        return CELLS[self.cell].gates

    @property
    def has_cell_state(self) -> bool:
        return "c" in CELLS[self.cell].states

    @property
    def widths(self) -> tuple[int, ...]:
        """The features of each state: of h, and of c where there is one."""
        return (self.out, self.hidden_size)[: len(CELLS[self.cell].states)]


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
