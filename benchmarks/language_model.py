"""End to end: a character language model trained twice, with torch.nn and with fastrnn.convert.

An embedding, two recurrent layers with dropout between them and a linear layer learn the sources
of Python's standard library by truncated back-propagation through time: the state is carried from
one window of the text to the next, the gradient is not. Both models start from the same weights and
draw the same dropout masks, so their loss curves must agree but for rounding.
"""

from __future__ import annotations

import copy
import math
import statistics
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import BASELINE, SUBJECT, fastrnn_layers
from benchmarks.timing import WARM_CALLS, quiet_block, ratio_of_rounds
from benchmarks.workloads import SEED, Cell

# Training amplifies rounding exponentially: torch's own LSTM with and without oneDNN, or with its
# recurrence in float64, stays within 1e-6 of the loss for 100 steps and drifts to 6e-3 in 300. So
# the early curve shows an error in a gradient, and the rest shows that nothing worse happens later.
EARLY_STEPS, EARLY_TOLERANCE, TOLERANCE = 100, 1e-4, 3e-2

CELLS: tuple[Cell, ...] = ("lstm", "gru")
VOCABULARY = 128  # ASCII; the sources hold hardly anything else, and what else they hold is dropped
LEARNING_RATE = 1e-3

Conversion = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Size:
    """How large the model is and how long it learns.

    Attributes
    ----------
    steps : windows of the text learned from, one optimiser step each.
    block : steps that one model makes before it is the other's turn; divides ``steps``.
    window, batch : characters of each text that a step sees, texts side by side.
    """

    steps: int
    block: int = 10
    window: int = 64
    batch: int = 32
    features: int = 64
    hidden: int = 256
    dropout: float = 0.1
    held_out_windows: int = 8

    @property
    def blocks(self) -> int:
        """How many blocks each model is given."""
        return self.steps // self.block


FULL = Size(steps=300)
QUICK = Size(steps=100)


@dataclass(frozen=True)
class Outcome:
    """What both trainings did.

    Attributes
    ----------
    losses : model -> loss of each step in nats per character.
    bits : model -> bits per character on text that was not learned from.
    block_ms : model -> median time of a step in each block.
    """

    cell: Cell
    size: Size
    losses: dict[str, list[float]]
    bits: dict[str, float]
    block_ms: dict[str, list[float]]

    def largest_difference(self, steps: int | None = None) -> float:
        """Largest difference between the curves (or their first steps), over the loss there."""
        first, *others = (curve[:steps] for curve in self.losses.values())
        pairs = (pair for other in others for pair in zip(first, other, strict=True))
        return max((abs(a - b) / a for a, b in pairs), default=0.0)

    def agrees(self) -> bool:
        """Whether the curves stay as close as rounding lets them."""
        finite = all(math.isfinite(loss) for curve in self.losses.values() for loss in curve)
        early = self.largest_difference(EARLY_STEPS)
        return finite and early <= EARLY_TOLERANCE and self.largest_difference() <= TOLERANCE

    def step_ms(self) -> dict[str, float]:
        """Return model -> median time of a training step."""
        return {name: statistics.median(blocks) for name, blocks in self.block_ms.items()}

    def ratio(self, slower: str, faster: str) -> float:
        return ratio_of_rounds(self.block_ms[slower], self.block_ms[faster])

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "step_ms": self.step_ms(),
            "largest_difference": self.largest_difference(),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Outcome:
        measured = {key: content[key] for key in ("cell", "losses", "bits", "block_ms")}
        return Outcome(**measured, size=Size(**content["size"]))


def conversions() -> dict[str, Conversion]:
    """Return contender -> what makes its model of a torch.nn one, for those installed."""
    found: dict[str, Conversion] = {BASELINE: lambda model: model}
    if fastrnn_layers.CONTENDER.missing() is None:
        found[SUBJECT] = import_module("fastrnn").convert
    return found


