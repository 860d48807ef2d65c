"""Frozen layers compute what layers do with their weights rounded, however they are called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from frozen_layers import (
    FORMATS,
    LAYERS,
    TO_ROUNDING,
    assert_close,
    assert_equal,
    inputs_of,
    int8_equations,
    state_of,
    ways_of,
)

import fastrnn
from fastrnn._layers import run_frozen

pytestmark = pytest.mark.usefixtures("each_isa", "restore_threads", "_inference")


@pytest.fixture
def _inference() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
def test_a_frozen_layer_returns_the_bits_of_the_layer_with_its_rounded_weights(
    name: str, number_format: str
) -> None:
    layer = LAYERS[name]()
    if number_format == "bfloat16":
        rounded = copy.deepcopy(layer)
        for parameter in rounded.parameters():
            if parameter.dim() == 2 or (name == "heads" and parameter.dim() == 3):
                parameter.copy_(parameter.bfloat16())
        frozen, layer = fastrnn.freeze(layer, weights=number_format), rounded
    else:
        frozen = fastrnn.freeze(layer)
    layer.eval()
    for arguments, keywords in ways_of(layer):
        expected = layer(*arguments, **keywords)
        for _ in range(2):  # the second time by the short way
            got = frozen(*arguments, **keywords)
            if name in TO_ROUNDING:
                assert_close(got, expected, 3e-6)
            else:
                assert_equal(got, expected)


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_of_int8_is_that_of_the_equations_with_rounded_rows(name: str) -> None:
    frozen = fastrnn.freeze(LAYERS[name](), weights="int8")
    thawed = fastrnn.thaw(frozen)
    B = 7
    x, more = inputs_of(frozen, 1, B)
    x.flatten(0, 1)[2] *= 100
    # Anything but for a cell that divides by one of its states
    hx = thawed(x, **more)[1] if name == "heads" else state_of(thawed, B)
    got = frozen(x, hx, **more)
    with int8_equations():
        in_double = copy.deepcopy(thawed).double()
        states = tuple(s.double() for s in hx) if isinstance(hx, tuple) else hx.double()
        expected = in_double(x.double(), states, **{key: v.double() for key, v in more.items()})
    assert_close(got, expected, 2e-6)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell", "program"])
@pytest.mark.parametrize("number_format", FORMATS)
def test_cells_are_the_layer_of_one_step(kind: str, number_format: str) -> None:
    if kind == "program":
        made: Any = fastrnn.RecurrentCell(fastrnn.cells.MGU, 6, 35)
        layer: Any = fastrnn.Recurrent(fastrnn.cells.MGU, 6, 35)
    else:
        made = getattr(fastrnn, kind)(6, 35)
        layer = getattr(fastrnn, kind.removesuffix("Cell"))(6, 35)
    layer.load_state_dict({f"{key}_l0": value for key, value in made.state_dict().items()})
    cell, layer = (fastrnn.freeze(one, weights=number_format) for one in (made, layer))
    x = torch.randn(3, 6)
    hx = state_of(layer, 3)
    expected = layer(x[None], hx)[1]
    of_cell = tuple(s[0] for s in hx) if isinstance(hx, tuple) else hx[0]
    for _ in range(2):
        got = cell(x, of_cell)
        assert_equal(got, [s[0] for s in expected] if isinstance(hx, tuple) else expected[0])
        alone = tuple(s[1] for s in of_cell) if isinstance(hx, tuple) else of_cell[1]
        assert_equal(cell(x[1], alone), [s[1] for s in got] if isinstance(hx, tuple) else got[1])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("number_format", FORMATS)
def test_a_row_is_the_same_in_any_batch_and_on_any_number_of_threads(
    name: str, number_format: str
) -> None:
    frozen = fastrnn.freeze(LAYERS[name](), weights=number_format)
    B = 41
    x, more = inputs_of(frozen, 5, B)
    rows = 0 if frozen.batch_first else 1
    torch.set_num_threads(1)
    whole, _ = frozen(x, **more)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for batch in (1, 2, 4, 7, 13):
            part = {key: v.narrow(rows, B - batch, batch) for key, v in more.items()}
            y, _ = frozen(x.narrow(rows, B - batch, batch), **part)
            assert torch.equal(y, whole.narrow(rows, B - batch, batch))


@pytest.mark.parametrize("number_format", FORMATS)
def test_steps_one_by_one_are_the_sequence(number_format: str) -> None:
    frozen = fastrnn.freeze(fastrnn.GRU(20, 150), weights=number_format)
    x = torch.randn(7, 3, 20)
    whole, last = frozen(x)
    state, steps = torch.zeros(1, 3, 150), []
    for t in range(7):
        y, state = frozen(x[t : t + 1], state)
        steps.append(y)
    assert torch.equal(torch.cat(steps), whole)
    assert torch.equal(state, last)


def test_int8_carries_an_infinity_as_nan_to_its_row_alone() -> None:
    frozen = fastrnn.freeze(fastrnn.LSTM(4, 9), weights="int8")
    x = torch.randn(3, 4, 4)
    expected, _ = frozen(x)
    x[1, 2, 0] = torch.inf
    y, _ = frozen(x)
    assert y[1:, 2].isnan().all()
    keep = torch.tensor([0, 1, 3])
    assert torch.equal(y[:, keep], expected[:, keep])


def test_int8_takes_zeros_and_numbers_that_hardly_differ_from_them() -> None:
    layer = fastrnn.RNN(4, 9, bias=False)
    layer.weight_ih_l0[3] = 0
    layer.weight_ih_l0[4] = 1e-42
    frozen = fastrnn.freeze(layer, weights="int8")
    x = torch.zeros(2, 2, 4)
    x[:, 1] = 1e-41
    assert torch.equal(frozen(x)[0], torch.zeros(2, 2, 9))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    frozen = fastrnn.freeze(fastrnn.LSTM(5, 8), weights="int8")
    x = torch.randn(3, 2, 5).to(dtype)
    y, (h, c) = frozen(x)
    expected = frozen(x.float())
    assert_equal((y, (h, c)), [one.to(dtype) for one in (expected[0], *expected[1])])
    with torch.autocast("cpu"):
        assert frozen(x.float())[0].dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_learned_states_of_a_call_in_half_precision_are_not_rounded(dtype: torch.dtype) -> None:
    layer = fastrnn.LSTM(5, 8, initial_state=True)
    for state in (layer.h_0, layer.c_0):
        state.copy_(torch.randn_like(state))
    frozen = fastrnn.freeze(layer)
    x = torch.randn(1, 2, 5).to(dtype)
    for given in (x, x[:, 0], torch.nn.utils.rnn.pack_sequence(list(x))):
        (y, *_), (h, c) = frozen(given)
        (expected, *_), states = frozen(given.to(torch.float32))
        assert_equal((y, h, c), [one.to(dtype) for one in (expected, *states)])


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_dtype_is_no_business_of_a_frozen_layer(
    number_format: str, default: torch.dtype
) -> None:
    layer = fastrnn.LSTM(5, 8, dtype=torch.float32)
    x = torch.randn(3, 2, 5)
    run_frozen._stand_ins.cache_clear()
    frozen = fastrnn.freeze(layer, weights=number_format)
    torch.set_default_dtype(default)
    try:
        first = frozen(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(first, fastrnn.freeze(layer, weights=number_format)(x))
