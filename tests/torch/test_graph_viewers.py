"""What drawers of autograd's graph, such as torchviz, ask of its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn import _torch

KINDS = [*LAYERS, *CELLS]


def nodes_below(*outputs: torch.Tensor) -> Iterator[Any]:
    """All nodes of the graph, each once, as torchviz walks them."""
    waiting, seen = [y.grad_fn for y in outputs], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]


def drawn(*outputs: torch.Tensor) -> tuple[set[str], set[torch.Tensor]]:
    """Names of all nodes, and the tensors that torchviz would draw: leaves, and what is saved."""
    names, tensors = set(), set()
    for node in nodes_below(*outputs):
        names.add(node.name())
        assert isinstance(node.metadata, dict)
        found = [node.variable] if hasattr(node, "variable") else []
        found += getattr(node, "saved_tensors", ())
        assert all(isinstance(one, torch.Tensor) for one in found), node
        tensors |= set(found)
    return names, tensors


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["short", "eager", "operator"])
def test_every_node_is_drawn(
    way: str, kind: str, with_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4), input_of(kind)
    h = torch.randn((1, 2, 4) if kind in LAYERS else (2, 4))
    hx = None if not with_state else (h, h.clone()) if kind.startswith("LSTM") else h
    if way == "eager":
        monkeypatch.setattr(_torch, "is_profiled", lambda: True)  # which the short way is not for
    if way == "operator":
        monkeypatch.setattr(_torch, "is_observed", lambda: True)
    outputs = flat(layer(x, hx))
    names, tensors = drawn(*outputs)
    assert tensors >= {x, *layer.parameters()}
    assert len([name for name in names if "ecurrence" in name]) == 1
    torch.stack([y.sum() for y in outputs]).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_packed_and_ragged_calls_are_drawn() -> None:
    layer = fastrnn.GRU(3, 4, num_layers=2, dropout=0.5)
    packed = pack_sequence([torch.randn(3, 3), torch.randn(1, 3)])
    ragged = layer(torch.randn(5, 2, 3), lengths=[5, 2], return_states=True)
    for outputs in (layer(packed), ragged):
        _, tensors = drawn(*flat(*outputs))
        assert tensors >= {*layer.parameters()}


def test_gradients_that_will_be_differentiated_are_drawn() -> None:
    layer, x = fastrnn.LSTM(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    traced = torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))[0]
    (gradient,) = torch.autograd.grad(traced.square().sum(), x, create_graph=True)
    _, tensors = drawn(gradient)
    assert tensors >= {*layer.parameters()}
