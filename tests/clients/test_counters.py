"""thop, which counts operations by the type of a layer, and torchviz, which draws the graph."""

from __future__ import annotations

import pytest
from cases import CELLS, LAYERS, flat, input_of, twins
from side_by_side import client
from torch import nn

import fastrnn

KINDS = [*LAYERS, *CELLS]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("kind", KINDS)
def test_thop_counts_a_layer_once_it_knows_its_type(kind: str) -> None:
    thop, rules = client("thop"), client("thop.profile").register_hooks
    own = {getattr(fastrnn, kind): rules[getattr(nn, kind)] for kind in KINDS}
    fast, plain = twins(kind)
    inputs = (input_of(kind),)
    expected = thop.profile(plain, inputs, verbose=False)
    assert expected[0] > 0
    assert thop.profile(fast, inputs, custom_ops=own, verbose=False) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_torchviz_draws_a_layer_with_its_parameters(kind: str) -> None:
    make_dot = client("torchviz").make_dot
    layer = getattr(fastrnn, kind)(3, 4)
    outputs = tuple(flat(layer(input_of(kind).requires_grad_())))
    for show in (False, True):
        named = dict(layer.named_parameters())
        source = make_dot(outputs, params=named, show_attrs=show, show_saved=show).source
        assert all(name in source for name in named)
        assert "RecurrenceBackward" in source
