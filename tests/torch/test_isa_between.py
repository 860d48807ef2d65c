"""Another instruction set backward than forward: what forward kept says how it is laid out."""

from __future__ import annotations

import pytest
import torch
from cases import OLD_TORCH, Case, assert_same
from torch import Tensor

import fastrnn
from fastrnn import isa
from fastrnn._engine import cpu
from fastrnn._layers import short_way
from fastrnn._layers.plan import layer_plan

ISAS = isa.available()
CASE = Case(input_size=16, hidden_size=33, lengths=(23,) * 9)


def by_vmap(layer: fastrnn.GRU, x: Tensor) -> Tensor:
    y: Tensor = torch.func.vmap(lambda row: layer(row)[0], in_dims=1, out_dims=1)(x)
    return y


def by_trace(layer: fastrnn.GRU, x: Tensor) -> Tensor:
    y: Tensor = torch.jit.trace(layer, (x,), check_trace=False)(x)[0]
    return y


def by_operator(layer: fastrnn.GRU, x: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastrnn._autograd.operators, "is_watched", lambda: True)
        patch.setattr(short_way, "layer_directly", lambda *arguments: None)
        y: Tensor = layer(x)[0]
        return y


def plainly(layer: fastrnn.GRU, x: Tensor) -> Tensor:
    y: Tensor = layer(x)[0]
    return y


def gradients(layer: fastrnn.GRU, y: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(y.square().sum(), list(layer.parameters())))


@pytest.mark.skipif(len(ISAS) < 2, reason="this machine has one instruction set")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("call", [plainly, by_trace, by_vmap, by_operator])
@pytest.mark.parametrize("there", ISAS)
@pytest.mark.parametrize("back", ISAS)
def test_backward_computes_with_the_instruction_set_of_forward(
    call: object, there: str, back: str
) -> None:
    layer, x = fastrnn.GRU(16, 33), torch.randn(23, 9, 16)
    assert callable(call)
    with isa.force(there):
        wanted = gradients(layer, call(layer, x))
        y = call(layer, x)
    with isa.force(back):
        for got, want in zip(gradients(layer, y), wanted, strict=True):
            assert torch.equal(got, want) or call is by_vmap
            assert_same([got], [want], CASE)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_graph_keeps_enough_for_every_instruction_set(kind: str) -> None:
    sizes = set()
    for name in ISAS:
        with isa.force(name):
            cpu._kept_of_sixteen.cache_clear()
            spec = layer_plan(
                kind.lower().replace("rnn", "rnn_tanh"), 16, 33, 0, 1, True, False, 0.0
            ).expected.spec
            sizes.add(cpu.BACKEND.kept_bytes(spec, torch.float32, 207, False))
    assert len(sizes) == 1


@pytest.mark.skipif(OLD_TORCH, reason="its compiler refuses such layers")
@pytest.mark.skipif(len(ISAS) < 2, reason="this machine has one instruction set")
def test_a_compiled_graph_serves_every_instruction_set() -> None:
    layer, x = fastrnn.LSTM(16, 33), torch.randn(23, 9, 16)
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(layer, backend="aot_eager")
        for name in reversed(ISAS):
            with isa.force(name):
                y = compiled(x)[0]
                wanted = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
            got = torch.autograd.grad(y.sum(), list(layer.parameters()))
            for one, want in zip(got, wanted, strict=True):
                assert_same([one], [want], CASE)
