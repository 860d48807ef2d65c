"""Calls of regularised layers and cells that draw no masks: their short way and the long one."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

import pytest
import roads
import torch
from cases import flat
from torch import Tensor

import fastrnn
from fastrnn._autograd import normed
from fastrnn._layers import unmasked
from fastrnn._layers.plan import what_asks

T, B, FEATURES, H = 5, 3, 4, 19

NORMS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"layer_norm": "both"}),
    ("LSTM", {"layer_norm": "recurrent", "layer_norm_cell": "carried", "layer_norm_beta": False}),
    ("LSTM", {"layer_norm": "input", "layer_norm_cell": "inside", "peephole": "ifo"}),
    ("LSTM", {"layer_norm_cell": "inside", "layer_norm_gamma": False}),
    ("GRU", {"layer_norm": "both"}),
    ("GRU", {"layer_norm": "recurrent", "bias": False}),
    ("GRU", {"layer_norm": "input", "layer_norm_over": "gate", "reset_after": False}),
    ("RNN", {"layer_norm": "both", "layer_norm_beta": False, "bias": False}),
    ("RNN", {"layer_norm": "recurrent", "layer_norm_over": "gate"}),
]
ZONEOUT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"zoneout": (0.1, 0.4)}),
    ("GRU", {"zoneout": 0.3, "layer_norm": "both"}),
]
LAYERS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"reverse": True},
]
TRAINING = [(kind, options, True) for kind, options in NORMS]
EVALUATION = [(kind, options, False) for kind, options in (*NORMS, *ZONEOUT)]


where_there_is_one = pytest.mark.skipif(
    "short" not in roads.ROADS, reason="this torch has no short way"
)


def results_of(module: Any, x: Tensor, hx: Any) -> list[Tensor | None]:
    """Outputs, gradients, and outputs without any."""
    x, hx = (torch.utils._pytree.tree_map(lambda t: t.clone().requires_grad_(), v) for v in (x, hx))
    module.zero_grad()
    outputs = flat(module(x, hx))
    torch.manual_seed(3)
    sum((one * torch.randn_like(one)).sum() for one in outputs).backward()
    with torch.no_grad():
        alone = flat(module(x, hx))
    return [*outputs, *alone, *(one.grad for one in (*module.parameters(), *flat((x, hx))))]


def assert_the_short_way_has_the_bits_of_the_long_one(
    module: Any, x: Tensor, hx: Any, way: str
) -> None:
    for parameter in module.parameters():
        parameter.data += torch.randn_like(parameter) / 3
    served = []

    def spied(*arguments: Any) -> Any:
        served.append(short(*arguments))
        return served[-1]

    short = getattr(unmasked, way)
    with mock.patch.object(unmasked, way, spied):
        got = results_of(module, x, hx)
    assert len(served) == 2
    assert all(one is not None for one in served)
    with mock.patch.object(unmasked, way, return_value=None):
        expected = results_of(module, x, hx)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        assert g is None or torch.equal(g, e)


@where_there_is_one
@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("form", LAYERS, ids=str)
@pytest.mark.parametrize(("kind", "options", "training"), [*TRAINING, *EVALUATION], ids=str)
def test_a_layer(
    kind: str, options: dict[str, Any], training: bool, form: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    layer = getattr(fastrnn, kind)(FEATURES, H, dtype=dtype, **options, **form).train(training)
    directions = layer.num_layers * (2 if layer.bidirectional else 1)
    hx = [torch.randn(directions, B, H, dtype=dtype) for _ in range(2)]
    x = (
        torch.randn(B, T, FEATURES, dtype=dtype)
        if layer.batch_first
        else torch.randn(T, B, FEATURES, dtype=dtype)
    )
    state = tuple(hx) if kind == "LSTM" else hx[0]
    assert_the_short_way_has_the_bits_of_the_long_one(layer, x, state, "layer_directly")


@where_there_is_one
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("kind", "options", "training"), [*TRAINING, *EVALUATION], ids=str)
def test_a_cell(kind: str, options: dict[str, Any], training: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    cell = getattr(fastrnn, f"{kind}Cell")(FEATURES, H, dtype=dtype, **options).train(training)
    hx = [torch.randn(B, H, dtype=dtype) for _ in range(2)]
    x, state = torch.randn(B, FEATURES, dtype=dtype), tuple(hx) if kind == "LSTM" else hx[0]
    assert_the_short_way_has_the_bits_of_the_long_one(cell, x, state, "step_directly")


@where_there_is_one
@pytest.mark.parametrize(
    "options",
    [
        {"zoneout": 0.1},
        {"layer_norm": "both", "recurrent_dropout": 0.2},
        {"layer_norm": "both", "weight_dropout": 0.2},
        {"layer_norm": "both", "input_dropout": 0.2},
        {"layer_norm": "both", "dropout": 0.2, "num_layers": 2},
    ],
    ids=str,
)
def test_masks_are_drawn_by_the_long_way(options: dict[str, Any]) -> None:
    layer = fastrnn.GRU(FEATURES, H, **options)
    assert (
        unmasked.layer_directly(layer, what_asks(layer), torch.randn(T, B, FEATURES), None) is None
    )
    layer.eval()
    assert (
        unmasked.layer_directly(layer, what_asks(layer), torch.randn(T, B, FEATURES), None)
        is not None
    )


def test_weights_that_were_stored_in_the_place_of_its_own_compute() -> None:
    layer, other = (fastrnn.GRU(FEATURES, H, layer_norm="both") for _ in range(2))
    x = torch.randn(T, B, FEATURES)
    expected = other(x)[0]
    assert not torch.equal(layer(x)[0], expected)
    layer._flat_weights = other._flat_weights  # the norms of both begin alike
    assert torch.equal(layer(x)[0], expected)


def test_a_parameter_of_another_size_is_named() -> None:
    layer = fastrnn.LSTM(FEATURES, H, layer_norm="both")
    for name, other in itertools.product(("norm_hh_weight_l0", "norm_ih_bias_l0"), (1, -1)):
        own = getattr(layer, name)
        setattr(layer, name, torch.nn.Parameter(torch.ones(4 * H + other)))
        with pytest.raises(RuntimeError, match=f"{name[:-3]}: expected shape"):
            layer(torch.randn(T, B, FEATURES))
        setattr(layer, name, own)


def test_what_is_put_together_is_the_same_without_the_engine() -> None:
    """By torch's operations, for whoever has to see them."""
    torch.manual_seed(2)
    vectors = {name: torch.randn(6, dtype=torch.float64) for name in "abc"}
    pieces = [
        normed._Piece(("a", "b", "c"), 0, 4),
        normed._Piece((), 0, 2),
        normed._Piece(("b",), 3, 6),
    ]
    joined = normed._Joined(pieces, dict.fromkeys("abc", 6))
    seen = joined.of(vectors)
    with torch.no_grad():
        assert torch.equal(joined.of(vectors), seen)
    a, b, c = vectors.values()
    assert torch.equal(seen, torch.cat([(a + b + c)[:4], torch.zeros(2).double(), b[3:]]))
