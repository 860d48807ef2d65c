"""Parameters that change places with others: right results, or the error of torch's layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, assert_same, flat, input_of, twins
from torch import Tensor

KINDS = (*LAYERS, *CELLS)


def swap(layer: Any) -> None:
    """Every parameter with another of the same shape."""
    for parameter in layer.parameters():
        torch.utils.swap_tensors(parameter, torch.nn.Parameter(parameter.detach() + 0.5))


def load(layer: Any) -> None:
    layer.load_state_dict({name: value + 0.5 for name, value in layer.state_dict().items()})


CHANGES: dict[str, Callable[[Any], object]] = {
    "swap_tensors": swap,
    "double": torch.nn.Module.double,
    "half and back": lambda layer: layer.half().float(),
    "load_state_dict": load,
}


def changed(layer: Any, change: str) -> list[Tensor]:
    """Conversions and `load_state_dict` swap parameters for the time of the change."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        CHANGES[change](layer)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    return []


def outcome(work: Callable[[], list[Tensor]]) -> list[Tensor] | str:
    """What it returns, or what it raises."""
    try:
        return work()
    except (RuntimeError, ValueError) as error:
        return str(error)


def assert_no_worse(got: list[Tensor] | str, expected: list[Tensor] | str) -> None:
    """The same results as torch's layer has, or an error where that has one too."""
    if isinstance(expected, str):
        assert isinstance(got, str)
    else:
        assert not isinstance(got, str), got
        for g, e in zip(got, expected, strict=True):
            assert_same([g], [e], e.dtype)


@pytest.mark.parametrize("called", [False, True], ids=["new", "called"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_call_computes_what_torchs_layer_does(
    kind: str, change: str, called: bool
) -> None:
    layers, x = twins(kind), input_of(kind)
    refused, outputs = [], []
    for layer in layers:
        graph = flat(layer(x)) if called else []
        parameters = list(layer.parameters())
        refused.append(outcome(lambda layer=layer: changed(layer, change)))
        del graph
        assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))
        y = x.to(parameters[0].dtype)
        outputs.append(outcome(lambda layer=layer, y=y: flat(layer(y))))
    assert_no_worse(*refused)
    if not isinstance(refused[1], str):  # else some are swapped, and which is torch's matter
        assert_no_worse(*outputs)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_swap_between_forward_and_backward_ends_as_with_torchs_layer(
    kind: str, change: str
) -> None:
    layers, x = twins(kind), input_of(kind).requires_grad_()

    def gradients(layer: Any) -> list[Tensor]:
        y = flat(layer(x))[0]
        changed(layer, change)
        return list(torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]))

    got, expected = (outcome(lambda layer=layer: gradients(layer)) for layer in layers)
    assert_no_worse(got, expected)
