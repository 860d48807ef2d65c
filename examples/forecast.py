"""Forecasting a season ahead: LSTM against GRU against what last season was.

Two real series that statsmodels ships: sunspots, a number a year since 1700 with a cycle of some
eleven years, and the carbon dioxide above Mauna Loa, monthly since 1958. A window of three seasons
goes through one recurrent layer, and a linear layer tells the whole next season from its last
output. Networks learn the range of numbers that they are shown, and carbon dioxide leaves it for
ever; so a window is told as differences from its last value, and so is the answer.

What has to be beaten costs nothing: next season will be like the last (seasonal naive), or like it
and higher by as much as the last was above the one before (with drift). Everything is split by
time, learning from the first 70%, choosing by the next 15%, judging by the last.

    python examples/forecast.py [--quick] [--cell gru] [--csv FILE --column NAME --season STEPS]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from statsmodels.datasets import co2, sunspots
from torch import Tensor, nn

import common
from common import Curves, DataFileError, Result

SEASONS_SEEN = 3
HIDDEN, DROPOUT = 64, 0.5
NAIVE = "seasonal naive"


@dataclass(frozen=True)
class Series:
    """Values [N] at equal distances, and after how many of them they come round."""

    name: str
    values: np.ndarray
    season: int


def load_series(options: argparse.Namespace) -> list[Series]:
    if options.csv:
        values = common.read_column(options.csv, options.column)
        return [Series(options.column, values, options.season)]
    months = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    years = sunspots.load_pandas().data["SUNACTIVITY"]
    return [
        Series("sunspots", years.to_numpy(float), season=11),
        Series("co2", months.to_numpy(float), season=12),
    ]


class Windows:
    """Every window of a series with the season after it, split by time, in units of the network.

    Attributes
    ----------
    past, future : [N, 3 S] and [N, S], S the season.
    training, validation, test : rows of both; no target of one is a target of another.
    """

    def __init__(self, series: Series) -> None:
        season, steps = series.season, len(series.values)
        seen = SEASONS_SEEN * season
        if steps < 4 * (seen + season):
            needed = 4 * (seen + season)
            raise DataFileError(f"{series.name}: expected {needed} values or more, found {steps}")
        both = sliding_window_view(series.values, seen + season)
        self.past, self.future = both[:, :seen], both[:, seen:]
        first = np.arange(len(both)) + seen
        learnt, chosen = int(0.7 * steps), int(0.85 * steps)
        self.training = np.flatnonzero(first + season <= learnt)
        self.validation = np.flatnonzero((first >= learnt) & (first + season <= chosen))
        self.test = np.flatnonzero(first >= chosen)
        known = series.values[:learnt]
        self.scale = np.std(known[season:] - known[:-season])

    def tensors(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Past [N, 3 S, 1] and future [N, S] as differences from the last value of the past."""
        last = self.past[rows, -1:]
        past, future = ((x[rows] - last) / self.scale for x in (self.past, self.future))
        return common.reals(past).unsqueeze(-1), common.reals(future)

    def naive(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What costs no learning [N, S], by name."""
        season = self.future.shape[1]
        last, before = self.past[rows, -season:], self.past[rows, -2 * season : -season]
        drift = (last - before).mean(1, keepdims=True)
        return {NAIVE: last, "naive with drift": last + drift}


class Forecaster(nn.Module):
    """One recurrent layer, dropout, and a linear layer on the last step's output."""

    def __init__(self, options: argparse.Namespace, season: int) -> None:
        super().__init__()
        self.rnn = common.make_layer(options, 1, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN, season)

    def forward(self, past: Tensor) -> Tensor:
        """The next season [B, S] of each window [B, T, 1]."""
        y, _ = self.rnn(past)
        return self.head(self.dropout(y[:, -1]))


def learn(options: argparse.Namespace, series: Series, data: Windows) -> tuple[np.ndarray, Curves]:
    """Forecasts [N, S] for the test's windows, and the curves."""
    torch.manual_seed(options.seed)
    model = Forecaster(options, series.season)
    learner = common.Learner(
        model,
        common.make_batches(data.tensors(data.training), 32, options.seed),
        common.make_batches(data.tensors(data.validation), len(data.validation)),
        lambda batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    )
    epochs = options.epochs or (40 if options.quick else 200)
    schedule = common.Schedule(epochs, learning_rate=3e-3, patience=20)
    curves = common.fit(learner, schedule, f"{series.name}, {options.cell}")
    with torch.no_grad():
        changes = model(data.tensors(data.test)[0]).double().numpy()
    return data.past[data.test, -1:] + changes * data.scale, curves


def errors(forecast: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {
        "mse": float(np.square(forecast - truth).mean()),
        "mae": float(np.abs(forecast - truth).mean()),
    }


def draw(axes: Axes, series: Series, data: Windows, told: dict[str, np.ndarray]) -> None:
    """The test's years: the truth, and of each model a forecast at the end of every season."""
    first = data.test[0] + data.past.shape[1]
    axes.plot(series.values[first:], color=common.TRUTH, label="truth")
    for (name, forecast), colour in zip(told.items(), common.COLOURS, strict=False):
        for start in range(0, len(forecast), series.season):
            steps = range(start, start + series.season)
            label = None if start else name
            axes.plot(steps, forecast[start], "--", color=colour, linewidth=1, label=label)
    axes.set_title(f"{series.name}: a season ahead", fontsize=10)
    axes.set_xlabel("steps since the test began")
    common.style(axes)


def example(options: argparse.Namespace) -> Result:
    all_series = load_series(options)
    figure = Figure(figsize=(9, 3.2 * len(all_series)), layout="constrained")
    panels = figure.subplots(len(all_series), squeeze=False).flat
    curves, scores = {}, {}
    for series, axes in zip(all_series, panels, strict=True):
        data = Windows(series)
        told = {}
        for cell in options.cells:
            chosen = common.change(options, cell=cell)
            told[cell], curves[f"{series.name}, {cell}"] = learn(chosen, series, data)
        naive = data.naive(data.test)
        draw(axes, series, data, told | {NAIVE: naive[NAIVE]})
        told |= naive
        scores[series.name] = {x: errors(told[x], data.future[data.test]) for x in told}
    ratios = []
    for name, score in scores.items():
        for model, error in score.items():
            print(f"{name:10} {model:16}  MSE {error['mse']:8.4g}  MAE {error['mae']:6.4g}")
        ratios += [score[cell]["mse"] / score[NAIVE]["mse"] for cell in options.cells]
    return Result("worst MSE over the seasonal naive's", max(ratios), 1.0, curves, scores, figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Forecast a series by LSTM, GRU and the season before.")
    parser.set_defaults(cell=None)  # both
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a series of your own, in order")
    parser.add_argument("--column", help="of that file")
    parser.add_argument(
        "--season", type=common.count, metavar="STEPS", help="after which it comes round"
    )
    options = parser.parse_args(arguments)
    if options.csv and not (options.column and options.season):
        parser.error("--csv needs --column and --season")
    if not options.csv and (options.column or options.season):
        parser.error("--column and --season: expected a file, by --csv")
    options.cells = [options.cell] if options.cell else ["lstm", "gru"]
    common.run("forecast", example, options)


if __name__ == "__main__":
    main()
