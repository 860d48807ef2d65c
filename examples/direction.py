"""Will the price be higher tomorrow? A classifier, and what its accuracy is worth.

A window of days, each told by its return (the change of the logarithm of the price), goes through
an LSTM, dropout of one half and a sigmoid unit, which says how likely it is that the next day ends
higher. The default prices are Google's from 2004 to 2008, which matplotlib ships; `--csv` takes a
column of one's own, one price a day, the oldest first.

What has to be beaten is to call every day up, or every day down, whichever was more frequent. A
published price holds what was known when it was paid, so there is hardly anything left in it to
learn from, and an accuracy some points above one half is what chance gives on two hundred days. So
the script says two things more. It gives an interval for the accuracy (Wilson's, 95%): if it holds
the majority's share, nothing has been predicted. And it trains the same model on a control, a
series drawn at random in which nine days of ten turn the direction of the day before. A rule is
found there, so if none is found in the prices, it is not for want of learning. Nor does it prove
that there is none: this is one model, and it sees nothing but returns. And of profit nothing is
said at all.

    python examples/direction.py [--quick] [--cell gru] [--csv FILE --column NAME]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

import common
from common import Curves, DataFileError, Learner, Result, Schedule

DAYS, HIDDEN, DROPOUT = 20, 64, 0.5
FEWEST = 10 * DAYS
TURNED = 0.9  # of the control's days go against the day before


def load_prices(options: argparse.Namespace) -> np.ndarray:
    """A price a day [N].

    Raises
    ------
    DataFileError
        The file is missing or malformed, holds too few days, or a price that is not positive.
    """
    if not options.csv:
        return get_sample_data("goog.npz")["price_data"]["adj_close"]
    prices = common.read_column(options.csv, options.column)
    if len(prices) < FEWEST or prices.min() <= 0:
        raise DataFileError(
            f"{options.csv}: expected {FEWEST} positive prices or more, "
            f"found {len(prices)} from {min(prices, default=0):g}"
        )
    return prices


def control_returns(like: np.ndarray, seed: int) -> np.ndarray:
    """Returns [N] of the same sizes in another order, most of them against the one before."""
    draw = np.random.default_rng(seed)
    turns = np.where(draw.random(len(like)) < TURNED, -1, 1)
    return np.abs(draw.permutation(like)) * np.cumprod(turns)


@dataclass(frozen=True)
class Days:
    """Windows of returns [N, DAYS, 1] and whether the day after went up [N]."""

    returns: Tensor
    up: Tensor

    def part(self, first: float, last: float) -> tuple[Tensor, Tensor]:
        """Those from one share of the time to another."""
        rows = slice(int(first * len(self.up)), int(last * len(self.up)))
        return self.returns[rows], self.up[rows]


def make_days(returns: np.ndarray) -> Days:
    scaled = returns / returns[: int(0.7 * len(returns))].std()
    past = np.lib.stride_tricks.sliding_window_view(scaled[:-1], DAYS)
    return Days(common.reals(past.copy()).unsqueeze(-1), common.reals(returns[DAYS:] > 0))


class Direction(nn.Module):
    """One recurrent layer, dropout, and a unit whose sigmoid is the probability of a rise."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.rnn = common.make_layer(options, 1, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, returns: Tensor) -> Tensor:
        """What the sigmoid is to be taken of [B]."""
        y, _ = self.rnn(returns)
        return self.head(self.dropout(y[:, -1])).squeeze(-1)

    @torch.no_grad()
    def accuracy(self, days: tuple[Tensor, Tensor]) -> float:
        returns, up = days
        return float(((self(returns).sigmoid() > 0.5) == up.bool()).float().mean())


def learn(options: argparse.Namespace, name: str, days: Days) -> tuple[dict[str, float], Curves]:
    """Train on the first 70%, stop by the next 15%, and judge by the last: figures and curves."""
    training, validation, test = days.part(0, 0.7), days.part(0.7, 0.85), days.part(0.85, 1)
    torch.manual_seed(options.seed)
    model = Direction(options)
    learner = Learner(
        model,
        common.make_batches(training, 32, options.seed),
        common.make_batches(validation, len(validation[1])),
        lambda batch: nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1]),
        lambda: {
            "training accuracy": model.accuracy(training),
            "validation accuracy": model.accuracy(validation),
        },
    )
    epochs = options.epochs or (30 if options.quick else 100)
    schedule = Schedule(epochs, learning_rate=3e-3, patience=15)
    curves = common.fit(learner, schedule, f"{name}, {options.cell}")
    majority = float(training[1].mean() > 0.5)
    accuracy, count = model.accuracy(test), len(test[1])
    low, high = proportion_confint(round(accuracy * count), count, method="wilson")
    return {
        "accuracy": accuracy,
        "majority": float((test[1] == majority).float().mean()),
        "low": float(low),
        "high": float(high),
        "days": count,
    }, curves


def verdict(name: str, figures: dict[str, float]) -> str:
    interval = f"{figures['low']:.3f} to {figures['high']:.3f}"
    told = f"{name}: accuracy {figures['accuracy']:.3f} ({interval}) on {figures['days']:.0f} days"
    against = f"the majority class {figures['majority']:.3f}"
    if figures["low"] > figures["majority"]:
        return f"{told}, above {against}"
    if figures["high"] < figures["majority"]:
        return f"{told}, below {against}"
    return f"{told}, no different from {against}: nothing has been predicted"


def draw(panels: Sequence[Axes], name: str, curves: Curves) -> None:
    common.plot_curves(panels[0], curves, "training", "validation")
    panels[0].set_title(f"{name}: cross-entropy", fontsize=10)
    common.plot_curves(panels[1], curves, "training accuracy", "validation accuracy")
    panels[1].set_title(f"{name}: accuracy", fontsize=10)


def example(options: argparse.Namespace) -> Result:
    returns = np.diff(np.log(load_prices(options)))
    figure = Figure(figsize=(9, 6), layout="constrained")
    figures, curves = {}, {}
    series = {"prices": returns, "control": control_returns(returns, options.seed)}
    for (name, values), panels in zip(series.items(), figure.subplots(2, 2), strict=True):
        figures[name], curves[name] = learn(options, name, make_days(values))
        draw(panels, name, curves[name])
        print(verdict(name, figures[name]))
    prices = figures["prices"]
    return Result("accuracy", prices["accuracy"], prices["majority"], curves, figures, figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Will the price be higher tomorrow?")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="prices of your own, oldest first")
    parser.add_argument("--column", help="of that file")
    options = parser.parse_args(arguments)
    if options.csv and not options.column:
        parser.error("--csv needs --column")
    if options.column and not options.csv:
        parser.error("--column: expected a file, by --csv")
    common.run("direction", example, options)


if __name__ == "__main__":
    main()
