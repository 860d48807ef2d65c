"""Frozen layers and cells with norms and zoneout are what they are unfrozen, in evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import cases, flat
from frozen_layers import FORMATS, assert_close, assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from regularised_options import options_of

import fastrnn


@pytest.mark.usefixtures("each_isa")
@settings(deadline=None)
@given(case=cases(dtype=torch.float32), data=st.data())
def test_every_option_with_every_other_is_that_of_the_layer(case: Any, data: st.DataObject) -> None:
    options = data.draw(options_of(case.kind, case.proj_size > 0))
    options["reverse"] = not case.bidirectional and data.draw(st.booleans())
    layer = case.build(**options).eval()
    x, hx = case.input(), case.state()
    with torch.no_grad():
        expected = flat(layer(x, hx, return_states=True))
        got = flat(fastrnn.freeze(layer)(x, hx, return_states=True))
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"layer_norm": "both", "layer_norm_cell": "inside", "peephole": "ifo"}),
        ("LSTM", {"zoneout": (0.1, 0.2), "layer_norm_cell": "carried"}),
        ("GRU", {"layer_norm": "both", "layer_norm_over": "gate", "reset_after": False}),
        ("GRU", {"layer_norm": "recurrent", "zoneout": 0.3}),
        ("RNN", {"layer_norm": "input", "layer_norm_gamma": False, "layer_norm_beta": False}),
    ],
    ids=str,
)
@torch.no_grad()
def test_cells_are_the_layer_of_one_step(
    kind: str, options: dict[str, Any], bias: bool, number_format: str
) -> None:
    cell = getattr(fastrnn, f"{kind}Cell")(6, 19, bias=bias, **options).eval()
    layer = getattr(fastrnn, kind)(6, 19, bias=bias, **options).eval()
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    frozen, of_layer = (fastrnn.freeze(one, weights=number_format) for one in (cell, layer))
    x, h, c = torch.randn(3, 6), torch.randn(3, 19), torch.randn(3, 19)
    expected = of_layer(x[None], (h[None], c[None]) if kind == "LSTM" else h[None])[1]
    hx = (h, c) if kind == "LSTM" else h
    got = frozen(x, hx)
    assert_equal(got, [one[0] for one in expected] if kind == "LSTM" else expected[0])
    assert_close(got, fastrnn.thaw(frozen)(x, hx), 5e-2 if number_format == "int8" else 2e-6)


@pytest.mark.parametrize("number_format", FORMATS)
@torch.no_grad()
def test_a_thawed_layer_trains_again_with_its_norms(number_format: str) -> None:
    layer = fastrnn.GRU(5, 12, layer_norm="both", zoneout=0.2)
    layer.norm_ih_weight_l0.uniform_(0.5, 2)
    thawed = fastrnn.thaw(fastrnn.freeze(layer, weights=number_format)).train()
    assert type(thawed) is fastrnn.GRU
    assert thawed.regularised == layer.regularised
    norms = [name for name, _ in layer.named_parameters() if name.startswith("norm_")]
    assert_equal([getattr(thawed, n) for n in norms], [getattr(layer, n) for n in norms])
    with torch.enable_grad():
        thawed(torch.randn(4, 3, 5))[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in thawed.parameters())
