"""A single row of a program, whose blocks hold several panels, has the bits of a row in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fastrnn
from fastrnn import cells


class Normed(fastrnn.Cell):
    """Sums over the units of a row, in two stages forward and backward."""

    gates = "g"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(fastrnn.layer_norm(x.g + u.g) + 0.5 * s.h)}


LAYERS: dict[str, Any] = {
    "one slot": lambda *sizes, **o: fastrnn.RNN(*sizes, activation="elu", **o),
    "three slots": lambda *sizes, **o: fastrnn.Recurrent(cells.GRU, *sizes, **o),
    "four slots": lambda *sizes, **o: fastrnn.Recurrent(cells.LSTM, *sizes, **o),
    "two products": lambda *sizes, **o: fastrnn.GRU(*sizes, reset_after=False, **o),
    "heads": lambda *sizes, **o: fastrnn.Recurrent(cells.SLSTM, *sizes, num_heads=4, **o),
    "sums": lambda *sizes, **o: fastrnn.Recurrent(Normed, *sizes, **o),
    "per-step inputs": lambda *sizes, **o: fastrnn.Recurrent(cells.TLSTM, *sizes, **o),
}
# Of 16, 32 or 64 units to a panel: from less than one panel to seven and a part of one
HIDDEN = (12, 64, 96, 128, 236)


def results(layer: Any, x: torch.Tensor, more: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Output, and the gradients of the input and of the per-step inputs."""
    leaves = [leaf.clone().requires_grad_() for leaf in (x, *more.values())]
    y, _ = layer(leaves[0], **dict(zip(more, leaves[1:], strict=True)))
    return [y, *torch.autograd.grad(y.square().sum(), leaves)]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_row_is_that_of_a_batch(name: str, dtype: torch.dtype) -> None:
    for H in HIDDEN:
        layer = LAYERS[name](7, H, dtype=dtype)
        for T in (1, 4):
            x = torch.randn(T, 3, 7, dtype=dtype)
            more = {"dt": torch.rand(T, 3, dtype=dtype)} if name == "per-step inputs" else {}
            whole = results(layer, x, more)
            alone = results(layer, x[:, 1:2], {key: v[:, 1:2] for key, v in more.items()})
            for got, want in zip(alone, whole, strict=True):
                assert torch.equal(got, want[:, 1:2]), (H, T)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", ["one slot", "three slots", "four slots", "heads"])
@pytest.mark.parametrize("number_format", ["float32", "bfloat16", "int8"])
def test_a_single_row_of_a_frozen_layer_is_that_of_a_batch(name: str, number_format: str) -> None:
    for H in HIDDEN:
        layer = fastrnn.freeze(LAYERS[name](7, H), weights=number_format)
        for T in (1, 4):
            x = torch.randn(T, 3, 7)
            assert torch.equal(layer(x[:, 1:2])[0], layer(x)[0][:, 1:2]), (H, T)
