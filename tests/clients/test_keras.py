"""Keras's own tests of its recurrent layers, where it brings them, pass as without it."""

from __future__ import annotations

import os
import unittest

import pytest
from side_by_side import client

import fastrnn
from fastrnn._interop import keras_calls

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = client("keras")

pytestmark = pytest.mark.filterwarnings("ignore")

TESTED = ("lstm", "gru", "simple_rnn", "bidirectional", "stacked_rnn_cells")


def outcomes(name: str) -> tuple[int, list[str]]:
    """How many of Keras's tests ran, and those that did not pass, skipped ones included."""
    suite = unittest.defaultTestLoader.loadTestsFromName(f"keras.src.layers.rnn.{name}_test")
    found = unittest.TestResult()
    suite.run(found)
    return found.testsRun, [test.id() for test, _ in found.failures + found.errors + found.skipped]


@pytest.mark.parametrize("name", TESTED)
def test_kerass_own_tests_pass_as_without_it(monkeypatch, name):
    pytest.importorskip(f"keras.src.layers.rnn.{name}_test")
    calls = []
    compute = keras_calls.compute

    def counted(*args):
        results = compute(*args)
        calls.append(results is not None)
        return results

    monkeypatch.setattr(keras_calls, "compute", counted)
    plain = outcomes(name)
    assert not calls
    with fastrnn.keras.accelerate():
        fast = outcomes(name)
    assert fast == plain
    assert plain[0] > len(plain[1])
    assert any(calls)
