"""torch-geometric: aggregations of nodes by recurrent layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import client, compare

aggr = client("torch_geometric.nn.aggr")

pytestmark = pytest.mark.filterwarnings("ignore")

NODES, GRAPHS, CHANNELS = 1000, 50, 32


@pytest.mark.parametrize("name", ["LSTMAggregation", "GRUAggregation", "Set2Set", "LCMAggregation"])
def test_aggregation(name: str) -> None:
    x = torch.randn(NODES, CHANNELS)
    index = torch.randint(GRAPHS, (NODES,)).sort().values

    def build() -> Any:
        if name == "Set2Set":
            return aggr.Set2Set(CHANNELS, processing_steps=6)
        return getattr(aggr, name)(CHANNELS, CHANNELS)

    compare(f"torch-geometric {name}", build, lambda model: model(x, index))
