"""A mistake in the input and one in a state, alone and together: the same is told as in torch."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from cases import CELLS, LAYERS, twins
from words import assert_as_in_torch


def of(*shape, **options):
    return torch.zeros(shape, **options)


INPUTS_OF_LAYERS = {
    "right": of(5, 2, 3),
    "one dimension": of(3),
    "four dimensions": of(1, 5, 2, 3),
    "other features": of(5, 2, 4),
    "float64": of(5, 2, 3, dtype=torch.float64),
    "float64 and other features": of(5, 2, 4, dtype=torch.float64),
    "no steps": of(0, 2, 3),
    "no steps and other features": of(0, 2, 4),
    "one sequence": of(5, 3),
    "one sequence of other features": of(5, 4),
    "one sequence of no steps": of(0, 3),
}
STATES_OF_LAYERS = {
    "right": of(1, 2, 4),
    "other batch": of(1, 3, 4),
    "other layers": of(2, 2, 4),
    "other units": of(1, 2, 5),
    "of one sequence": of(1, 4),
    "of one sequence and other units": of(1, 5),
    "four dimensions": of(1, 1, 2, 4),
    "float64": of(1, 2, 4, dtype=torch.float64),
    "on another device": of(1, 2, 4, device="meta"),
}
INPUTS_OF_CELLS = {
    "right": of(2, 3),
    "no dimension": of(),
    "three dimensions": of(5, 2, 3),
    "other features": of(2, 4),
    "float64": of(2, 3, dtype=torch.float64),
    "one sequence": of(3),
    "one sequence of other features": of(4),
    "no sequence": of(0, 3),
}
STATES_OF_CELLS = {
    "right": of(2, 4),
    "other batch": of(3, 4),
    "batch of one": of(1, 4),
    "other units": of(2, 5),
    "other batch and units": of(3, 5),
    "one sequence": of(4),
    "one sequence of other units": of(5),
    "three dimensions": of(1, 2, 4),
    "float64": of(2, 4, dtype=torch.float64),
}


def states(kind, given):
    """Each of them as ``hx``, for an LSTM in every pair."""
    return itertools.product(given, repeat=2) if kind.startswith("LSTM") else given


def is_accepted(layer, x, hx):
    try:
        layer(x, hx)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_of_two_mistakes_the_same_is_told_as_in_torch(kind):
    inputs, given = INPUTS_OF_LAYERS, STATES_OF_LAYERS
    if kind in CELLS:
        inputs, given = INPUTS_OF_CELLS, STATES_OF_CELLS
    fast, plain = twins(kind)
    told = 0
    for x, hx in itertools.product(inputs.values(), states(kind, list(given.values()))):
        if not is_accepted(plain, x, hx):
            told += 1
            assert_as_in_torch(partial(fast, x, hx), partial(plain, x, hx), "input|hx")
    assert told > len(inputs)
