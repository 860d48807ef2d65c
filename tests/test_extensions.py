"""Instructions beyond an instruction set: which there are, what turns them on, who asks for them.

What they compute is held by the engine's own kernel tests (csrc/testing/kernels/extensions.cpp),
which need no processor that has them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from new_process import run_python

import fastrnn
from fastrnn._engine import cpu


def test_each_extension_belongs_to_an_instruction_set_that_was_built() -> None:
    for own in fastrnn.isa.extensions():
        assert own.isa in fastrnn.isa.built()
        assert own.name.startswith(own.isa)
        assert own.number_format in ("int8", "bfloat16_products")


@pytest.mark.parametrize(("wanted", "on"), [("", False), ("all", True)])
def test_an_extension_is_on_if_it_was_asked_for_and_the_processor_has_it(
    wanted: str, on: bool
) -> None:
    code = "import fastrnn; print([(own.on, own.available) for own in fastrnn.isa.extensions()])"
    done = run_python("-c", code, FASTRNN_EXTENSIONS=wanted)
    assert done.returncode == 0, done.stderr
    expected = [(own.available and on, own.available) for own in fastrnn.isa.extensions()]
    assert done.stdout.strip() == str(expected)


def test_an_extension_that_does_not_exist_here_is_an_error_that_lists_those_that_do() -> None:
    code = "import fastrnn; fastrnn.isa.active()"
    done = run_python("-c", code, FASTRNN_EXTENSIONS="all,avx512_telepathy")
    assert done.returncode != 0
    assert "RuntimeError: FASTRNN_EXTENSIONS: expected 'all' or" in done.stderr
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


def test_calls_in_bfloat16_are_those_of_float32_without_an_extension() -> None:
    if any(own.on for own in fastrnn.isa.extensions()):
        pytest.skip("an extension is on")
    layer, x = fastrnn.LSTM(5, 6).bfloat16(), torch.randn(3, 2, 5).bfloat16()
    y, _ = layer(x)
    z, _ = fastrnn.convert(layer).float()(x.float())
    torch.testing.assert_close(y, z.bfloat16(), rtol=0, atol=0)


def test_an_instruction_set_without_the_products_refuses_a_plan_with_them() -> None:
    if cpu._multiplies_bfloat16(fastrnn.isa.active()):
        pytest.skip("it has them")
    with pytest.raises(ValueError, match="format: expected one that the instruction set has"):
        fastrnn._core.Plan(
            cell=fastrnn._core.Cell.lstm,
            dtype=fastrnn._core.DType.float32,
            T=1,
            B=1,
            I=5,
            H=6,
            threads=1,
            isa=fastrnn.isa.active(),
            format=fastrnn._core.Format.bfloat16_products,
        )
