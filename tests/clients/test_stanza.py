"""stanza: its LSTM over packed batches, with and without recurrent dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import client, compare

packed_lstm = client("stanza.models.common.packed_lstm")

pytestmark = pytest.mark.filterwarnings("ignore")

LENGTHS = (40, 31, 30, 22, 17, 9, 3, 1)


@pytest.mark.parametrize("rec_dropout", [0.0, 0.3])
def test_packed_lstm(rec_dropout: float) -> None:
    x = torch.randn(len(LENGTHS), LENGTHS[0], 50)

    def build() -> Any:
        return packed_lstm.PackedLSTM(
            50,
            64,
            2,
            batch_first=True,
            bidirectional=True,
            dropout=0.3,
            pad=True,
            rec_dropout=rec_dropout,
        )

    name = "of cells, with recurrent dropout" if rec_dropout else "PackedLSTM"
    compare(f"stanza {name}", build, lambda model: model(x, LENGTHS))
