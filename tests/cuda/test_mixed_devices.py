"""Tensors on several devices, and what cannot be captured: torch's types, arguments and devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from cases import Case
from devices import F64, on
from program_cells import inputs_of, layer_of
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("pretence")]

KINDS = ["LSTM", "GRU", "RNN"]


def prepared(kind: str = "GRU", **options: Any) -> tuple[Any, Any, Any]:
    """A layer and its input on the GPU, and a state on the CPU."""
    case = Case(kind, dtype=F64, **options)
    return case.build().to("cuda"), on("cuda", case.input()), case.state()


def raises_naming(call: Callable[[], Any], *words: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        call()
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_elsewhere(kind: str) -> None:
    layer, x, hx = prepared(kind)
    name = "hx[0]" if kind == "LSTM" else "hx"
    words = "Input and hidden tensors are not at the same device", name, "cuda:0", "cpu"
    raises_naming(lambda: layer(x, hx), *words)
    if kind == "LSTM":
        raises_naming(lambda: layer(x, (on("cuda", hx[0]), hx[1])), "hx[1]", "cuda:0", "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_or_a_weight_elsewhere(kind: str) -> None:
    layer, x, _ = prepared(kind)
    words = "parameter tensors are not at the same device", "weight_ih_l0", "cuda:0", "cpu"
    raises_naming(lambda: layer(x.cpu()), *words)
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.detach().cpu())
    raises_naming(lambda: layer(x), "weight_hh_l0", "cuda:0", "cpu")


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_of_a_cell(name: str) -> None:
    cell, x, h = getattr(fastrnn, name)(3, 4), torch.randn(2, 3), torch.randn(2, 4)
    cell.to("cuda")
    raises_naming(lambda: cell(x), "w_ih", "cuda:0", "cpu")
    hx = (h, h) if name == "LSTMCell" else h
    raises_naming(lambda: cell(on("cuda", x), hx), "hidden", "hx", "cuda:0", "cpu")


def test_of_a_packed_batch() -> None:
    layer, x, _ = prepared(form="unsorted", lengths=(2, 6, 1, 6))
    sorted_indices, unsorted_indices = x.sorted_indices.cpu(), x.unsorted_indices
    moved = PackedSequence(x.data, x.batch_sizes, sorted_indices, unsorted_indices)
    raises_naming(lambda: layer(moved), "input.sorted_indices", "cuda:0", "cpu")


def test_of_a_per_step_input() -> None:
    layer = layer_of("inputs and vectors").to("cuda")
    x, inputs = torch.randn(5, 2, 3, dtype=F64), inputs_of(layer, 5, 2)
    name = next(iter(inputs))
    with pytest.raises((RuntimeError, ValueError), match=rf"{name}: .*cuda:0.*cpu"):
        layer(on("cuda", x), **inputs)


@pytest.mark.parametrize("elsewhere", ["input", "values"])
def test_lengths_and_resets_are_copied_to_where_the_input_is(elsewhere: str) -> None:
    layer, x, _ = prepared(num_layers=2)
    lengths, resets = torch.tensor([3, 5]), torch.rand(5, 2) < 0.4
    expected = layer(x, lengths=on("cuda", lengths), resets=on("cuda", resets))[0].cpu()
    if elsewhere == "values":
        got = layer(x, lengths=lengths, resets=resets)[0]
        assert got.is_cuda
    else:
        layer.to("cpu")
        got = layer(x.cpu(), lengths=on("cuda", lengths), resets=on("cuda", resets))[0]
        assert got.is_cpu
    torch.testing.assert_close(got.cpu(), expected)


def capturing() -> Any:
    """As within ``torch.cuda.graph``."""
    said = {"is_initialized": mock.DEFAULT, "is_current_stream_capturing": mock.DEFAULT}
    return mock.patch.multiple(torch.cuda, **said)  # mocks are true


def test_what_would_be_copied_from_the_cpu_is_not_captured() -> None:
    layer, x, _ = prepared()
    lengths, resets = torch.tensor([3, 5]), torch.rand(5, 2) < 0.4
    there = {"lengths": on("cuda", lengths), "resets": on("cuda", resets)}
    with capturing():
        layer(x, **there, return_states=True)
        for given in (lengths, [3, 5]):
            raises_naming(lambda: layer(x, lengths=given), "lengths", "cuda:0", "cpu")  # noqa: B023
        raises_naming(lambda: layer(x, resets=resets), "resets", "cuda:0", "cpu")


def test_nor_are_the_states_of_a_packed_batch() -> None:
    layer, x, _ = prepared()
    packed = pack_padded_sequence(x.cpu(), torch.tensor([5, 3]))
    packed = on("cuda", packed)
    with capturing():
        layer(packed)
        words = "return_states", "cuda:0", "batch_sizes", "cpu"
        raises_naming(lambda: layer(packed, return_states=True), *words)
    layer(packed, return_states=True)
