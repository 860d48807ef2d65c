"""pytorch-forecasting: its subclasses of torch's layers, which take sequences of length 0."""

from __future__ import annotations

import pytest
import torch
from side_by_side import client, compare

layers = client("pytorch_forecasting.models.nn.rnn")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_subclass_that_takes_lengths_of_0(kind: str) -> None:
    x, lengths = torch.randn(16, 30, 32), torch.randint(0, 31, (16,))
    lengths[3] = 0

    compare(
        f"pytorch-forecasting {kind}",
        lambda: getattr(layers, kind)(32, 64, num_layers=2, batch_first=True),
        lambda model: model(x, lengths=lengths, enforce_sorted=False),
        subclasses=True,
    )
