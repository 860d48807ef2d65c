"""Instructions beyond an instruction set: which there are, what turns them on, who asks for them.

What they compute is held by the engine's own kernel tests (csrc/testing/kernels/extensions.cpp),
which need no processor that has them.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import roads
import torch
from cases import CELLS, flat
from new_process import run_python
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn._engine import cpu
from fastrnn._layers import short_way


def test_each_extension_belongs_to_an_instruction_set_that_was_built() -> None:
    for own in fastrnn.isa.extensions():
        assert own.isa in fastrnn.isa.built()
        assert own.name.startswith(own.isa)
        assert own.number_format in ("int8", "bfloat16_products")


ON = "import fastrnn; print(*[own.name for own in fastrnn.isa.extensions() if own.on])"


@pytest.mark.parametrize("wanted", ["", "none", "all"])
def test_an_extension_is_on_if_it_was_asked_for_and_the_processor_has_it(wanted: str) -> None:
    done = run_python("-c", ON, FASTRNN_EXTENSIONS=wanted)
    assert done.returncode == 0, done.stderr
    expected = [o.name for o in fastrnn.isa.extensions() if o.available and wanted == "all"]
    assert done.stdout.split() == expected


def test_those_that_are_proven_are_on_unless_others_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FASTRNN_EXTENSIONS", raising=False)
    done = run_python("-c", ON)
    assert done.returncode == 0, done.stderr
    expected = [own.name for own in fastrnn.isa.extensions() if own.available and own.proven]
    assert done.stdout.split() == expected
    unproven = {"avx2_vnni", "avx512_amx_int8", "avx512_amx_bf16"}
    assert not any(own.proven for own in fastrnn.isa.extensions() if own.name in unproven)


def test_an_extension_that_does_not_exist_here_is_an_error_that_lists_those_that_do() -> None:
    code = "import fastrnn; fastrnn.isa.active()"
    done = run_python("-c", code, FASTRNN_EXTENSIONS="all,avx512_telepathy")
    assert done.returncode != 0
    assert "RuntimeError: FASTRNN_EXTENSIONS: expected 'all', 'none' or" in done.stderr
    assert "got 'avx512_telepathy'" in done.stderr
    for own in fastrnn.isa.extensions():
        assert own.name in done.stderr


class _AskedError(Exception):
    """What a call would have the engine do, instead of doing it."""


@pytest.fixture
def multiplying(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an extension with products of bfloat16 were on; calls end where it would begin."""

    def ask(batch: Any, *_: Any) -> Any:
        raise _AskedError(batch.spec.products)

    monkeypatch.setattr(cpu, "_multiplies_bfloat16", lambda isa: True)
    monkeypatch.setattr(cpu, "make_plan", ask)
    for raised in ("layer_raised", "cell_raised"):
        monkeypatch.setattr(short_way, raised, lambda *_: None)


MULTIPLIES = cpu._multiplies_bfloat16(fastrnn.isa.active())


def products_of(layer: Any, *arguments: Any) -> str:
    with pytest.raises(_AskedError) as asked:
        layer(*arguments)
    return str(asked.value)


