"""Many gradients through one recorded call: what autograd gives for them one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, twins
from torch import Tensor
from torch.autograd import functional, gradcheck, gradgradcheck
from torch.func import vmap
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn._autograd import vmap as rule

F64 = torch.float64
pytestmark = [
    pytest.mark.usefixtures("float32_products"),
    # torch's own affairs
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean"),
]

FORMS: dict[str, dict[str, Any]] = {
    "dense": {},
    "batch first": {"batch_first": True},
    "stack": {"num_layers": 2, "bidirectional": True},
    "dropout": {"num_layers": 3, "dropout": 0.4},
    "lengths": {"bidirectional": True},
    "lengths, dropout": {"num_layers": 2, "dropout": 0.4},
    "no steps": {"num_layers": 2, "dropout": 0.4},
    "resets": {},
    "states": {"num_layers": 2},
    "packed": {"num_layers": 2, "dropout": 0.4},
    "traced": {"num_layers": 2},
    "options": {"reverse": True, "cell_clip": 0.3},
}


def outputs_of(form: str, layer: Any, x: Tensor) -> list[Tensor]:
    if form == "packed":
        order = torch.tensor([1, 0])
        sizes = torch.tensor([2, 2, 2, 1, 1])
        return flat(layer(PackedSequence(x.flatten(0, 1)[:8], sizes, order, order)))
    if form == "traced":
        return flat(torch.jit.trace(layer, x, check_trace=False)(x))
    keywords: dict[str, Any] = {}
    if form.startswith("lengths"):
        keywords["lengths"] = torch.tensor([3, 5])
    elif form == "no steps":
        keywords["lengths"] = torch.tensor([0, 0])
    elif form == "resets":
        keywords["resets"] = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 0], [1, 1]]) == 1
    elif form == "states":
        keywords["return_states"] = True
    return flat(layer(x, **keywords))


def grads(outputs: Any, inputs: Any, d_outputs: Any, **options: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, d_outputs, retain_graph=True, **options)


def at_once(outputs: Any, inputs: Any, d_outputs: Any) -> tuple[Tensor, ...]:
    return grads(outputs, inputs, d_outputs, is_grads_batched=True)


def with_graph(outputs: Any, inputs: Any, d_outputs: Any) -> tuple[Tensor, ...]:
    return grads(outputs, inputs, d_outputs, is_grads_batched=True, create_graph=True)


def under_vmap(outputs: Any, inputs: Any, d_outputs: Any) -> tuple[Tensor, ...]:
    return vmap(lambda *one: grads(outputs, inputs, one))(*d_outputs)


WAYS = (at_once, with_graph, under_vmap)


def assert_as_one_by_one(
    outputs: list[Tensor], inputs: list[Tensor], way: Callable[..., tuple[Tensor, ...]]
) -> None:
    d_outputs = [torch.randn(3, *y.shape, dtype=y.dtype) for y in outputs]
    got = way(outputs, inputs, d_outputs)
    expected = [grads(outputs, inputs, one) for one in zip(*d_outputs, strict=True)]
    for g, each in zip(got, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(g, torch.stack(each))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_batched_gradients_are_those_of_each_sample(kind: str, form: str, way: Any) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64, **FORMS[form])
    sizes = (2, 5, 3) if layer.batch_first else (5, 2, 3)
    x = torch.randn(*sizes, dtype=F64, requires_grad=True)
    assert_as_one_by_one(outputs_of(form, layer, x), [x, *layer.parameters()], way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CELLS)
def test_batched_gradients_of_cells_and_states(kind: str, way: Any) -> None:
    cell = getattr(fastrnn, kind)(3, 4, dtype=F64)
    x, h, c = (torch.randn(2, n, dtype=F64, requires_grad=True) for n in (3, 4, 4))
    states = [h, c] if kind == "LSTMCell" else [h]
    outputs = flat(cell(x, tuple(states) if kind == "LSTMCell" else h))
    assert_as_one_by_one(outputs, [x, *states, *cell.parameters()], way)


@pytest.mark.parametrize("kind", LAYERS)
def test_some_outputs_have_gradients_of_samples_and_others_none(kind: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64)
    x = torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    _, h_n, *_ = flat(layer(x))
    assert_as_one_by_one([h_n], [x, layer.weight_hh_l0], at_once)


def test_gradients_of_samples_of_samples() -> None:
    layer = fastrnn.GRU(3, 4, dtype=F64)
    x = torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    y, _ = layer(x)
    inputs = [x, *layer.parameters()]
    d_y = torch.randn(2, 3, *y.shape, dtype=F64)
    expected = grads(y, inputs, d_y[1, 2])
    nested = vmap(vmap(lambda d: grads(y, inputs, d)))(d_y)
    mixed = vmap(lambda d: grads(y, inputs, d, is_grads_batched=True))(d_y)
    for got in (nested, mixed):
        for g, e in zip(got, expected, strict=True):
            torch.testing.assert_close(g[1, 2], e)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", LAYERS)
def test_vectorized_jacobians_are_torch_s(kind: str, dtype: torch.dtype) -> None:
    fast, plain = twins(kind, dtype=dtype)
    x = torch.randn(5, 2, 3, dtype=dtype)
    got, expected = (
        functional.jacobian(lambda x, m=m: m(x)[0], x, vectorize=True)  # type: ignore[no-untyped-call]
        for m, x in ((fast, x), (plain.float(), x.float()))
    )
    torch.testing.assert_close(got, expected.to(dtype))  # computed in float32 and rounded once


def test_a_jacobian_is_a_few_calls_and_not_one_for_each_element(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = fastrnn.LSTM(3, 4), torch.randn(10, 2, 3)
    rows: list[int] = []
    operator = torch.ops.fastrnn.recurrence_backward

    def noted(*arguments: Any) -> Any:
        rows.append(arguments[7].shape[1])
        return operator(*arguments)

    monkeypatch.setattr(torch.ops.fastrnn, "recurrence_backward", noted)
    functional.jacobian(lambda x: layer(x)[0], x, vectorize=True)  # type: ignore[no-untyped-call]
    whole = rule.SAMPLES_AT_ONCE
    assert rows == [2 * whole, 2 * (10 * 2 * 4 - whole)]


@pytest.mark.filterwarnings("ignore:Please use `torch.vmap`")  # of torch 2.6 to itself
@pytest.mark.parametrize("kind", LAYERS)
def test_torch_s_own_checks_of_gradients_pass(kind: str) -> None:
    layer = getattr(fastrnn, kind)(2, 3, dtype=F64)
    x = torch.randn(3, 1, 2, dtype=F64, requires_grad=True)

    def outputs(x: Tensor, *weights: Tensor) -> Any:
        named = dict(zip(("weight_ih_l0", "weight_hh_l0"), weights, strict=True))
        return tuple(flat(torch.func.functional_call(layer, named, (x,))))

    inputs = (x, layer.weight_ih_l0, layer.weight_hh_l0)
    assert gradcheck(outputs, inputs, check_batched_grad=True, check_forward_ad=True)
    assert gradgradcheck(outputs, inputs, check_batched_grad=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_vectorized_jacobian_in_forward_mode_is_that_of_backward(kind: str) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4, dtype=F64), torch.randn(5, 2, 3, dtype=F64)
    backward, forward = (
        functional.jacobian(lambda x: layer(x)[0], x, vectorize=True, strategy=strategy)  # type: ignore[no-untyped-call]
        for strategy in ("reverse-mode", "forward-mode")
    )
    torch.testing.assert_close(forward, backward)


@pytest.mark.parametrize("name", ["hessian", "hvp", "vhp", "jvp", "vjp"])
def test_functional_derivatives_are_torch_s(name: str) -> None:
    fast, plain = twins("GRU", dtype=F64)
    x, v = torch.randn(2, 2, 2, 3, dtype=F64)
    given = {"vectorize": True} if name == "hessian" else {"v": v}
    if name == "vjp":
        given = {"v": torch.tensor(2.0, dtype=F64)}
    got, expected = (
        getattr(functional, name)(lambda x, m=m: m(x)[0].square().sum(), x, **given)
        for m in (fast, plain)
    )
    for g, e in zip(flat(got), flat(expected), strict=True):
        torch.testing.assert_close(g, e)
