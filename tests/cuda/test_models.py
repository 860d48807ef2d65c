"""Whole models on a device: converted, built anew, mixed with torch's layers, and back again."""

from __future__ import annotations

import pytest
from devices import on
from whole_models import Tagger, example, expect_close, made_by, train


@pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN")  # torch's own layer
@pytest.mark.parametrize("way", ["convert", "patch", "mixed"])
def test_a_model_learns_there_and_here_as_torchs_does_here(device: str, way: str) -> None:
    plain = Tagger()
    fast = made_by(way, plain)
    x = example()
    expect_close(train(fast, x), train(plain, x))
    fast.to(device)
    for _ in range(2):
        expect_close(train(fast, on(device, x)), train(plain, x))
    again = made_by(way, plain).to(device)
    again.load_state_dict(fast.state_dict())
    fast.to("cpu")
    expected = train(plain, x)
    expect_close(train(again, on(device, x)), expected)
    expect_close(train(fast, x), expected)
