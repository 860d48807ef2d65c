"""What is timed: workloads as frozen values, and the named grids that collect them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fastrnn import cells

Cell = Literal["lstm", "gru", "rnn"]
Phase = Literal["inference", "training"]
DType = Literal["float32", "float64", "float16", "bfloat16"]

CELLS: tuple[Cell, ...] = get_args(Cell)
PHASES: tuple[Phase, ...] = get_args(Phase)

GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "rnn": 1}

SEED = 20240229


@dataclass(frozen=True)
class Workload:
    """One layer (or cell) applied to one batch, with zero initial states.

    Attributes
    ----------
    cell : which recurrence; ``"rnn"`` is the tanh one.
    T, B, I, H : steps, sequences, input features, hidden units.
    layers, bidirectional, batch_first, proj_size : as in ``torch.nn.LSTM``.
    lengths : real steps of each sequence; the batch is then a ``PackedSequence``. None is dense.
    padded : a batch with lengths stays a padded tensor; who cannot take lengths packs and unpacks.
    episode : mean steps between resets of the state in mid-sequence; 0 is without.
    single_step : the cell's class (``LSTMCell``) instead of the layer's; T is 1.
    dtype : of the input and of every parameter.
    variant : options that torch's layers lack, as (name, value).
    formats : compares formats of weights: those who pack or round them once take part as well.
    program : a cell of ``fastrnn.cells`` by its name, in one layer and one direction; `cell` is
        then its kin among the built-in ones. Empty is the built-in cell itself.
    """

    cell: Cell
    T: int
    B: int
    I: int  # noqa: E741 - the letter that the whole literature uses
    H: int
    layers: int = 1
    bidirectional: bool = False
    batch_first: bool = False
    proj_size: int = 0
    lengths: tuple[int, ...] | None = None
    padded: bool = False
    episode: int = 0
    single_step: bool = False
    dtype: DType = "float32"
    variant: tuple[tuple[str, str | float], ...] = ()
    program: str = ""
    formats: bool = False

    @property
    def shape(self) -> str:
        """The sizes and the options that differ from the defaults, in a few characters."""
        options = {
            "cell": self.single_step,
            f"L{self.layers}": self.layers > 1,
            "bi": self.bidirectional,
            f"P{self.proj_size}": self.proj_size > 0,
            "ragged": self.padded,
            "packed": self.lengths is not None and not self.padded,
            "resets": self.episode > 0,
            "batch_first": self.batch_first,
            "f64": self.dtype == "float64",
            "f16": self.dtype == "float16",
            "bf16": self.dtype == "bfloat16",
            **{_label(name, value): True for name, value in self.variant},
        }
        sizes = f"T{self.T} B{self.B} I{self.I} H{self.H}"
        return " ".join([sizes, *(name for name, chosen in options.items() if chosen)])

    @property
    def name(self) -> str:
        """Identifies the workload within a grid."""
        return f"{self.recurrence} {self.shape}"

    @property
    def recurrence(self) -> str:
        """What is computed in a step: the program's name, or the built-in cell's."""
        return self.program or self.cell

    @property
    def is_in_torch(self) -> bool:
        """Whether torch.nn has a layer that computes this, be it from a program here or not."""
        return not self.variant and self.program in ("", self.cell.upper())

    @property
    def rows(self) -> int:
        """Steps that a batch really holds: padding is not work."""
        return self.T * self.B if self.lengths is None else sum(self.lengths)

    def flops(self, phase: Phase) -> int:
        """Floating-point operations in matrix products, two per multiply-add.

        A training step counts three times the forward pass: the gradients of the data and of the
        weights are each a product as large as the forward one.
        """
        directions = 2 if self.bidirectional else 1
        state = self.proj_size or self.H
        per_row = 0
        for layer in range(self.layers):
            features = self.I if layer == 0 else directions * state
            gates, recurrent = self._gates_and_reach(state)
            per_row += directions * self.H * (gates * (features + recurrent) + self.proj_size)
        return 2 * self.rows * per_row * (3 if phase == "training" else 1)

    def _gates_and_reach(self, state: int) -> tuple[int, int]:
        """How many gates there are, and with how many numbers of the state each unit is joined."""
        if not self.program:
            return GATES[self.cell], state
        cell = getattr(cells, self.program)
        blocks = int(dict(self.variant).get("num_heads", 1))
        return len(cell.gates.split()), 0 if cell.recurrent == "none" else state // blocks


def _label(option: str, value: str | float) -> str:
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{_SHORT.get(option, option)} {value}"


_SHORT = {"recurrent_dropout": "drop h", "weight_dropout": "drop w", "layer_norm": "norm"}
"""What a table has no room for."""


def ragged_lengths(T: int, B: int) -> tuple[int, ...]:
    """Draw B uniform lengths in [1, T], unsorted, of which the first is T."""
    draw = random.Random(SEED)
    return (T, *(draw.randint(1, T) for _ in range(B - 1)))


def _peers() -> Iterable[Workload]:
    """One layer, one direction, from a single cell step to a compute-bound 1024 units."""
    shapes = [
        (1, 1, 128, 128),
        (1, 16, 64, 64),
        (100, 1, 128, 128),
        (100, 1, 256, 256),
        (100, 1, 512, 512),
        (50, 8, 128, 128),
        (100, 32, 128, 128),
        (100, 32, 256, 256),
        (100, 64, 512, 512),
        (35, 20, 650, 650),
        (100, 64, 1024, 1024),
        (512, 16, 128, 128),
        (28, 128, 28, 128),
        (1000, 1, 64, 64),
    ]
    for cell in ("lstm", "gru"):
        for shape in shapes:
            yield Workload(cell, *shape)


def _quick() -> Iterable[Workload]:
    """A few of each kind: latency, one sequence, a batch, odd sizes, packed, and every cell."""
    for cell in ("lstm", "gru"):
        yield Workload(cell, 1, 1, 128, 128)
        yield Workload(cell, 100, 1, 128, 128)
        yield Workload(cell, 100, 32, 128, 128)
    yield Workload("lstm", 35, 20, 650, 650)
    yield Workload(
        "lstm", 60, 8, 64, 64, layers=2, bidirectional=True, lengths=ragged_lengths(60, 8)
    )
    yield Workload("rnn", 100, 32, 128, 128)


def _options() -> Iterable[Workload]:
    """Every option of the layers at one middling size, and ragged batches at three."""
    for cell in CELLS:
        size = (cell, 100, 32, 128, 128)
        yield Workload(*size, layers=2, bidirectional=True)
        yield Workload(*size, batch_first=True)
        yield Workload(*size, dtype="float64")
        yield Workload(*size, lengths=ragged_lengths(100, 32))
    yield Workload("lstm", 100, 32, 128, 256, proj_size=64)
    for cell in ("lstm", "gru"):
        lengths = ragged_lengths(400, 16)
        yield Workload(cell, 400, 16, 64, 64, layers=2, bidirectional=True, lengths=lengths)
        yield Workload(cell, 200, 32, 256, 256, lengths=ragged_lengths(200, 32))


def _cells() -> Iterable[Workload]:
    """Single steps: what a decoder, an agent or a live audio filter pays for each call."""
    for cell in CELLS:
        for B, H in [(1, 64), (1, 128), (1, 512), (16, 64), (64, 256)]:
            yield Workload(cell, 1, B, H, H, single_step=True)


def _small() -> Iterable[Workload]:
    """Few units and long sequences, where the cost of a step is overhead, not arithmetic."""
    for cell in CELLS:
        yield Workload(cell, 1000, 1, 8, 16)
        yield Workload(cell, 1000, 1, 32, 32)
        yield Workload(cell, 1000, 4, 5, 20)
        yield Workload(cell, 5000, 1, 1, 8)


def _ragged() -> Iterable[Workload]:
    """Sequences of half the steps on average: by lengths, packed, and all of full length."""
    for cell in ("lstm", "gru"):
        for full in (
            Workload(cell, 100, 32, 128, 128),
            Workload(cell, 400, 16, 64, 64),
            Workload(cell, 400, 16, 64, 64, layers=2, bidirectional=True),
            Workload(cell, 200, 32, 256, 256),
            Workload(cell, 200, 32, 256, 256, layers=2, bidirectional=True),
        ):
            ragged = replace(full, lengths=ragged_lengths(full.T, full.B))
            yield replace(ragged, padded=True)
            yield ragged
            yield full


def _resets() -> Iterable[Workload]:
    """Rollouts in which episodes end, and the same without."""
    for cell in ("lstm", "gru"):
        for shape in [(128, 8, 64, 256), (128, 16, 64, 128), (512, 8, 64, 64), (64, 32, 256, 256)]:
            yield Workload(cell, *shape, episode=32)
            yield Workload(cell, *shape)


def _variants() -> Iterable[Workload]:
    """Cells that torch lacks, each with its plain sister before it."""
    options: dict[Cell, list[tuple[str, str | float]]] = {
        "lstm": [("peephole", "ifo"), ("activation", "elu"), ("input_forget", True)],
        "gru": [("reset_after", False), ("activation", "elu")],
    }
    for cell, variants in options.items():
        for plain in (Workload(cell, 50, 8, 64, 64), Workload(cell, 50, 1, 64, 64)):
            yield plain
            for option in variants:
                yield replace(plain, variant=(option,))


def _regularised() -> Iterable[Workload]:
    """Dropout in the recurrence, zoneout and norms, after the plain layer that each changes."""
    options: list[tuple[str, str | float]] = [
        ("weight_dropout", 0.5),
        ("recurrent_dropout", 0.3),
        ("zoneout", 0.1),
        ("layer_norm", "both"),
    ]
    for cell in ("lstm", "gru"):
        for B, H in [(1, 64), (8, 128), (32, 128), (32, 512)]:
            plain = Workload(cell, 100, B, H, H)
            yield plain
            for option in options:
                yield replace(plain, variant=(option,))


def _unseen() -> Iterable[Workload]:
    """Sizes that no other grid has: odd widths, wide inputs, tiny batches, narrow and long."""
    shapes = [
        (100, 1, 37, 37),
        (60, 7, 100, 100),
        (100, 16, 129, 129),
        (40, 24, 300, 300),
        (50, 1, 513, 513),
        (30, 50, 200, 513),
        (100, 8, 1000, 64),
        (200, 1, 1000, 64),
        (100, 2, 128, 128),
        (100, 3, 256, 256),
        (100, 5, 200, 200),
        (20, 3, 650, 650),
        (2000, 1, 8, 12),
        (1000, 5, 16, 24),
    ]
    for cell in CELLS:
        for shape in shapes:
            yield Workload(cell, *shape)


def _busy() -> Iterable[Workload]:
    """A few rows and many steps: what suffers most where a thread is kept from its processor."""
    for cell in ("lstm", "gru"):
        for shape in [(100, 1, 128, 128), (100, 1, 512, 512), (100, 16, 256, 256)]:
            yield Workload(cell, *shape)
        yield Workload(cell, 35, 20, 650, 650)


def _long() -> Iterable[Workload]:
    """One small layer over ever more steps, each of which should cost the same."""
    for cell in ("lstm", "gru"):
        for T in (100, 1_000, 10_000, 100_000):
            yield Workload(cell, T, 1, 32, 32)


def _programs() -> Iterable[Workload]:
    """Cells of `fastrnn.cells`: two that are built in as well, and five that torch lacks."""
    compiled: tuple[Cell, ...] = ("lstm", "gru")
    for cell in compiled:
        for B in (1, 8, 32):
            for H in (64, 128, 512):
                yield Workload(cell, 100, B, H, H, program=cell.upper())
    others: list[tuple[str, Cell]] = [
        ("SLSTM", "lstm"),
        ("LayerNormLSTM", "lstm"),
        ("GRUD", "gru"),
        ("MGU", "gru"),
        ("MinGRU", "gru"),
    ]
    for program, kin in others:
        variant = (("num_heads", 4),) if program == "SLSTM" else ()
        for B, H in [(1, 64), (4, 64), (32, 128)]:
            yield Workload(kin, 100, B, H, H, program=program, variant=variant)


def _formats() -> Iterable[Workload]:
    """Few rows and many, with weights that stay in a cache and such that outgrow it."""
    for cell in ("lstm", "gru"):
        for H in (128, 384, 768):
            for T, B in ((1, 1), (20, 1), (50, 1), (50, 4), (8, 32)):
                yield Workload(cell, T, B, H, H, formats=True)


def _cudnn() -> Iterable[Workload]:
    """One layer on a GPU around a middling size, and what cuDNN has slower algorithms for."""
    middle: dict[str, Any] = {"T": 512, "B": 16, "I": 512, "H": 512}
    shapes: list[dict[str, Any]] = [
        *({"T": T} for T in (128, 512, 2048)),
        *({"B": B} for B in (1, 4, 64, 256)),
        *({"I": H, "H": H} for H in (64, 128, 256, 768, 1024, 2048)),
    ]
    others: list[dict[str, Any]] = [
        {"bidirectional": True},
        {"layers": 2},
        {"lengths": ragged_lengths(512, 16)},
        {"B": 13, "lengths": ragged_lengths(512, 13), "bidirectional": True, "layers": 2},
    ]
    dtypes: tuple[DType, ...] = ("float16", "bfloat16", "float32")
    for cell in ("lstm", "gru"):
        for dtype in dtypes:
            for changes in (*shapes, *others):
                yield Workload(cell, dtype=dtype, **{**middle, **changes})


def _cudnn_quick() -> Iterable[Workload]:
    """A few points of that grid: short, long, wide, in both directions, packed."""
    few = (
        "T128 B16 I512 H512",
        "T2048 B16 I512 H512",
        "T512 B16 I1024 H1024",
        "T512 B16 I512 H512 bi",
        "T512 B16 I512 H512 packed",
    )
    for workload in _cudnn():
        sizes, _, dtype = workload.shape.rpartition(" ")
        if workload.shape in few or (sizes in few and dtype in ("f16", "bf16")):
            yield workload


GRIDS: dict[str, tuple[Workload, ...]] = {
    "peers": tuple(_peers()),
    "quick": tuple(_quick()),
    "options": tuple(_options()),
    "cells": tuple(_cells()),
    "small": tuple(_small()),
    "ragged": tuple(_ragged()),
    "resets": tuple(_resets()),
    "variants": tuple(_variants()),
    "regularised": tuple(_regularised()),
    "unseen": tuple(_unseen()),
    "busy": tuple(_busy()),
    "long": tuple(_long()),
    "programs": tuple(_programs()),
    "formats": tuple(_formats()),
    "cudnn": tuple(_cudnn()),
    "cudnn-quick": tuple(_cudnn_quick()),
}
