"""A model of three kinds of layer learns the same with fastrnn as with torch.nn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn


class ThreeKinds(nn.Module):
    """A packed bidirectional LSTM with dropout, then a GRU, then an RNN and its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(20, 12, batch_first=True)
        self.rnn = nn.RNN(12, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        _, h = self.rnn(self.gru(y)[0])
        out: torch.Tensor = self.head(h[-1])
        return out


def losses(model: nn.Module, steps: int) -> list[float]:
    torch.manual_seed(1)  # data and dropout masks
    x, lengths, target = torch.randn(16, 12, 6), torch.randint(1, 13, (16,)), torch.randn(16)
    lengths[0] = 12
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    curve = []
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(x, lengths)[:, 0], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    return curve


@pytest.mark.usefixtures("each_isa")
def test_converted_model_has_the_loss_curve_of_the_original() -> None:
    model = ThreeKinds()
    converted = fastrnn.convert(copy.deepcopy(model))
    assert isinstance(converted.lstm, fastrnn.LSTM)
    plain, fast = losses(model, 60), losses(converted, 60)
    assert plain[-1] < plain[0] / 2
    assert fast == pytest.approx(plain, rel=1e-3)
