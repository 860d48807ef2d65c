"""Forecasting from what was seen: GRU-D on a series with gaps, against a GRU on filled gaps.

The carbon dioxide above Mauna Loa by weeks since 1958, as statsmodels ships it, has weeks without
a value; four of five of the others are hidden, as from an instrument that fails. From a year of
what is left the level a quarter of a year after its last value is told. A GRU gets gaps filled with
the last value and a mask. GRU-D (Che et al. 2016) gets how long ago each value was seen: the value
fades to the mean meanwhile, and the state fades too, both as fast as training finds best.

The cell is `fastrnn.cells.GRUD`. With `--backend torch` the same equations run in a plain loop over
steps, with the same parameters; `--backend both --double` shows that they learn the same.

    python examples/missing_values.py [--quick] [--cell lstm] [--backend both]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from statsmodels.datasets import co2
from torch import Tensor, nn

import common
import fastrnn
from common import Curves, Result

WEEKS, AHEAD, HIDDEN = 52, 13, 32
HIDE = 0.8
NAIVE = "last value seen"


@dataclass(frozen=True)
class Windows:
    """Years of the series with gaps, and what came a quarter later, in units of the network.

    Attributes
    ----------
    values : Tensor [N, T], differences from the last value seen; where nothing was seen, 0.
    seen : Tensor [N, T], 1.0 or 0.0
    future : Tensor [N], as difference, too
    """

    values: Tensor
    seen: Tensor
    future: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.values, self.seen, self.future


def load_windows(seed: int) -> tuple[dict[str, Windows], float]:
    """Windows to learn from, to choose by and to judge by, in order of time; ppm in a unit."""
    weekly = co2.load_pandas().data["co2"].to_numpy(float)
    hidden = np.random.default_rng(seed).random(len(weekly)) < HIDE
    given = np.where(hidden, np.nan, weekly)
    past = sliding_window_view(given[:-AHEAD], WEEKS)
    future = weekly[WEEKS - 1 + AHEAD :]
    learnt = int(0.7 * len(past))
    unit = float(np.nanstd(weekly[AHEAD:learnt] - weekly[: learnt - AHEAD]))
    rows = {
        "training": np.arange(0, learnt - AHEAD, 2),
        "validation": np.arange(learnt + WEEKS, int(0.85 * len(past)) - AHEAD),
        "test": np.arange(int(0.85 * len(past)) + WEEKS, len(past)),
    }
    return {name: _windows(past[which], future[which], unit) for name, which in rows.items()}, unit


def _windows(past: np.ndarray, future: np.ndarray, unit: float) -> Windows:
    known = np.isfinite(future) & np.isfinite(past).any(1)
    past, future = past[known], future[known]
    seen = np.isfinite(past)
    latest = WEEKS - 1 - seen[:, ::-1].argmax(1)
    last = past[np.arange(len(past)), latest]
    values = np.where(seen, (past - last[:, None]) / unit, 0)
    return Windows(*map(common.reals, (values, seen, (future - last) / unit)))


def gaps(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The last value seen until each step, and how many steps ago the one before it was.

    Parameters
    ----------
    values, seen : Tensor [B, T]

    Returns
    -------
    last, since : Tensor [B, T]
        Before anything was seen, 0, and the steps since the window began.
    """
    steps = torch.arange(values.shape[1]).expand_as(values)
    latest = torch.where(seen > 0, steps, -1).cummax(1).values
    last = torch.where(latest < 0, 0.0, values.gather(1, latest.clamp(min=0)))
    before = nn.functional.pad(latest[:, :-1].clamp(min=0), (1, 0))
    return last, (steps - before).to(values.dtype)


