"""A default device is where new tensors of the caller's go, and no business of a call's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn
from fastrnn._engine import cpu
from fastrnn._layers import plan


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Meta stands for any device that the arguments are not on."""
    plan.layer_plan.cache_clear()
    cpu._kept_of_sixteen.cache_clear()
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def flat(returned: Any) -> list[Tensor]:
    if isinstance(returned, Tensor):
        return [returned]
    if isinstance(returned, PackedSequence):
        return [returned.data]
    return [tensor for part in returned for tensor in flat(part)]


X, LENGTHS = torch.randn(5, 3, 4), [5, 4, 2]
RESETS = torch.rand(5, 3, device="cpu") < 0.3
MASKED = {
    "input_dropout": 0.3,
    "recurrent_dropout": 0.3,
    "weight_dropout": 0.3,
    "zoneout": 0.2,
    "layer_norm": "both",
}
CALLS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "dense": ({}, lambda layer: layer(X)),
    "one sequence": ({}, lambda layer: layer(X[:, 0])),
    "packed": ({}, lambda layer: layer(pack_padded_sequence(X, LENGTHS))),
    "list of lengths": ({}, lambda layer: layer(X, lengths=LENGTHS)),
    "tensor of lengths": ({}, lambda layer: layer(X, lengths=torch.tensor(LENGTHS, device="cpu"))),
    "resets": ({}, lambda layer: layer(X, resets=RESETS)),
    "all states": ({"num_layers": 2}, lambda layer: layer(X, return_states=True)),
    "dropout": ({"num_layers": 2, "dropout": 0.5}, lambda layer: layer(X)),
    "ragged dropout": (
        {"num_layers": 2, "dropout": 0.5, "bidirectional": True},
        lambda layer: layer(X, lengths=LENGTHS, resets=RESETS),
    ),
    "masks and a norm": (MASKED, lambda layer: layer(X)),
    "masks of steps, both ways": ({"zoneout": 0.2, "bidirectional": True}, lambda layer: layer(X)),
    "a norm, backwards": ({"layer_norm": "both", "reverse": True}, lambda layer: layer(X)),
    "half precision": ({"dtype": torch.bfloat16}, lambda layer: layer(X.bfloat16())),
    "traced": ({}, lambda layer: torch.jit.trace(layer, (X,), check_trace=False)(X)),
    "samples": ({}, lambda layer: torch.func.vmap(layer, in_dims=1)(X[:, :, None])),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_compute_where_their_tensors_are(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    options, call = CALLS[name]
    layer = getattr(fastrnn, kind)(4, 6, **options)

    def results() -> list[Tensor]:
        torch.manual_seed(1)
        outputs = flat(call(layer))
        loss = outputs[0].float().square().sum()
        return [*outputs, *torch.autograd.grad(loss, list(layer.parameters()))]

    wanted = results()
    request.getfixturevalue("elsewhere")
    for got, want in zip(results(), wanted, strict=True):
        assert got.device.type == "cpu"
        assert torch.equal(got, want)


def test_a_projected_layer_with_a_norm_computes_likewise(
    request: pytest.FixtureRequest,
) -> None:
    layer = fastrnn.LSTM(4, 6, proj_size=2, layer_norm="both", zoneout=(0, 0.2), bidirectional=True)
    torch.manual_seed(1)
    wanted = flat(layer(X))
    request.getfixturevalue("elsewhere")
    torch.manual_seed(1)
    for got, want in zip(flat(layer(X)), wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("options", [{}, MASKED], ids=["plain", "masked"])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_compute_where_their_tensors_are(
    kind: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    cell = getattr(fastrnn, kind)(4, 6, **options)

    def results() -> list[Tensor]:
        torch.manual_seed(1)
        return flat(cell(X[0]))

    wanted = results()
    request.getfixturevalue("elsewhere")
    for got, want in zip(results(), wanted, strict=True):
        assert torch.equal(got, want)
    assert getattr(fastrnn, kind)(4, 6).weight_ih.is_meta  # a new one is made there, as torch's is
