"""torch.func.functionalize: with other transformations, in what make_fx traces, and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of
from torch import Tensor
from torch.func import functionalize, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import PackedSequence

import fastrnn

F64 = torch.float64
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own forward mode


def assert_all_close(got: Any, expected: Any) -> None:
    for g, e in zip(flat(got), flat(expected), strict=True):
        torch.testing.assert_close(g, e)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_functionalized_layers_compute_what_they_do(kind: str) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4), input_of(kind)

    def after_a_change_in_place(x: Tensor) -> Any:
        x = x.clone()
        x[0].mul_(2)
        return layer(x)

    assert_all_close(functionalize(layer)(x), layer(x))
    got = functionalize(after_a_change_in_place)(x)
    assert_all_close(got, after_a_change_in_place(x))
    if kind in LAYERS:
        flags = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 0], [1, 1]]) == 1
        for given in ({"lengths": torch.tensor([3, 5])}, {"resets": flags, "return_states": True}):
            assert_all_close(functionalize(lambda x, g=given: layer(x, **g))(x), layer(x, **given))


def test_a_functionalized_packed_batch() -> None:
    layer = fastrnn.GRU(3, 4, num_layers=2)
    sizes, order = torch.tensor([2, 2, 1]), torch.tensor([1, 0])
    rows = torch.randn(5, 3)

    def call(rows: Tensor) -> list[Tensor]:
        return flat(layer(PackedSequence(rows, sizes, order, order)))

    assert_all_close(functionalize(call)(rows), call(rows))


def gradient_of(f: Any) -> Any:
    return grad(lambda x: f(x).square().sum())


COMBINATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "of grad": lambda make, f: make(gradient_of(f)),
    "under grad": lambda make, f: gradient_of(make(f)),
    "of grad of grad": lambda make, f: make(gradient_of(gradient_of(f))),
    "of vmap": lambda make, f: make(vmap(f, in_dims=1)),
    "under vmap": lambda make, f: vmap(make(f), in_dims=1),
    "of vmap of grad": lambda make, f: make(vmap(gradient_of(f), in_dims=1)),
    "of jvp": lambda make, f: make(lambda x: jvp(f, (x,), (x,))),
}


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_functionalize_combines_with_other_transformations(kind: str, combination: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64)
    combine, x = COMBINATIONS[combination], torch.randn(5, 2, 3, dtype=F64)

    def outputs(x: Tensor) -> Tensor:
        return flat(layer(x))[0]

    assert_all_close(combine(functionalize, outputs)(x), combine(lambda f: f, outputs)(x))


@pytest.mark.parametrize("form", ["lengths", "lengths, resets", "packed"])
@pytest.mark.parametrize("kind", LAYERS)
def test_ragged_batches_are_functionalized_with_their_gradients(kind: str, form: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4, num_layers=2, bidirectional=True, dtype=F64)
    keywords: dict[str, Any] = {"return_states": True}
    if form != "packed":
        keywords["lengths"] = torch.tensor([3, 0])
    if "resets" in form:
        keywords["resets"] = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 0], [1, 1]]) == 1

    def loss(x: Tensor) -> Tensor:
        given: Any = x
        if form == "packed":
            order = torch.tensor([1, 0])
            given = PackedSequence(x.flatten(0, 1)[:7], torch.tensor([2, 2, 1, 1, 1]), order, order)
        outputs = flat(layer(given, **keywords))
        return sum(
            (y - torch.arange(y.numel()).cos().view(y.shape)).square().sum() for y in outputs
        )

    x = torch.randn(5, 2, 3, dtype=F64)
    assert_all_close(functionalize(grad(loss))(x), grad(loss)(x))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_make_fx_finds_one_node_in_what_is_functionalized(kind: str) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4), input_of(kind)
    graph = make_fx(functionalize(lambda x: flat(layer(x))))(x)
    targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert sum(target.startswith("fastrnn.") for target in targets) == 1
    other = torch.randn_like(x)
    assert_all_close(graph(other), layer(other))
    of_input = functionalize(grad(lambda x: flat(layer(x))[0].square().sum()))
    assert_all_close(make_fx(of_input)(x)(other), of_input(other))


@pytest.mark.parametrize("form", ["dense", "lengths"])
@pytest.mark.parametrize("kind", LAYERS)
def test_functionalize_around_backward_gives_the_gradients_of_backward(
    kind: str, form: str
) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64)
    given = {} if form == "dense" else {"lengths": torch.tensor([5, 2])}
    y = flat(layer(torch.randn(5, 2, 3, dtype=F64), **given))[0]
    parameters = list(layer.parameters())

    def gradients(d_y: Tensor) -> tuple[Tensor, ...]:
        d_y = d_y.clone()
        d_y.view(-1).mul_(2)
        return torch.autograd.grad(y, parameters, d_y, retain_graph=True)

    d_y = torch.randn_like(y)
    assert_all_close(functionalize(gradients)(d_y), gradients(d_y))
