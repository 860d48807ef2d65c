"""torch.func inside of torch.compile: one graph, and the eager result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from cases import CELLS, OLD_TORCH, flat
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils.rnn import PackedSequence

import fastrnn

pytestmark = [  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of"),
]


@pytest.fixture(autouse=True)
def _allow_rnn() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


class Operators:
    """A backend that notes which operators of fastrnn's are left when torch has traced a graph."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._compile = aot_autograd(fw_compiler=self._noted, bw_compiler=self._noted)

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        return self._compile(graph, inputs)

    def _noted(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        targets = [str(node.target) for node in graph.graph.nodes]
        self.names += [t.split(".")[1] for t in targets if t.startswith("fastrnn.")]
        return graph.forward


def parameters_of(layer: Any) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


def as_it_is(x: Tensor) -> tuple[Any, dict[str, Any]]:
    return x, {}


def loss_of(layer: Any, given: Callable[[Tensor], tuple[Any, dict[str, Any]]] = as_it_is) -> Any:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        input, keywords = given(x)
        outputs = functional_call(layer, parameters, (input,), keywords)
        return sum(y.square().sum() for y in flat(outputs))

    return loss


def penalty(loss: Any, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return sum(g.square().sum() for g in grad(loss)(parameters, x).values())

    return grad(norm)(x)


TRANSFORMED: dict[str, Callable[..., Any]] = {
    "grad": lambda loss, p, x, xs: grad(loss)(p, x),
    "vmap": lambda loss, p, x, xs: vmap(loss, in_dims=(None, 0))(p, xs),
    "vmap of grad": lambda loss, p, x, xs: vmap(grad(loss), in_dims=(None, 0))(p, xs),
    "jvp": lambda loss, p, x, xs: jvp(lambda x: loss(p, x), (x,), (x.cos(),)),
    "grad of grad": lambda loss, p, x, xs: penalty(loss, p, x),
    "grad of vmap of grad": lambda loss, p, x, xs: grad(
        lambda xs: sum(
            g.square().sum() for g in vmap(grad(loss), in_dims=(None, 0))(p, xs).values()
        )
    )(xs),
}


def assert_compiled_is_eager(layer: Any, transformed: str, loss: Any) -> list[str]:
    """Gives the names of the operators in the graph."""
    # Two steps: each is traced anew, in every derivative of a derivative.
    sizes = (2, 3) if isinstance(layer, torch.nn.RNNCellBase) else (2, 2, 3)
    x, xs = (torch.randn(*size, dtype=torch.float64) for size in (sizes, (4, *sizes)))
    parameters, operators = parameters_of(layer), Operators()
    compute = partial(TRANSFORMED[transformed], loss)
    compiled = torch.compile(compute, backend=operators, fullgraph=True)
    torch.testing.assert_close(compiled(parameters, x, xs), compute(parameters, x, xs))
    return operators.names


@pytest.mark.parametrize("transformed", TRANSFORMED)
def test_a_layer_is_transformed_inside_of_a_graph(transformed: str) -> None:
    layer = fastrnn.LSTM(3, 4, dtype=torch.float64)
    assert_compiled_is_eager(layer, transformed, loss_of(layer))


@pytest.mark.parametrize("transformed", ["vmap of grad", "jvp"])
@pytest.mark.parametrize("kind", ["GRU", "RNN", *CELLS])
def test_other_layers_and_cells_are_too(kind: str, transformed: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=torch.float64)
    assert_compiled_is_eager(layer, transformed, loss_of(layer))


def with_lengths(x: Tensor) -> tuple[Any, dict[str, Any]]:
    return x, {"lengths": torch.tensor([1, 2])}


def packed(x: Tensor) -> tuple[Any, dict[str, Any]]:
    order = torch.tensor([1, 0])
    sizes = torch.tensor([2, 1])
    return PackedSequence(x.flatten(0, 1)[:3], sizes, order, order), {}


refused = pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 cannot compile a PackedSequence")


@pytest.mark.parametrize("given", [as_it_is, with_lengths, pytest.param(packed, marks=refused)])
def test_gradients_of_each_sample_are_two_nodes_a_layer(given: Any) -> None:
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "peephole": "io"}
    layer = fastrnn.LSTM(3, 4, dtype=torch.float64, **options)
    names = assert_compiled_is_eager(layer, "vmap of grad", loss_of(layer, given))
    assert sorted(names) == ["recurrence_backward"] * 2 + ["recurrence_forward"] * 2


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 compiles no derivatives of derivatives here")
@pytest.mark.parametrize("transformed", ["jvp", "grad of grad"])
@pytest.mark.parametrize("given", [with_lengths, pytest.param(packed, marks=refused)])
def test_ragged_batches_have_derivatives_of_every_kind(given: Any, transformed: str) -> None:
    layer = fastrnn.LSTM(3, 4, dtype=torch.float64, bidirectional=True)
    assert_compiled_is_eager(layer, transformed, loss_of(layer, given))


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 compiles no derivatives of derivatives here")
@pytest.mark.parametrize("trained", [True, False])
def test_forward_mode_inside_of_a_graph_has_tangents(trained: bool) -> None:
    layer = fastrnn.GRU(3, 4, dtype=torch.float64).requires_grad_(trained)
    x, v = (torch.randn(2, 2, 3, dtype=torch.float64) for _ in range(2))

    def tangent(x: Tensor, v: Tensor) -> Any:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(layer(forward_ad.make_dual(x, v))[0]).tangent

    compiled = torch.compile(tangent, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, v), tangent(x, v))


def test_inductor_compiles_gradients_of_each_sample() -> None:
    layer = fastrnn.LSTM(3, 4)
    parameters, xs = parameters_of(layer), torch.randn(4, 5, 2, 3)
    of_samples = vmap(grad(loss_of(layer)), in_dims=(None, 0))
    compiled = torch.compile(of_samples, fullgraph=True)
    torch.testing.assert_close(compiled(parameters, xs), of_samples(parameters, xs))
