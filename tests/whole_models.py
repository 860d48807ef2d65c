"""A model of somebody else's with several kinds of layers, in float64, trained here and there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import fastrnn


class Tagger(nn.Module):
    """Two recurrent layers, a cell, and what is not recurrent between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.encoder = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.mixer = nn.GRU(10, 6)
        self.cell = nn.RNNCell(6, 6)
        self.out = nn.Linear(6, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder(self.embed(x))
        y, h = self.mixer(y.transpose(0, 1))
        state = h[0]
        for step in y:
            state = self.cell(step, state)
        return self.out(state)


def made_by(way: str, like: Tagger) -> nn.Module:
    """The same model on fastrnn's layers, with the numbers of a checkpoint of ``like``."""
    if way == "patch":
        with fastrnn.patch():
            model: nn.Module = Tagger()
    else:
        model = fastrnn.convert(Tagger())
    if way == "mixed":
        model.mixer = nn.GRU(10, 6, dtype=torch.float64)
    model.load_state_dict(like.state_dict())
    return model


def example() -> Tensor:
    return torch.randn(2, 5, 3, dtype=torch.float64)


def expect_close(got: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def train(model: nn.Module, x: Tensor) -> list[Tensor]:
    """A step of descent; the output and the gradients, on the CPU."""
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    found: list[Any] = [y, *(p.grad for p in model.parameters())]
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    return [one.detach().clone().cpu() for one in found]
