"""torch.profiler names what the engine does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat

import fastrnn

NAMES = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}


def profiled(call: Any) -> Counter[str]:
    """How often each name of fastrnn's appears while ``call`` runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    counts = {event.key: event.count for event in profile.key_averages()}
    return Counter({key: n for key, n in counts.items() if key.startswith("fastrnn::")})


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_forward_and_backward_appear_once_a_call_under_the_name_of_the_cell(kind: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    x = torch.randn(*((5,) if kind in LAYERS else ()), 2, 3)
    name = f"fastrnn::{NAMES[kind.removesuffix('Cell')]}"

    def train() -> None:
        flat(layer(x))[0].sum().backward()

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    infer()
    assert profiled(train) == {f"{name}_forward": 1, f"{name}_backward": 1}
    assert profiled(infer) == {f"{name}_forward": 1}


def test_a_compiled_layer_has_the_names_below_those_of_its_operators() -> None:
    layer, x = fastrnn.GRU(3, 4), torch.randn(5, 2, 3)
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        compiled(x)[0].sum().backward()
        names = profiled(lambda: compiled(x)[0].sum().backward())
    for stage in ("forward", "backward"):
        assert names[f"fastrnn::gru_{stage}"] == names[f"fastrnn::recurrence_{stage}"] == 1
