"""Keras on torch, its recurrent layers in Keras's loop over the steps and on fastrnn's engine.

The very same model is trained by `fit` both ways, from the same weights on the same batches. This
script asserts that the weights at the end are equal, to rounding, and times an epoch of either, in
turns, for some options of the layer.

    python examples/keras_fit.py --cell GRU --steps 100 --batch 32 --units 128
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import fastrnn

FEATURES = 32
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "masked": {},
    "relu": {"activation": "relu"},
    "dropout": {"dropout": 0.2},
    "recurrent dropout": {"dropout": 0.2, "recurrent_dropout": 0.2},
}
BACKENDS = {"Keras": nullcontext, "fastrnn": fastrnn.keras.accelerate}


def make_model(cell: str, steps: int, units: int, variant: str) -> keras.Model:
    layer = getattr(keras.layers, cell)(units, **VARIANTS[variant])
    masking = [keras.layers.Masking()] if variant == "masked" else []
    model = keras.Sequential(
        [keras.Input((steps, FEATURES)), *masking, layer, keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def make_data(steps: int, batch: int, batches: int) -> tuple[Any, Any]:
    """Sequences of different lengths, zero where they are over, and a number for each."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((batch * batches, steps, FEATURES)).astype("float32")
    lengths = draw.integers(1, steps + 1, len(x))
    x[np.arange(steps) >= lengths[:, None]] = 0
    return x, draw.standard_normal((len(x), 1)).astype("float32")


def seconds_of_fit(model: keras.Model, weights: list[Any], data: Any, batch: int) -> float:
    """An epoch from these weights and one seed."""
    model.set_weights(weights)
    keras.utils.set_random_seed(0)
    begin = time.perf_counter()
    model.fit(*data, batch_size=batch, verbose=0, shuffle=False)
    return time.perf_counter() - begin


def compare(model: keras.Model, data: Any, batch: int, rounds: int) -> dict[str, float]:
    """The median milliseconds of a training step with either."""
    weights = model.get_weights()
    seconds: dict[str, list[float]] = {name: [] for name in BACKENDS}
    trained = {}
    for turn in range(rounds + 1):
        for name, entered in BACKENDS.items():
            with entered():
                taken = seconds_of_fit(model, weights, data, batch)
            trained[name] = model.get_weights()
            if turn:  # what happens once is over
                seconds[name].append(taken)
    for got, expected in zip(trained["fastrnn"], trained["Keras"], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    batches = len(data[0]) // batch
    return {name: 1e3 * statistics.median(times) / batches for name, times in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keras's fit with and without fastrnn.")
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds")
    parser.add_argument("--cell", choices=("LSTM", "GRU", "SimpleRNN"), default="LSTM")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--units", type=int, default=128)
    options = parser.parse_args(arguments)
    steps, batch, units = options.steps, options.batch, options.units
    if min(steps, batch, units) < 1:
        parser.error("--steps, --batch, --units: expected positive numbers")
    if options.quick:
        steps, batch, units = 10, 4, 16
    data = make_data(steps, batch, batches=2 if options.quick else 10)
    speedups = []
    print(f"{options.cell}, a step of training, T{steps} B{batch} I{FEATURES} H{units}")
    for variant in VARIANTS:
        model = make_model(options.cell, steps, units, variant)
        times = compare(model, data, batch, rounds=1 if options.quick else 5)
        speedups.append(times["Keras"] / times["fastrnn"])
        shown = ", ".join(f"{name} {taken:.1f} ms" for name, taken in times.items())
        print(f"{variant}: {shown}, {speedups[-1]:.1f} times as fast")
    print(f"keras_fit: speedup {statistics.geometric_mean(speedups):.1f}")


if __name__ == "__main__":
    main()
