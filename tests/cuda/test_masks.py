"""Dropout masks of a batch with lengths on a GPU, which are drawn by step and entry."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from cases import LAYERS, Case
from devices import F64, TOLERANCE, largest_error, on

from fastrnn._layers import run as fork

LENGTHS = torch.tensor([2, 5, 0])


@pytest.fixture(params=[False, True], ids=["eager", "operator"])
def watched(request: pytest.FixtureRequest) -> Iterator[None]:
    with mock.patch.object(fork.operators, "is_watched", return_value=request.param):
        yield


# Not on the pretended device, which cannot mark what many gradients at once are made of: those
# tensors have no storage.
@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "device", ["cuda", pytest.param("emulation", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_derivative_of_a_call_has_the_same_masks(device, kind, batch_first):
    """Many gradients at once, and those of gradients, are not computed where one gradient is."""
    case = Case(
        kind, num_layers=2, dropout=0.5, dtype=F64, lengths=(5, 5, 5), batch_first=batch_first
    )
    layer, x = case.build().to(device), on(device, case.input()).requires_grad_()
    y, _ = layer(x, lengths=on(device, LENGTHS))
    factors = torch.randn(3, *y.shape, dtype=F64, device=device)
    expected = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in factors]
    (at_once,) = torch.autograd.grad(y, x, factors, retain_graph=True, is_grads_batched=True)
    (again,) = torch.autograd.grad(y, x, factors[0], create_graph=True)
    assert again.requires_grad
    assert (
        largest_error([*at_once, again], [*map(torch.Tensor.cpu, expected), expected[0].cpu()])
        < TOLERANCE[F64]
    )