@pytest.mark.usefixtures("multiplying")
@pytest.mark.parametrize("layer", [fastrnn.LSTM(5, 6), fastrnn.GRU(5, 6), fastrnn.LSTMCell(5, 6)])
def test_calls_in_bfloat16_leave_their_products_to_the_extension(layer: Any) -> None:
    x = torch.randn(2, 5) if isinstance(layer, fastrnn.LSTMCell) else torch.randn(3, 2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products_of(layer, x) == "bfloat16"
    with torch.autocast("cpu", dtype=torch.float16):
        assert products_of(layer, x) == "float32"
    assert products_of(layer.bfloat16(), x.bfloat16()) == "bfloat16"
    assert products_of(layer.half(), x.half()) == "float32"
    layer.float()


@pytest.mark.usefixtures("float32_products")
def test_calls_in_bfloat16_are_those_of_float32_without_an_extension() -> None:
    layer, x = fastrnn.LSTM(5, 6).bfloat16(), torch.randn(3, 2, 5).bfloat16()
    y, _ = layer(x)
    z, _ = fastrnn.convert(layer).float()(x.float())
    torch.testing.assert_close(y, z.bfloat16(), rtol=0, atol=0)


def test_an_instruction_set_without_the_products_refuses_a_plan_with_them() -> None:
    without = next(isa for isa in fastrnn.isa.available() if not cpu._multiplies_bfloat16(isa))
    with pytest.raises(ValueError, match="format: expected one that the instruction set has"):
        fastrnn._core.Plan(
            cell=fastrnn._core.Cell.lstm,
            dtype=fastrnn._core.DType.float32,
            T=2,
            B=1,
            I=5,
            H=6,
            threads=1,
            isa=without,
            format=fastrnn._core.Format.bfloat16_products,
        )


def rounds(layer: Any, *arguments: Any) -> bool:
    """Whether results under autocast are others than those of float32, rounded."""
    expected = flat(layer(*arguments))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = flat(layer(*arguments))
    return not all(torch.equal(g, e.to(g.dtype)) for g, e in zip(got, expected, strict=True))


def test_a_single_step_is_not_multiplied_in_bfloat16() -> None:
    for layer in (fastrnn.LSTM(40, 30), fastrnn.GRU(40, 30), fastrnn.RNN(40, 30)):
        assert not rounds(layer, torch.randn(1, 3, 40))
    for cell in (fastrnn.LSTMCell(40, 30), fastrnn.GRUCell(40, 30)):
        assert not rounds(cell, torch.randn(3, 40))


def test_more_steps_are_where_an_extension_does_it() -> None:
    assert rounds(fastrnn.LSTM(40, 30), torch.randn(2, 3, 40)) == MULTIPLIES


def close(got: Any, expected: Any) -> bool:
    """To what rounding factors of products to bfloat16 may cost a short sequence."""
    pairs = zip(flat(got), flat(expected), strict=True)
    return all((g.float() - e).norm() < 2**-6 * e.norm() for g, e in pairs)


LAYERS = {
    "LSTM": lambda: fastrnn.LSTM(40, 30, 2, bidirectional=True),
    "projected": lambda: fastrnn.LSTM(40, 30, 2, bidirectional=True, proj_size=21),
    "GRU": lambda: fastrnn.GRU(40, 30, 2, bidirectional=True),
    "reset before": lambda: fastrnn.GRU(40, 30, 2, bidirectional=True, reset_after=False),
    "RNN": lambda: fastrnn.RNN(40, 30, 2, bidirectional=True),
    "program": lambda: fastrnn.Recurrent(fastrnn.cells.MGU, 40, 30),
    "heads": lambda: fastrnn.Recurrent(fastrnn.cells.SLSTM, 40, 30, num_heads=3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_road_under_autocast_is_close_to_float32(name: str) -> None:
    layer = LAYERS[name]()
    x = torch.randn(7, 5, 40, requires_grad=True)
    wanted = [x, *layer.parameters()]
    lengths, resets = torch.tensor([7, 3, 5, 1, 6]), torch.rand(7, 5) < 0.3
    calls = {
        "dense": lambda: layer(x),
        "ragged": lambda: layer(x, lengths=lengths),
        "resets": lambda: layer(x, resets=resets),
        "packed": lambda: layer(pack_padded_sequence(x, lengths, enforce_sorted=False)),
        "samples": lambda: torch.func.vmap(layer, in_dims=2, out_dims=2)(x[:, :, None])[0],
    }
    for road, call in calls.items():
        expected = call()
        gradients = torch.autograd.grad(flat(expected)[0].sum(), wanted)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = call()
        assert close(got, expected), road
        assert close(torch.autograd.grad(flat(got)[0].sum(), wanted), gradients), road


def test_long_batches_under_autocast_have_gradients_close_to_float32() -> None:
    layer, x = fastrnn.LSTM(40, 130), torch.randn(60, 37, 40, requires_grad=True)
    wanted, d_y = [x, *layer.parameters()], torch.randn(60, 37, 130)
    expected = torch.autograd.grad(layer(x)[0], wanted, d_y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    assert close(torch.autograd.grad(y, wanted, d_y.to(y.dtype)), expected)


@pytest.mark.parametrize("name", ["LSTM", "projected", "GRU", "reset before", "program"])
def test_a_row_under_autocast_depends_on_itself_alone(name: str) -> None:
    layer = LAYERS[name]()
    x = torch.randn(6, 137, 40, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, alone = layer(x)[0], layer(x[:, 11:12])[0]
    assert torch.equal(y[:, 11:12], alone)
    d_y = torch.randn(y.shape, dtype=y.dtype)
    (d_x,) = torch.autograd.grad(y, x, d_y)
    (d_alone,) = torch.autograd.grad(alone, x, d_y[:, 11:12])
    assert torch.equal(d_x[:, 11], d_alone[:, 11])


@pytest.mark.skipif("short" not in roads.ROADS, reason="this torch has no short way")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", *CELLS])
def test_half_precision_has_the_same_bits_by_the_short_way(
    name: str, dtype: torch.dtype | None
) -> None:
    """``dtype`` of all tensors, or for None of float32 under autocast."""
    one_step = name in CELLS
    options = {} if one_step else {"num_layers": 2, "bidirectional": True}
    layer = getattr(fastrnn, name)(40, 30, dtype=dtype, **options)
    state = torch.randn((2, 30) if one_step else (4, 2, 30), dtype=dtype, requires_grad=True)
    hx = (state, state) if name.startswith("LSTM") else state
    for T in (1,) if one_step else (1, 7):
        x = torch.randn(*(() if one_step else (T,)), 2, 40, dtype=dtype, requires_grad=True)
        found = []
        for road in ("short", "eager"):
            half = nullcontext() if dtype else torch.autocast("cpu", dtype=torch.bfloat16)
            with roads.road(road), half:
                outputs = [*flat(layer(x)), *flat(layer(x, hx))]
            loss = sum((y.float() * k).sum() for k, y in enumerate(outputs, 1))
            found.append([*outputs, *torch.autograd.grad(loss, [x, state, *layer.parameters()])])
        for short, long in zip(*found, strict=True):
            assert short.dtype is long.dtype
            assert torch.equal(short, long)
