"""torch.compile and torch.export: one node a layer, and the eager result for any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, OLD_TORCH, flat
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn

pytestmark = [  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture(autouse=True)
def _allow_rnn() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


class Nodes:
    """A backend that counts the operators of fastrnn's in what it is given to compile."""

    def __init__(self) -> None:
        self.forward: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        targets = [str(node.target) for node in graph.graph.nodes]
        self.forward.append(sum("fastrnn.recurrence" in target for target in targets))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


def results(layer: Any, x: Tensor, **keywords: Any) -> list[Tensor]:
    """Outputs, and the gradients of x and of the parameters."""
    torch.manual_seed(3)
    outputs = flat(layer(x, **keywords))
    loss = sum(y.square().sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(loss, [x, *layer.parameters()])]


def assert_compiled_is_eager(
    layer: Any, make: Callable[..., tuple[Tensor, dict[str, Any]]]
) -> None:
    nodes = Nodes()
    compiled = torch.compile(layer, backend=nodes, fullgraph=True)
    for steps, batch in ((5, 2), (6, 3), (7, 4)):
        x, keywords = make(steps, batch)
        x.requires_grad_()
        expected = results(layer, x, **keywords)
        for got, want in zip(results(compiled, x, **keywords), expected, strict=True):
            torch.testing.assert_close(got, want)
        with torch.no_grad():
            torch.manual_seed(3)
            got = flat(compiled(x.detach(), **keywords))
        for g, w in zip(got, expected, strict=False):
            torch.testing.assert_close(g, w.detach())
    assert set(nodes.forward) == {1}
    assert len(nodes.forward) <= 4  # static and dynamic, training and inference


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_layer_is_one_node_and_gives_the_eager_result_for_any_size(kind: str) -> None:
    def make(steps: int, batch: int) -> tuple[Tensor, dict[str, Any]]:
        return torch.randn(*((steps,) if kind in LAYERS else ()), batch, 3), {}

    assert_compiled_is_eager(getattr(fastrnn, kind)(3, 4), make)


OPTIONS: dict[str, dict[str, Any]] = {
    "stack": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
    "batch first": {"batch_first": True, "bias": False},
    "dropout": {"num_layers": 2, "dropout": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_are_compiled_too(options: dict[str, Any]) -> None:
    def make(steps: int, batch: int) -> tuple[Tensor, dict[str, Any]]:
        return torch.randn(steps, batch, 3), {}

    assert_compiled_is_eager(fastrnn.LSTM(3, 4, **options), make)


def test_lengths_resets_and_states_are_compiled_too() -> None:
    def make(steps: int, batch: int) -> tuple[Tensor, dict[str, Any]]:
        keywords = {
            "lengths": torch.randint(0, steps + 1, (batch,)),
            "resets": torch.rand(steps, batch) < 0.3,
            "return_states": True,
        }
        return torch.randn(steps, batch, 3), keywords

    assert_compiled_is_eager(fastrnn.LSTM(3, 4), make)


def test_wrong_lengths_are_refused_by_the_compiled_layer() -> None:
    compiled = torch.compile(fastrnn.GRU(3, 4), backend="eager", fullgraph=True)
    with pytest.raises(ValueError, match="lengths: expected numbers from 0 to the 5 steps"):
        compiled(torch.randn(5, 2, 3), lengths=torch.tensor([9, 1]))


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 cannot compile its own unpacking")
def test_packed_batches_are_compiled_between_the_graphs_of_packing() -> None:
    layer = fastrnn.GRU(3, 4)

    def model(x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0])[0]

    x, lengths = torch.randn(5, 3, 3), torch.tensor([2, 5, 1])
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x, lengths), model(x, lengths))


def test_inductor_compiles_a_model_for_training() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), fastrnn.GRU(3, 4))
    x = torch.randn(5, 2, 3, requires_grad=True)
    compiled = torch.compile(model, fullgraph=True)
    for got, want in zip(results(compiled, x), results(model, x), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("lengths", [None, [2, 5]], ids=["the short way", "the long way"])
def test_compiled_autograd_goes_through_layers_that_are_not_compiled(
    lengths: list[int] | None,
) -> None:
    layer = fastrnn.GRU(3, 4)
    compiler = torch.compile(backend="aot_eager")
    for _ in range(2):
        x = torch.randn(5, 2, 3, requires_grad=True)
        *_, expected = results(layer, x, lengths=lengths)
        layer.zero_grad()
        loss = sum(y.square().sum() for y in flat(layer(x, lengths=lengths)))
        with torch._dynamo.compiled_autograd._enable(compiler):
            loss.backward()
        torch.testing.assert_close(list(layer.parameters())[-1].grad, expected)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_an_exported_layer_is_one_node_and_takes_any_batch_and_time(
    kind: str, strict: bool
) -> None:
    layer = getattr(fastrnn, kind)(3, 4, num_layers=2)
    sizes = {0: torch.export.Dim("steps"), 1: torch.export.Dim("batch")}
    program = torch.export.export(
        layer, (torch.randn(5, 2, 3),), dynamic_shapes=(sizes,), strict=strict
    )
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum("fastrnn.recurrence" in target for target in targets) == 1
    x = torch.randn(9, 4, 3)
    for got, want in zip(flat(program.module()(x)), flat(layer(x)), strict=True):
        torch.testing.assert_close(got, want)
