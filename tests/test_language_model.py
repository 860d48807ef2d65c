"""The end-to-end run: its text, its bookkeeping, and that fastrnn trains as torch.nn does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from stand_ins import without_pauses
from torch import nn

from benchmarks import language_model
from benchmarks.language_model import CELLS, Outcome, Size, compare, conversions, read_text

SMALL = Size(steps=8, block=4, window=16, batch=4, features=8, hidden=24, held_out_windows=2)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


def unchanged(model: nn.Module) -> nn.Module:
    return model


def other_gate_order(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(model.rnn.weight_hh_l0.roll(SMALL.hidden, 0))
    return model


def frozen_bias(model: nn.Module) -> nn.Module:
    model.rnn.bias_hh_l1.requires_grad_(False)
    return model


@pytest.mark.parametrize("cell", CELLS)
def test_every_installed_contender_trains_along_the_same_curve(cell: language_model.Cell) -> None:
    outcome = compare(cell, SMALL, conversions())
    assert outcome.agrees()
    assert all(len(curve) == SMALL.steps for curve in outcome.losses.values())


def test_taking_turns_does_not_disturb_anyones_dropout_masks() -> None:
    outcome = compare("lstm", SMALL, {"a": unchanged, "b": unchanged})
    assert outcome.losses["a"] == outcome.losses["b"]
    assert outcome.bits["a"] == outcome.bits["b"]
    alone = compare("lstm", SMALL, {"a": unchanged})
    assert alone.losses["a"] == outcome.losses["a"]


@pytest.mark.parametrize("wrong", [other_gate_order, frozen_bias])
def test_an_error_in_one_layer_makes_the_curves_disagree(wrong: language_model.Conversion) -> None:
    assert not compare("gru", SMALL, {"torch": unchanged, "wrong": wrong}).agrees()


def test_a_curve_that_ends_in_nan_does_not_agree_with_itself() -> None:
    nan = float("nan")
    outcome = Outcome("lstm", SMALL, {"a": [1.0, nan], "b": [1.0, nan]}, {}, {})
    assert not outcome.agrees()


def test_training_learns_something() -> None:
    (curve,) = compare("gru", replace(SMALL, steps=40), {"torch": unchanged}).losses.values()
    assert curve[-1] < 0.9 * curve[0]


def test_the_text_is_the_same_every_time_and_just_long_enough() -> None:
    text = read_text(SMALL)
    assert torch.equal(text, read_text(SMALL))
    windows = SMALL.steps + SMALL.held_out_windows
    assert text.shape == (SMALL.window * windows + 1, SMALL.batch)
    assert text.max() < language_model.VOCABULARY
    assert "".join(map(chr, text[:8, 0])).isprintable()


def test_asking_for_more_text_than_there_is_says_so() -> None:
    with pytest.raises(ValueError, match=r"expected \d+ characters .* found \d+"):
        read_text(replace(SMALL, window=10_000_000))


def test_an_outcome_survives_json() -> None:
    outcome = compare("gru", SMALL, {"torch": unchanged})
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
