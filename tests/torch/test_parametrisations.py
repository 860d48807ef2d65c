"""Weights that are functions of other parameters: every step of training is torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of, twins
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, prune

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils"),  # torch's older functions
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True"),
]


class LowRank(torch.nn.Module):
    """W + B A with a frozen W, as low-rank adapters have it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.A = torch.nn.Parameter(torch.randn(1, weight.shape[1]))
        self.B = torch.nn.Parameter(torch.randn(weight.shape[0], 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight.detach() + self.B @ self.A


class Symmetric(torch.nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.cat([(w + w.T) / 2 for w in weight.split(weight.shape[1])])


class Counting(torch.nn.Module):
    """Computes nothing and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return weight.clone()


def spectrally_normed(layer: Any, name: str) -> Any:
    """Without power iterations: torch's layers do several at each call, fastrnn's one."""
    parametrizations.spectral_norm(layer, name)
    layer.parametrizations[name].eval()
    return layer


def pruned(layer: Any, name: str) -> Any:
    return prune.random_unstructured(layer, name, 0.5)


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "weight_norm": parametrizations.weight_norm,
    "older weight_norm": torch.nn.utils.weight_norm,
    "spectral_norm": spectrally_normed,
    "older spectral_norm": torch.nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruning": pruned,
    "parametrize": lambda layer, name: parametrize.register_parametrization(
        layer, name, Symmetric()
    ),
    "low rank": lambda layer, name: parametrize.register_parametrization(
        layer, name, LowRank(getattr(layer, name))
    ),
}


def trained(layer: Any, x: Tensor) -> list[Tensor]:
    """The losses of three steps, and what the layer computes then."""
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.stack([y.square().sum() for y in flat(layer(x))]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *flat(layer.eval()(x))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_training_with_a_computed_weight_is_that_of_torch(kind: str, way: str) -> None:
    layers, x = twins(kind, dtype=torch.float64), input_of(kind).double()
    name = "weight_hh_l0" if kind in LAYERS else "weight_hh"
    results = []
    for layer in layers:
        torch.manual_seed(1)
        WAYS[way](layer, name)
        results.append(trained(layer, x))
    assert not torch.equal(results[0][0], results[0][2])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_parametrization_is_computed_once_a_call(kind: str) -> None:
    layer, _ = twins(kind)
    counting = Counting()
    name = "weight_hh_l0" if kind in LAYERS else "weight_hh"
    parametrize.register_parametrization(layer, name, counting)
    counting.calls = 0
    layer(input_of(kind))
    with torch.no_grad():
        layer(input_of(kind))
    assert counting.calls == 2


def test_a_parametrization_may_be_cached_and_removed() -> None:
    fast, plain = twins("LSTM", dtype=torch.float64)
    x = input_of("LSTM").double()
    for layer in (fast, plain):
        parametrizations.weight_norm(layer, "weight_hh_l0")
    with parametrize.cached():
        for _ in range(2):
            torch.testing.assert_close(flat(fast(x)), flat(plain(x)))
    for layer in (fast, plain):
        parametrize.remove_parametrizations(layer, "weight_hh_l0")
    for got, expected in zip(trained(fast, x), trained(plain, x), strict=True):
        torch.testing.assert_close(got, expected)
