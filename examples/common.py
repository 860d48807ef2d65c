"""What the training examples share: options, the training loop, metrics.json and the last line.

An example builds a `Learner`, calls `fit`, draws its picture and returns a `Result`; `run` does
the rest. `--backend torch` puts torch.nn's layers in the place of fastrnn's. Weights, batches and
dropout masks are drawn from one seed in one order, so that both learn along the same curve;
`--backend both` shows it and compares the times. With `--double` they agree to the last digits.
Without, rounding makes them part after some epochs, as training amplifies every difference.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import fastrnn

LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
BACKENDS = {"fastrnn": fastrnn, "torch": torch.nn}
FORMATS = ("float32", "bfloat16", "int8")
RUNS = 5

# Okabe and Ito's palette: told apart by every kind of colour vision, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
TRUTH = "#222222"

Curves = dict[str, list[float]]


class DataFileError(Exception):
    """A data file is missing or is not what it should be; ends an example without a traceback."""


def count(text: str) -> int:
    """An option's whole number, one or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return int(text)


def seed(text: str) -> int:
    """An option's seed, as every generator takes it."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {2**32 - 1}, got {text}")
    return int(text)


def rate(text: str) -> float:
    """An option's probability of dropping something: of all, nothing could be learned."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a rate from 0 to less than 1, got {text}")
    return value


def folder(text: str) -> Path:
    """An option's folder, which may be new: what is none is refused before anything is trained."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got {text}")
    return path


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options that every training example has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small model, under a minute")
    parser.add_argument("--cell", choices=LAYERS, default="lstm", help="the recurrent layer")
    parser.add_argument("--backend", choices=[*BACKENDS, "both"], default="fastrnn")
    parser.add_argument(
        "--epochs", type=count, help="to end after, if patience does not end before"
    )
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument(
        "--out", type=folder, metavar="DIR", help="write pictures, metrics.json here"
    )
    parser.add_argument("--seed", type=seed, default=0)
    return parser


def add_formats_option(parser: argparse.ArgumentParser) -> None:
    """For the examples that tell what `measure_formats` finds."""
    parser.add_argument(
        "--formats", action="store_true", help="judge it frozen in each number format, too"
    )


def check_formats_option(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.formats and options.double:
        parser.error("--formats: frozen layers compute in float32, which excludes --double")


def change(options: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    """A copy of the options in which some are others."""
    return argparse.Namespace(**vars(options) | changes)


def make_layer(options: argparse.Namespace, *sizes: int, **settings: Any) -> nn.Module:
    """The recurrent layer that the options ask for, of these sizes and settings."""
    return getattr(BACKENDS[options.backend], LAYERS[options.cell])(*sizes, **settings)


def reals(values: Any) -> Tensor:
    """A tensor of the precision that the options ask for."""
    return torch.as_tensor(values).to(torch.get_default_dtype())


def read_column(path: Path, column: str) -> np.ndarray:
    """A column of numbers [N] from a CSV file.

    Raises
    ------
    DataFileError
        There is no such file or column, or it holds something other than finite numbers.
    """
    try:
        table = pandas.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise DataFileError(f"cannot read {path}: {error}") from error
    if column not in table:
        raise DataFileError(f"{path}: expected a column {column!r}, found {', '.join(table)}")
    numbers = pandas.to_numeric(table[column], errors="coerce").to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        value = table[column].iloc[bad[0]]
        raise DataFileError(
            f"{path}: expected numbers in column {column!r}, found {value!r} in row {bad[0] + 1}"
        )
    return numbers


def make_batches(tensors: tuple[Tensor, ...], size: int, seed: int | None = None) -> DataLoader:
    """Batches of rows, shuffled anew for every epoch if there is a seed."""
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(*tensors), batch_size=size, shuffle=seed is not None, generator=draw
    )


@dataclass(frozen=True)
class Learner:
    """A model, what it learns from, and how it is judged.

    Attributes
    ----------
    training, validation : the batches of an epoch.
    loss : the mean loss of a batch.
    measure : further figures after every epoch, by name; called in eval mode.
    """

    model: nn.Module
    training: Collection[Any]
    validation: Collection[Any]
    loss: Callable[[Any], Tensor]
    measure: Callable[[], dict[str, float]] = dict


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    patience : epochs without a lower validation loss after which learning ends. Half as many make
        the learning rate smaller.
    decay : by this factor.
    clip : the largest norm of all gradients together.
    """

    epochs: int
    learning_rate: float
    patience: int = 10
    decay: float = 0.5
    clip: float = 1.0


def fit(learner: Learner, schedule: Schedule, title: str) -> Curves:
    """Train until the epochs are over or the patience is, and leave the best epoch's weights.

    Returns
    -------
    Curves
        A list for each figure, one entry an epoch: ``training`` and ``validation`` losses,
        ``learning_rate``, ``epoch_s`` (the seconds that training took, without validation), and
        what the learner measures.
    """
    model = learner.model
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=schedule.decay, patience=schedule.patience // 2
    )
    curves: Curves = {}
    best, best_epoch, best_weights = math.inf, 0, copy.deepcopy(model.state_dict())
    with tqdm(total=schedule.epochs * len(learner.training), desc=title, disable=None) as bar:
        for epoch in range(schedule.epochs):
            begin = time.perf_counter()
            training = _train_epoch(learner, optimizer, schedule.clip, bar)
            seconds = time.perf_counter() - begin
            figures = {
                "training": training,
                "validation": mean_loss(learner, learner.validation),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "epoch_s": seconds,
                **learner.measure(),
            }
            for name, figure in figures.items():
                curves.setdefault(name, []).append(figure)
            bar.set_postfix(training=f"{training:.4f}", validation=f"{figures['validation']:.4f}")
            plateau.step(figures["validation"])
            if figures["validation"] < best:
                best, best_epoch = figures["validation"], epoch
                best_weights = copy.deepcopy(model.state_dict())
            elif epoch - best_epoch >= schedule.patience:
                break
    model.load_state_dict(best_weights)
    model.eval()
    return curves


