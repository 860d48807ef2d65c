"""Cells that somebody writes, and regularised layers, whose steps a GPU computes by equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Called, Case, like, run
from devices import F64, TOLERANCE, largest_error, on
from program_cells import ZOO, inputs_of, layer_of, results, states_of
from regularised_options import one_of_each

import fastrnn

pytestmark = pytest.mark.slow

T, B = 5, 3
LENGTHS = [3, 5, 0]


def leaf(device: str, value: Any) -> Any:
    return on(device, like(value, F64))


@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("more", ["plain", "ragged"])
@pytest.mark.parametrize("name", ZOO)
def test_a_program_gives_there_what_it_gives_on_the_cpu(name: str, more: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    x, hx = torch.randn(T, B, 3, dtype=F64), states_of(layer, B)
    keywords: dict[str, Any] = inputs_of(layer, T, B)
    extras: dict[str, Any] = {}
    if more == "ragged":
        extras = {"lengths": LENGTHS, "return_states": True}
        keywords["resets"] = torch.rand(T, B) < 0.3
    expected = results(layer, like(x, F64), like(hx, F64), **keywords, **extras)
    there = {key: on("cuda", value) for key, value in keywords.items()}
    got = results(layer.to("cuda"), leaf("cuda", x), leaf("cuda", hx), **there, **extras)
    assert all(t.is_cuda for of in got for t in of)
    assert max(map(largest_error, to_cpu(got), to_cpu(expected))) < TOLERANCE[F64]


def to_cpu(found: Any) -> list[list[torch.Tensor]]:
    return [[t.cpu() for t in of] for of in found]


@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("name", ["GRU", "sLSTM", "held"])
def test_so_does_a_single_step(name: str) -> None:
    kind, options = ZOO[name]
    cell = fastrnn.RecurrentCell(kind, 3, 4, dtype=F64, **options)
    x = torch.randn(B, 3, dtype=F64, requires_grad=True)
    expected = run(cell, x, None)
    got = run(cell.to("cuda"), on("cuda", x), None)
    assert all(t.is_cuda for of in got for t in of)
    assert max(map(largest_error, to_cpu(got), to_cpu(expected))) < TOLERANCE[F64]


@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("more", ["plain", "ragged"])
@one_of_each
def test_a_regularised_layer_too(kind: str, options: dict[str, Any], more: str) -> None:
    case = Case(kind, lengths=(T,) * B, num_layers=2, bidirectional=True, dtype=F64)
    layer, x, hx = case.build(**options), case.input(), case.state()
    keywords = {} if more == "plain" else {"lengths": LENGTHS, "return_states": True}
    expected = run(Called(layer, **keywords), like(x, F64), like(hx, F64))
    got = run(Called(layer.to("cuda"), **keywords), leaf("cuda", x), leaf("cuda", hx))
    assert all(t.is_cuda for of in got for t in of)
    assert max(map(largest_error, to_cpu(got), to_cpu(expected))) < TOLERANCE[F64]