class CharacterModel(nn.Module):
    """Predicts the next character of each text from those before it."""

    def __init__(self, cell: Cell, size: Size) -> None:
        super().__init__()
        layers = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        self.embedding = nn.Embedding(VOCABULARY, size.features)
        self.rnn = layers[cell](size.features, size.hidden, num_layers=2, dropout=size.dropout)
        self.head = nn.Linear(size.hidden, VOCABULARY)

    def forward(self, characters: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Map characters (T, B) and the state before to logits (T, B, V) and the state after."""
        y, state = self.rnn(self.embedding(characters), state)
        return self.head(y), state


class Learner:
    """One of the two trainings: model, optimiser, place in the text and random numbers."""

    def __init__(self, model: nn.Module, text: torch.Tensor, size: Size) -> None:
        self.model = model
        self.losses: list[float] = []
        self.block_ms: list[float] = []
        self._text = text
        self._size = size
        self._optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        self._state: Any = None
        self._random = torch.Generator().manual_seed(SEED).get_state()

    def run_block(self) -> None:
        """Learn from the next block of windows, with dropout masks of one's own stream."""
        seconds = []
        torch.set_rng_state(self._random)
        with quiet_block():
            for _ in range(self._size.block):
                start = time.perf_counter()
                self._step()
                seconds.append(time.perf_counter() - start)
        self._random = torch.get_rng_state()
        self.block_ms.append(1e3 * statistics.median(seconds[WARM_CALLS:]))

    def _step(self) -> None:
        self._optimiser.zero_grad()
        loss, state = _window_loss(
            self.model, self._text, self._size.window, len(self.losses), self._state
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._state = _detached(state)
        self.losses.append(loss.item())

    @torch.no_grad()
    def held_out_bits(self) -> float:
        """Bits per character on the windows that follow those learned from."""
        self.model.eval()
        losses, state = [], self._state
        for window in range(self._size.steps, self._size.steps + self._size.held_out_windows):
            loss, state = _window_loss(self.model, self._text, self._size.window, window, state)
            losses.append(loss.item())
        return statistics.fmean(losses) / math.log(2)


def compare(
    cell: Cell,
    size: Size,
    conversions: Mapping[str, Conversion],
    on_block: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train one initial model once for each conversion, in blocks that take turns.

    Parameters
    ----------
    conversions : name -> what makes that contender's model of a torch.nn one; may work in place.
    on_block : called after each block, between the timed parts.
    """
    text = read_text(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        initial = CharacterModel(cell, size)
        learners = {
            name: Learner(convert(copy.deepcopy(initial)), text, size)
            for name, convert in conversions.items()
        }
        order = list(learners.values())
        for _ in range(size.blocks):
            for learner in order:
                learner.run_block()
                on_block()
            order.reverse()
    return Outcome(
        cell,
        size,
        losses={name: learner.losses for name, learner in learners.items()},
        bits={name: learner.held_out_bits() for name, learner in learners.items()},
        block_ms={name: learner.block_ms for name, learner in learners.items()},
    )


def read_text(size: Size) -> torch.Tensor:
    """Read the standard library's own modules, in alphabetical order, as texts side by side.

    Returns
    -------
    torch.Tensor
        (L, B) int64, ASCII codes; each column is a text, and L is just enough for the windows and
        one character more, the last one's target.

    Raises
    ------
    ValueError
        The sources on this machine hold less text than that.
    """
    length = size.window * (size.steps + size.held_out_windows) + 1
    wanted = length * size.batch
    text = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += bytes(character for character in path.read_bytes() if character < VOCABULARY)
        if len(text) >= wanted:
            codes = torch.frombuffer(text[:wanted], dtype=torch.uint8)
            return codes.view(size.batch, length).t().long().contiguous()
    raise ValueError(f"expected {wanted} characters of Python's sources, found {len(text)}")


def _window_loss(
    model: nn.Module, text: torch.Tensor, window: int, index: int, state: Any
) -> tuple[torch.Tensor, Any]:
    """Cross-entropy in nats of a window's characters, each shifted by one, and the state after."""
    start = window * index
    logits, state = model(text[start : start + window], state)
    targets = text[start + 1 : start + window + 1]
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), state


def _detached(state: Any) -> Any:
    return tuple(map(_detached, state)) if isinstance(state, tuple) else state.detach()
