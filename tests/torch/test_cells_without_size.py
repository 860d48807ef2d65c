"""Cells of no units or no features, which torch has, in all that is done with cells."""

from __future__ import annotations

import pytest
import torch
from cases import CELLS, assert_same, flat, run
from torch import nn

import fastrnn
from fastrnn import functional

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own forward mode
SIZES = [(3, 0), (0, 4), (0, 17), (0, 0)]


def pair(kind, sizes, **options):
    fast, plain = getattr(fastrnn, kind)(*sizes, **options), getattr(nn, kind)(*sizes, **options)
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def state(kind, *shape):
    h, c = torch.randn(2, *shape)
    return (h.requires_grad_(), c.requires_grad_()) if kind == "LSTMCell" else h.requires_grad_()


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("batch", [(), (0,), (2,), (7,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_outputs_and_gradients_are_torchs(kind, sizes, bias, batch):
    fast, plain = pair(kind, sizes, bias=bias)
    x = torch.randn(*batch, sizes[0], requires_grad=True)
    for hx in (None, state(kind, *batch, sizes[1])):
        got, expected = run(fast, x, hx), run(plain, x, hx)
        assert_same(got[0], expected[0], torch.float32)
        assert_same(got[1], expected[1], torch.float32)
        with torch.no_grad():
            assert_same(flat(fast(x, hx)), expected[0], torch.float32)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_transformations_and_compilers_take_them(kind, sizes):
    fast, plain = pair(kind, sizes)
    x = torch.randn(2, sizes[0])
    expected = flat(plain(x))
    assert_same(flat(torch.vmap(fast)(x)), expected, torch.float32)
    assert_same(flat(torch.func.jvp(fast, (x,), (x,))[0]), expected, torch.float32)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    assert_same(flat(compiled(x)), expected, torch.float32)
    on_meta = fast.to("meta")(x.to("meta"))
    assert [y.shape for y in flat(on_meta)] == [y.shape for y in expected]


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_autocast_gives_them_torchs_dtypes(kind, sizes, dtype, low):
    fast, plain = pair(kind, sizes, dtype=dtype)
    x = torch.randn(2, sizes[0], dtype=dtype)
    with torch.autocast("cpu", low):
        got, expected = flat(fast(x)), flat(plain(x))
    assert [y.dtype for y in got] == [y.dtype for y in expected]


def test_functions_take_them():
    cell = nn.LSTMCell(3, 0)
    h, c = functional.lstm_cell(torch.randn(2, 3), None, *cell.parameters())
    assert h.shape == c.shape == (2, 0)


def test_peepholes_of_no_units_have_a_gradient():
    cell = fastrnn.LSTMCell(3, 0, peephole="ifo")
    cell(torch.randn(2, 3))[1].sum().backward()
    assert all(parameter.grad is not None for parameter in cell.parameters())
