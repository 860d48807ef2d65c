"""Under autocast the kernels of 16 bits compute, with torch's dtypes of results and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from cases import Called, Case, flat, like, run
from devices import BF16, F16, F32, F64, TOLERANCE, largest_error, on
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn._autograd import operators

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("pretence", "exact_products"),
]

KINDS = ["LSTM", "GRU", "RNN"]
OPTIONS: dict[str, dict[str, Any]] = {
    "stacked, both directions": {"num_layers": 2, "bidirectional": True},
    "packed": {"form": "packed", "lengths": (5, 4, 4, 1)},
    "unbatched": {"form": "unbatched", "lengths": (6,)},
}


@contextmanager
def autocast(low: torch.dtype) -> Iterator[None]:
    """As ``torch.autocast("cuda", low)``, which does nothing where torch finds no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", low)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


class UnderAutocast(Called):
    """A layer that is called under autocast to ``low``."""

    def __init__(self, layer: Any, low: torch.dtype, **keywords: Any) -> None:
        super().__init__(layer, **keywords)
        self.low = low

    def __call__(self, x: Any, hx: Any = None) -> Any:
        with autocast(self.low):
            return super().__call__(x, hx)


class OfLow(UnderAutocast):
    """A layer of 16-bit parameters, which gets its arguments in their dtype."""

    def __call__(self, x: Any, hx: Any = None) -> Any:
        return Called.__call__(self, cast(x, self.low), cast(hx, self.low))


def cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.to(dtype), *value[1:])
    if isinstance(value, tuple):
        return tuple(cast(part, dtype) for part in value)
    return None if value is None else value.to(dtype)


def assert_kernels_of_16_bits(case: Case, low: torch.dtype, **keywords: Any) -> None:
    """Bits and dtypes are those of a layer of 16 bits, rounded to what they are gradients of."""
    x, hx = on("cuda", like(case.input(), F32)), on("cuda", like(case.state(), F32))
    layer, of_low = case.build().to("cuda"), case.build(dtype=low).to("cuda")
    of_low.load_state_dict(layer.state_dict())
    outputs, gradients = run(UnderAutocast(layer, low, **keywords), x, hx)
    expected, expected_gradients = run(OfLow(of_low, low, **keywords), x, hx)
    assert {y.dtype for y in outputs} == {low}
    assert {d.dtype for d in gradients} == {F32}
    assert all(map(torch.equal, outputs, expected))
    assert all(
        torch.equal(d, e.float()) for d, e in zip(gradients, expected_gradients, strict=True)
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("low", [BF16, F16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_computes_in_16_bits(kind: str, low: torch.dtype, options: str) -> None:
    case = Case(kind, hidden_size=24, input_size=5, **OPTIONS[options])
    assert_kernels_of_16_bits(case, low)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_does_with_more_than_torch_has(kind: str) -> None:
    case = Case(kind, hidden_size=9, proj_size=5 if kind == "LSTM" else 0, lengths=(6, 6, 6))
    flags = torch.tensor([[True, False, False]] * 6, device="cuda")
    assert_kernels_of_16_bits(case, BF16, lengths=[3, 6, 0], resets=flags, return_states=True)


@pytest.mark.parametrize("low", [BF16, F16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_those_of_16_bits(kind: str, low: torch.dtype) -> None:
    case = Case(kind, hidden_size=40, input_size=5, lengths=(6,) * 3)
    layer, x, hx = case.build(), case.input(), case.state()
    judge = case.build(torch.nn, dtype=F64)
    judge.load_state_dict(layer.state_dict())
    expected = run(judge, like(x, F64), like(hx, F64))
    under = UnderAutocast(layer.to("cuda"), low)
    got = run(under, on("cuda", like(x, F32)), on("cuda", like(hx, F32)))
    error = max(map(largest_error, got, expected))
    assert TOLERANCE[F32] < error < TOLERANCE[low]


@pytest.mark.parametrize("given", [F32, BF16, F16], ids=str)
def test_tensors_of_any_16_bits_are_cast_as_torch_casts_them(given: torch.dtype) -> None:
    case = Case("GRU")
    layer = case.build(dtype=given).to("cuda")
    x, hx = on("cuda", like(case.input(), given)), on("cuda", like(case.state(), F32))
    outputs, gradients = run(UnderAutocast(layer, BF16), x, hx)
    assert {y.dtype for y in outputs} == {BF16}
    of = [x, hx, *layer.parameters()]
    assert [d.dtype for d in gradients] == [one.dtype for one in flat(*of)]


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(name: str) -> None:
    cell, of_low = (getattr(fastrnn, name)(5, 9, dtype=dtype).to("cuda") for dtype in (F32, BF16))
    of_low.load_state_dict(cell.state_dict())
    x = on("cuda", torch.randn(3, 5, requires_grad=True))
    outputs, gradients = run(UnderAutocast(cell, BF16), x, None)
    expected, expected_gradients = run(OfLow(of_low, BF16), x, None)
    assert all(map(torch.equal, outputs, expected))
    assert all(
        torch.equal(d, e.float()) for d, e in zip(gradients, expected_gradients, strict=True)
    )


def test_float64_is_left_alone() -> None:
    case = Case("GRU", dtype=F64)
    layer, x = case.build().to("cuda"), on("cuda", case.input())
    with autocast(BF16):
        got = layer(x)[0]
    assert torch.equal(got, layer(x)[0])


def test_dropout_and_second_calls_go_through_one_operation_as_well() -> None:
    case = Case("LSTM", num_layers=2, dropout=0.5, bidirectional=True)
    layer, x = case.build().to("cuda"), on("cuda", like(case.input(), F32))
    found = []
    for watched in (False, True):
        torch.manual_seed(5)
        with mock.patch.object(operators, "is_watched", return_value=watched):
            found.append(run(UnderAutocast(layer, BF16), x, None))
    for got, expected in zip(*found, strict=True):
        assert all(map(torch.equal, got, expected))


def test_options_that_the_kernels_lack_are_computed_in_float32_and_rounded() -> None:
    case = Case("GRU", with_state=False)
    layer, x = case.build(activation="softsign").to("cuda"), on("cuda", like(case.input(), F32))
    outputs, gradients = run(UnderAutocast(layer, BF16), x, None)
    expected, _ = run(layer, x, None)
    assert all(torch.equal(y, e.to(BF16)) for y, e in zip(outputs, expected, strict=True))
    assert {d.dtype for d in gradients} == {F32}
