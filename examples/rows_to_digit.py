"""Images read row by row: three stacked layers see a digit as the sequence of its rows.

A row of pixels is a step, and the digit is told by the last layer's output after the last row.
scikit-learn's 1797 digits (8 rows of 8 pixels) are the default; `--data DIR` reads MNIST (28 rows
of 28) from the four idx files that it is distributed in, gzipped or not. A digit is the same a
pixel further to the left or right, so every epoch shows the training images in other places.
MNIST takes five epochs (`--epochs 5`).

What has to be beaten is a linear classifier (ridge) that sees all pixels at once.

    python examples/rows_to_digit.py [--quick] [--cell gru] [--data DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import common
from common import DataFileError, Learner, Result, Schedule

LAYERS, DROPOUT = 3, 0.5
CLASSES = 10
IDX_UNSIGNED_BYTES = 0x08


def read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An array of bytes from one of MNIST's files, `name` or `name`.gz.

    The format: two bytes of zero, the type, the number of dimensions; the sizes, each four bytes,
    big-endian; the values.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        raise DataFileError(f"expected {name} or {name}.gz in {folder}, found neither")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"cannot read {path}: {error}") from error
    header = bytes([0, 0, IDX_UNSIGNED_BYTES, dimensions])
    values = 4 + 4 * dimensions
    if data[:4] != header or len(data) < values:
        raise DataFileError(f"{path}: expected an idx file that begins with {header.hex()}")
    shape = tuple(np.frombuffer(data, ">u4", dimensions, offset=4).tolist())
    if len(data) - values != math.prod(shape):
        raise DataFileError(
            f"{path}: expected {math.prod(shape)} values {shape}, found {len(data) - values}"
        )
    return np.frombuffer(data, np.uint8, offset=values).reshape(shape)


@dataclass(frozen=True)
class Digits:
    """Images [N, rows, columns] from 0 to 1, and what they show [N]."""

    images: np.ndarray
    classes: np.ndarray

    def tensors(self) -> tuple[Tensor, Tensor]:
        return common.reals(self.images), torch.tensor(self.classes).long()

    def flat(self) -> np.ndarray:
        return self.images.reshape(len(self.images), -1)

    def split(self, share: float, seed: int) -> tuple[Digits, Digits]:
        """Two parts, the second this share of the whole, with as much of each class."""
        a, b, a_classes, b_classes = train_test_split(
            self.images, self.classes, test_size=share, stratify=self.classes, random_state=seed
        )
        return Digits(a, a_classes), Digits(b, b_classes)


def read_mnist(folder: Path, part: str) -> Digits:
    images = read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    classes = read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(classes) or not len(classes) or classes.max() >= CLASSES:
        raise DataFileError(
            f"{folder}: expected a digit from 0 to 9 for each of the {len(images)} {part} images, "
            f"found {len(classes)} up to {max(classes, default=0)}"
        )
    return Digits(images / 255, classes)


def load(options: argparse.Namespace) -> tuple[Digits, Digits, Digits]:
    """What to learn from, what to stop by, what to be judged by."""
    if options.data:
        known, test = (read_mnist(options.data, part) for part in ("train", "t10k"))
    else:
        both = load_digits()
        known, test = Digits(both.images / 16, both.target).split(0.2, options.seed)
    training, validation = known.split(0.1, options.seed)
    return training, validation, test


def moved(images: Tensor) -> Tensor:
    """Each image by up to one pixel in both directions, with zeros where it was not."""
    count, rows, columns = images.shape
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(3, (2, count, 1, 1))
    row = down + torch.arange(rows).view(1, -1, 1)
    column = right + torch.arange(columns)
    return padded[torch.arange(count).view(-1, 1, 1), row, column]


class RowReader(nn.Module):
    """Three recurrent layers, and a linear one on the output after the last row."""

    def __init__(self, options: argparse.Namespace, columns: int) -> None:
        super().__init__()
        self.rnn = common.make_layer(
            options, columns, options.hidden, LAYERS, dropout=DROPOUT, batch_first=True
        )
        self.head = nn.Linear(options.hidden, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 10] of images [B, rows, columns]."""
        y, _ = self.rnn(moved(images) if self.training else images)
        return self.head(y[:, -1])

    @torch.no_grad()
    def told(self, digits: Digits) -> np.ndarray:
        """Which digits they are held for."""
        images, _ = digits.tensors()
        return torch.cat([self(part).argmax(-1) for part in images.split(1000)]).numpy()


def draw(digits: Digits, told: np.ndarray, curves: common.Curves) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    common.plot_curves(left, curves, "training", "validation")
    left.set_title("cross-entropy", fontsize=10)
    ConfusionMatrixDisplay.from_predictions(
        digits.classes, told, ax=right, cmap="Blues", colorbar=False
    )
    right.set_title("test images: which were held for which", fontsize=10)
    return figure


def example(options: argparse.Namespace) -> Result:
    training, validation, test = load(options)
    print(f"{len(training.classes)} images to learn from, {len(test.classes)} to be judged by")
    torch.manual_seed(options.seed)
    model = RowReader(options, training.images.shape[2])
    learner = Learner(
        model,
        common.make_batches(training.tensors(), 32, options.seed),
        common.make_batches(validation.tensors(), 1000),
        lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        lambda: {"accuracy": float(np.mean(model.told(validation) == validation.classes))},
    )
    epochs = options.epochs or (60 if options.quick else 120)
    curves = common.fit(learner, Schedule(epochs, 3e-3, patience=20), f"digits, {options.cell}")
    told = model.told(test)
    accuracy = float(np.mean(told == test.classes))

    linear = RidgeClassifier().fit(
        training.images.reshape(len(training.images), -1), training.classes
    )
    baseline = float(linear.score(test.images.reshape(len(test.images), -1), test.classes))
    details: dict[str, Any] = {"epochs": len(curves["training"]), "test_images": len(told)}
    if options.formats:
        measure = lambda one: float(np.mean(one.told(test) == test.classes))  # noqa: E731
        details["formats"] = common.measure_formats(model, "accuracy", measure)
    picture = draw(test, told, curves)
    return Result("accuracy", accuracy, baseline, {"digits": curves}, details, picture)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Read digits row by row.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="MNIST's four idx files")
    parser.add_argument(
        "--hidden", type=common.count, default=128, metavar="UNITS", help="of each layer"
    )
    common.add_formats_option(parser)
    options = parser.parse_args(arguments)
    common.check_formats_option(parser, options)
    common.run("rows_to_digit", example, options)


if __name__ == "__main__":
    main()