class GRUD(nn.Module):
    """GRU-D on one feature, and a linear layer on the last step's output."""

    def __init__(self, options: argparse.Namespace, mean: float) -> None:
        super().__init__()
        self.mean, self.by_loop = mean, options.backend == "torch"
        self.rnn = fastrnn.Recurrent(fastrnn.cells.GRUD, 2, HIDDEN, batch_first=True)
        self.input_decay, self.state_decay = nn.Linear(1, 1), nn.Linear(1, HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """The change [B] after each window [B, T]."""
        last, since = gaps(values, seen)
        since = since.unsqueeze(-1) / WEEKS
        kept = torch.exp(-torch.relu(self.input_decay(since)))[..., 0]
        guess = kept * last + (1 - kept) * self.mean
        x = torch.stack([seen * values + (1 - seen) * guess, seen], -1)
        run = loop if self.by_loop else type(self.rnn).__call__
        y, _ = run(self.rnn, x, decay=self.state_decay(since))
        return self.head(y[:, -1])[:, 0]


def loop(rnn: nn.Module, x: Tensor, *, decay: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer computes, step by step: [B, T, H] and the last of it."""
    W_r, W_z, W_n = rnn.weight_ih_l0.chunk(3)
    U_r, U_z, U_n = rnn.weight_hh_l0.chunk(3)
    b_r, b_z, b_n = (rnn.bias_ih_l0 + rnn.bias_hh_l0).chunk(3)
    h = x.new_zeros(len(x), HIDDEN)
    outputs = []
    for x_t, decay_t in zip(x.unbind(1), decay.unbind(1), strict=True):
        h = torch.exp(-torch.relu(decay_t)) * h
        r = torch.sigmoid(x_t @ W_r.T + h @ U_r.T + b_r)
        z = torch.sigmoid(x_t @ W_z.T + h @ U_z.T + b_z)
        n = torch.tanh(x_t @ W_n.T + (r * h) @ U_n.T + b_n)
        h = (1 - z) * h + z * n
        outputs.append(h)
    return torch.stack(outputs, 1), h


class Filled(nn.Module):
    """A layer of torch's kind on the last value seen and the mask."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.rnn = common.make_layer(options, 2, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """The change [B] after each window [B, T]."""
        y, _ = self.rnn(torch.stack([gaps(values, seen)[0], seen], -1))
        return self.head(y[:, -1])[:, 0]


def learn(
    options: argparse.Namespace, name: str, model: nn.Module, data: dict[str, Windows]
) -> tuple[np.ndarray, Curves]:
    """What the model tells for the test's windows [N], and the curves."""
    learner = common.Learner(
        model,
        common.make_batches(data["training"].tensors(), 64, options.seed),
        common.make_batches(data["validation"].tensors(), len(data["validation"].future)),
        lambda batch: nn.functional.mse_loss(model(*batch[:2]), batch[2]),
    )
    epochs = options.epochs or (16 if options.quick else 60)
    curves = common.fit(learner, common.Schedule(epochs, learning_rate=5e-3), name)
    with torch.no_grad():
        return model(*data["test"].tensors()[:2]).double().numpy(), curves


def example(options: argparse.Namespace) -> Result:
    data, unit = load_windows(options.seed)
    truth = data["test"].future.double().numpy()
    seen = data["training"].seen
    mean = float((data["training"].values * seen).sum() / seen.sum())
    filled = f"{options.cell.upper()} on filled gaps"
    told, curves = {NAIVE: np.zeros_like(truth)}, {}
    for name, make in (("GRU-D", lambda: GRUD(options, mean)), (filled, lambda: Filled(options))):
        torch.manual_seed(options.seed)
        told[name], curves[name] = learn(options, name, make(), data)
    errors = {name: float(np.square(changes - truth).mean()) for name, changes in told.items()}
    for name, error in errors.items():
        print(f"{name:22}  RMSE {unit * error**0.5:.3f} ppm")
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(unit * truth[:260], color=common.TRUTH, label="truth")
    for (name, changes), colour in zip(list(told.items())[1:], common.COLOURS, strict=False):
        axes.plot(unit * changes[:260], "--", color=colour, linewidth=1, label=name)
    axes.set_title("carbon dioxide: change in a quarter of a year, ppm", fontsize=10)
    axes.set_xlabel("weeks since the test began")
    common.style(axes)
    details = {"mse": errors, "seen": float(seen.mean())}
    ratio = errors["GRU-D"] / errors[NAIVE]
    return Result("MSE over the last value's", ratio, 1.0, curves, details, figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Forecast a series with gaps by GRU-D and by a GRU.")
    parser.set_defaults(cell="gru")
    common.run("missing_values", example, parser.parse_args(arguments))


if __name__ == "__main__":
    main()
