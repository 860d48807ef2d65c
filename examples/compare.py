"""LSTM, GRU, RNN and the GRU that resets before its product, on a task that takes memory.

The copy-memory task (Hochreiter and Schmidhuber 1997, in the form of Arjovsky et al. 2016): a few
symbols, then a long blank, then a mark, upon which the symbols have to be told in their order. What
is asked for lies dozens of steps back, and in between there is nothing but the layer's own state.
The gradient of a plain RNN shrinks or grows by a factor at every step on the way there, and it
learns next to nothing. Gated cells have a path on which the state passes unchanged.

It is open only if the gates begin near the state of keeping. So the gates' biases begin at such
values that the cells forget over times spread from one step to the length of the sequence (Tallec
and Ollivier 2018); with torch's initial values neither LSTM nor GRU learns the task in this time.

The two GRUs differ in one place. torch's, which is cuDNN's, multiplies the old state by the weights
and then by the reset gate; the first paper (Cho et al. 2014) takes the gate first, and the product
then. torch.nn has no such layer, so that `--backend torch` leaves this row out.

    python examples/compare.py [--quick] [--cell gru] [--delay STEPS]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import common
from common import Curves, Learner, Result, Schedule

SYMBOLS, KINDS = 3, 8
BLANK, MARK = KINDS, KINDS + 1
HIDDEN, BATCH = 64, 64


@dataclass(frozen=True)
class Row:
    """One of the cells that are compared."""

    name: str
    cell: str
    before: bool = False  # the reset gate before the product, which torch.nn does not have
    gated: bool = True


ROWS = (
    Row("LSTM", "lstm"),
    Row("GRU", "gru"),
    Row("GRU, reset before", "gru", before=True),
    Row("RNN", "rnn", gated=False),
)


@dataclass(frozen=True)
class CopyMemory:
    """Batches of the task, drawn anew in every epoch.

    A batch is the input [T, B, 10], one-hot, and the symbols [3, B] that are to be told after the
    mark, where T = 3 + delay + 3.
    """

    delay: int
    batches: int
    draw: torch.Generator

    @property
    def steps(self) -> int:
        return 2 * SYMBOLS + self.delay

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.batches):
            symbols = torch.randint(KINDS, (SYMBOLS, BATCH), generator=self.draw)
            text = torch.full((self.steps, BATCH), BLANK)
            text[:SYMBOLS] = symbols
            text[-SYMBOLS] = MARK
            yield common.reals(nn.functional.one_hot(text, KINDS + 2)), symbols


class Memory(nn.Module):
    """One recurrent layer, and a linear one on its outputs from the mark on."""

    def __init__(self, options: argparse.Namespace, row: Row, steps: int) -> None:
        super().__init__()
        chosen = common.change(options, cell=row.cell)
        settings = {"reset_after": False} if row.before else {}
        self.rnn = common.make_layer(chosen, KINDS + 2, HIDDEN, **settings)
        self.head = nn.Linear(HIDDEN, KINDS)
        if row.gated:
            self.spread_memory(steps)

    @torch.no_grad()
    def spread_memory(self, steps: int) -> None:
        """Begin with gates that forget over 1 to `steps` steps (Tallec and Ollivier 2018).

        A gate of the value s keeps a state for about 1 / (1 - s) steps, and s = sigmoid(log(n)) is
        n / (n + 1). The gate that keeps is the second of both cells: f of i f g o, z of r z n.
        """
        keep = torch.empty(HIDDEN).uniform_(1, steps - 1).log()
        for bias in (self.rnn.bias_ih_l0, self.rnn.bias_hh_l0):
            bias.zero_()
        self.rnn.bias_ih_l0[HIDDEN : 2 * HIDDEN] = keep
        if isinstance(self.rnn, nn.LSTM):
            self.rnn.bias_ih_l0[:HIDDEN] = -keep

    def forward(self, text: Tensor) -> Tensor:
        """Logits [3, B, 8]."""
        y, _ = self.rnn(text)
        return self.head(y[-SYMBOLS:])

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        text, symbols = batch
        return nn.functional.cross_entropy(self(text).flatten(0, 1), symbols.flatten())

    @torch.no_grad()
    def accuracy(self, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        """The share of symbols that are told rightly."""
        right = [(self(text).argmax(-1) == symbols).float().mean() for text, symbols in batches]
        return float(torch.stack(right).mean())


def learn(options: argparse.Namespace, row: Row) -> tuple[dict[str, float], Curves]:
    """A line of the table, and the curves."""
    delay = options.delay or (30 if options.quick else 60)
    epochs = options.epochs or (15 if options.quick else 30)
    draw = torch.Generator().manual_seed(options.seed)
    training = CopyMemory(delay, 100, draw)
    validation = list(CopyMemory(training.delay, 5, draw))
    torch.manual_seed(options.seed)
    model = Memory(options, row, training.steps)
    measure = lambda: {"accuracy": model.accuracy(validation)}  # noqa: E731
    learner = Learner(model, training, validation, model.loss, measure)
    schedule = Schedule(epochs, learning_rate=1e-2, patience=2 * epochs)  # to the end, all of them
    curves = common.fit(learner, schedule, row.name)
    return {
        "parameters": sum(weight.numel() for weight in model.rnn.parameters()),
        "ms an epoch": 1e3 * statistics.median(curves["epoch_s"]),
        "accuracy": model.accuracy(validation),
    }, curves


def draw_all(table: pandas.DataFrame, curves: dict[str, Curves], title: str) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for (name, curve), colour in zip(curves.items(), common.COLOURS, strict=False):
        left.plot(curve["accuracy"], color=colour, label=name)
    left.axhline(1 / KINDS, color=common.TRUTH, linestyle=":", label="guessing")
    left.set(xlabel="epoch", ylabel="accuracy")
    common.style(left)
    right.barh(table.index, table["ms an epoch"], color=common.COLOURS[: len(table)])
    right.invert_yaxis()
    right.set(xlabel="ms an epoch")
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def example(options: argparse.Namespace) -> Result:
    rows = [row for row in ROWS if options.cell in (None, row.cell)]
    if options.backend == "torch":
        rows = [row for row in rows if not row.before]
    lines, curves = {}, {}
    for row in rows:
        lines[row.name], curves[row.name] = learn(options, row)
    table = pandas.DataFrame.from_dict(lines, orient="index")
    print(table.to_string(float_format="{:.3g}".format))
    # A plain RNN is shown for what it cannot do; the others have to do it.
    judged = [row.name for row in rows if row.gated] or list(lines)
    worst = min(lines[name]["accuracy"] for name in judged)
    picture = draw_all(table, curves, f"copy memory, {options.backend}")
    return Result("worst accuracy of a gated cell", worst, 1 / KINDS, curves, lines, picture)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Compare recurrent cells on the copy-memory task.")
    parser.set_defaults(cell=None)  # all of them
    parser.add_argument(
        "--delay", type=common.count, metavar="STEPS", help="of blank before the mark"
    )
    common.run("compare", example, parser.parse_args(arguments))


if __name__ == "__main__":
    main()
