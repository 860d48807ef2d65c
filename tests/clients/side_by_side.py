"""A client's model with torch's layers and with fastrnn's: the same numbers, and the times."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import flat
from torch import Tensor

import fastrnn
from benchmarks.timing import QUICK, ratio_of_rounds, take_turns


def client(name: str) -> Any:
    """The client's module; the tests that need it are skipped where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def models(build: Callable[[], Any], *, subclasses: bool = False) -> dict[str, Any]:
    """What ``build`` makes, with torch's layers, converted, and built under `fastrnn.patch`."""
    torch.manual_seed(1)
    plain = build()
    converted = fastrnn.convert(copy.deepcopy(plain), subclasses=subclasses)
    torch.manual_seed(1)
    with fastrnn.patch():
        patched = build()
    return {"torch": plain, "converted": converted, "patched": patched}


def has_fast_layers(model: Any) -> bool:
    """Whether anything in the model is fastrnn's."""
    kinds = (fastrnn.LSTM, fastrnn.GRU, fastrnn.LSTMCell, fastrnn.GRUCell)
    return any(isinstance(module, kinds) for module in model.modules())


def results(model: Any, call: Callable[[Any], Any]) -> list[Tensor]:
    """Outputs of ``call(model)``, and gradients of the parameters."""
    torch.manual_seed(2)  # dropout
    outputs = flat(call(model))
    loss = torch.stack([y.square().sum() for y in outputs]).sum()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [*outputs, *(g for g in gradients if g is not None)]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-3, atol=1e-4)


def show_times(name: str, plain: Callable[[], Any], fast: Callable[[], Any]) -> None:
    """Print both times of a call and their ratio; ``pytest -s`` shows them."""
    times = take_turns({"torch.nn": plain, "fastrnn": fast}, QUICK)
    before, after = times["torch.nn"], times["fastrnn"]
    ratio = ratio_of_rounds(before.per_round(), after.per_round())
    milliseconds = [1e3 * rounds.median() for rounds in (before, after)]
    print(f"\n{name}: {milliseconds[0]:.2f} ms, {milliseconds[1]:.2f} ms: {ratio:.3g}x")


def compare(
    name: str, build: Callable[[], Any], call: Callable[[Any], Any], *, subclasses: bool = False
) -> None:
    """Hold results and gradients of a module against torch's, then show the time of a step."""
    built = models(build, subclasses=subclasses)
    plain, converted, patched = built.values()
    assert not has_fast_layers(plain)
    assert has_fast_layers(converted)
    assert has_fast_layers(patched) is not subclasses  # patch leaves these alone
    expected = results(plain, call)
    assert_same(results(converted, call), expected)
    assert_same(results(patched, call), expected)
    show_times(name, lambda: results(plain, call), lambda: results(converted, call))