def _train_epoch(
    learner: Learner, optimizer: torch.optim.Optimizer, clip: float, bar: tqdm[Any]
) -> float:
    """One step for every batch; the mean of their losses."""
    learner.model.train()
    losses = []
    for batch in learner.training:
        loss = learner.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        bar.update()
    return statistics.fmean(losses)


@torch.no_grad()
def mean_loss(learner: Learner, batches: Collection[Any]) -> float:
    """Over these batches, in eval mode."""
    learner.model.eval()
    return statistics.fmean(learner.loss(batch).item() for batch in batches)


def measure_formats(
    model: nn.Module, metric: str, measure: Callable[[Any], float]
) -> dict[str, dict[str, float]]:
    """Print and return what freezing does to a trained model, by number format.

    ``measure`` gives the figure of a model, here that of the model itself ("trained") and of the
    frozen ones; the seconds beside are the median of runs that take turns.
    """
    model.eval()
    models = {"trained": model}
    models |= {name: fastrnn.freeze(model, weights=name) for name in FORMATS}
    figures, seconds = {}, {name: list[float]() for name in models}
    for _ in range(RUNS):
        for name, one in models.items():
            begin = time.perf_counter()
            with torch.no_grad():
                figures[name] = measure(one)
            seconds[name].append(time.perf_counter() - begin)
    lines = {
        name: {metric: figures[name], "seconds": statistics.median(seconds[name])}
        for name in models
    }
    table = pandas.DataFrame.from_dict(lines, orient="index")
    print(table.to_string(float_format="{:.5g}".format))
    return lines


def plot_curves(axes: Axes, curves: Curves, *names: str) -> None:
    """Draw some of the curves over the epochs."""
    for name, colour in zip(names, COLOURS, strict=False):
        axes.plot(range(1, len(curves[name]) + 1), curves[name], color=colour, label=name)
    axes.set_xlabel("epoch")
    style(axes)


def style(axes: Axes) -> None:
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


@dataclass(frozen=True)
class Result:
    """What an example has to say: one figure beside what costs no learning, and all the rest."""

    metric: str
    value: float
    baseline: float
    curves: dict[str, Curves]
    details: dict[str, Any]
    picture: Figure


Example = Callable[[argparse.Namespace], Result]


def run(name: str, example: Example, options: argparse.Namespace) -> None:
    """Train, write what the options ask for, and end in the line `name: metric value`."""
    if options.backend != "both":
        finish(name, options, train(name, example, options))
        return
    results = {}
    for backend in BACKENDS:
        chosen = change(options, backend=backend, out=options.out and options.out / backend)
        results[backend] = train(name, example, chosen)
        finish(name, chosen, results[backend])
    _compare(results["fastrnn"], results["torch"])
    print(last_line(name, results["fastrnn"]))


def train(name: str, example: Example, options: argparse.Namespace) -> Result:
    """Run an example; a data file that is not what it should be ends the script."""
    torch.set_default_dtype(torch.float64 if options.double else torch.float32)
    try:
        return example(options)
    except DataFileError as error:
        sys.exit(f"{name}: {error}")


def last_line(name: str, result: Result) -> str:
    return f"{name}: {result.metric} {result.value:.4g}"


def _compare(ours: Result, theirs: Result) -> None:
    """Print how far apart fastrnn's and torch's curves are, and how long their epochs took."""
    for title in theirs.curves:  # torch may lack a layer
        both = ours.curves[title], theirs.curves[title]
        pairs = zip(*(curves["validation"] for curves in both), strict=False)
        apart = [abs(a - b) for a, b in pairs]
        fast, slow = (1e3 * statistics.median(curves["epoch_s"]) for curves in both)
        print(
            f"{title}: validation losses {apart[0]:.0e} apart in the first epoch, at most "
            f"{max(apart):.0e} in {len(apart)}; "
            f"fastrnn {fast:.0f} ms an epoch, torch {slow:.0f} ms ({slow / fast:.2f}x)"
        )


def finish(name: str, options: argparse.Namespace, result: Result) -> None:
    """Write the picture and metrics.json if there is a place for them, and say how it went."""
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        result.picture.savefig(options.out / f"{name}.png", dpi=100)
        metrics = {
            "name": name,
            **{key: getattr(result, key) for key in ("metric", "value", "baseline", "details")},
            "options": {key: str(value) for key, value in vars(options).items()},
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "isa": fastrnn.isa.active(),
            "curves": result.curves,
        }
        text = json.dumps(metrics, indent=1) + "\n"
        (options.out / "metrics.json").write_text(text, encoding="utf-8")
    print(f"without learning sequences: {result.metric} {result.baseline:.4g}")
    print(last_line(name, result))
