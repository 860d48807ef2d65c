"""Memory that is not what it was, or not what it looks like: right results or torch's errors.

torch's own layers save views of their weights, and so give right gradients after ``module.half()``
and its kin. What ends the process when it goes wrong runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exchange
import pytest
import torch
from cases import CELLS, LAYERS, flat
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn._engine import native

REFUSED = ("freed", "shrunk")
"""No one can have the old values."""
OF_INPUTS = tuple(name for name in exchange.EXCHANGES if "input" in name or "state" in name)


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, ...], str]:
    script = Path(exchange.__file__)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    lines = map(json.loads, done.stdout.splitlines())
    return {tuple(case): result for *case, result in lines}


unknown = pytest.mark.skipif(
    native.tensors() is None, reason="without the short way nobody knows what memory it was"
)


@unknown
@pytest.mark.parametrize("name", exchange.EXCHANGES)
@pytest.mark.parametrize("kind", exchange.KINDS)
def test_memory_exchanged_between_forward_and_backward(
    kind: str, name: str, outcomes: dict[tuple[str, ...], str]
) -> None:
    for form in ("dense", "packed")[: 1 if kind in CELLS else 2]:
        result = outcomes.get((kind, form, name), "the process has ended")
        if name == "smaller" or (name == "smaller input" and form == "packed"):
            assert "must match the size" in result  # torch, of a gradient for other sizes
        elif form == "packed" and "input" in name:  # whose rows have been copied
            assert result == "right"
        elif name in REFUSED or name in OF_INPUTS:
            assert result.startswith("RuntimeError: ")
            assert "has got other memory" in result
        else:
            assert result == "right"


@unknown
def test_a_derivative_of_a_derivative_refuses_exchanged_memory() -> None:
    cell, x = fastrnn.GRUCell(3, 4), torch.randn(2, 3, requires_grad=True)
    y = cell(x)
    cell.double()
    with pytest.raises(RuntimeError, match=r"\(weight_ih_l0\).*has got other memory"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_saved_tensors_of_hooks_may_lie_anywhere_but_not_be_others() -> None:
    layer, x = fastrnn.GRU(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    (want,) = torch.autograd.grad(layer(x)[0].sum(), x)
    for unpack, fits in ((torch.clone, True), (Tensor.double, False), (lambda t: t[:1], False)):
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, unpack):
            y, _ = layer(x)
        if fits:
            assert torch.equal(*torch.autograd.grad(y.sum(), x), want)
            continue
        with pytest.raises(RuntimeError, match="expected a strided Tensor of shape"):
            torch.autograd.grad(y.sum(), x)


# ---- tensors that are not what they look like ----


def freed(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


def shrunk(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(16)
    return tensor


def left_over_of_vmap(tensor: Tensor) -> Tensor:
    left: list[Tensor] = []
    torch.func.vmap(lambda row: left.append(row) or row)(tensor[None])
    return left[0]


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "mkldnn": lambda tensor: tensor.to_mkldnn(),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 10, torch.quint8),
    "nested": lambda tensor: torch.nested.as_nested_tensor([tensor, tensor]),
    "zero by decree": lambda tensor: torch._efficientzerotensor(tensor.shape),
    "freed": freed,
    "a wrapper whose transformation is over": left_over_of_vmap,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["GRU", "GRUCell", "RNN", "LSTMCell"])
@pytest.mark.parametrize("place", ["input", "hx", "weight_ih", "weight_hh", "bias_hh"])
def test_an_odd_tensor_anywhere_is_right_or_an_error_but_never_ignored(
    kind: str, odd: str, place: str
) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    x, h = torch.randn((2, 3) if kind in CELLS else (5, 2, 3)), torch.randn(2, 4)
    h = h if kind in CELLS else h[None]
    make = ODD[odd]
    arguments = {"input": x, "hx": h}
    weights = dict(layer.named_parameters())
    name = next((name for name in weights if name.startswith(place)), place)
    dense = torch.zeros_like if odd == "zero by decree" else torch.clone
    results = []
    for change in (make, dense):
        values = {
            key: change(value.detach()) if key == name else value
            for key, value in (arguments | weights).items()
        }
        hx = (values["hx"], values["hx"]) if kind.startswith("LSTM") else values["hx"]
        try:
            with torch.no_grad():
                given = {key: values[key] for key in weights}
                y = torch.func.functional_call(layer, given, (values["input"], hx))
        except (RuntimeError, AttributeError, ValueError):
            if change is make:
                return
            raise
        results.append(y if isinstance(y, Tensor) else y[0])
    got, want = results
    torch.testing.assert_close(got, want)


def test_a_shrunk_storage_is_not_read_past_its_end_by_the_long_way() -> None:
    layer, x = fastrnn.GRU(16, 40), torch.randn(5, 3, 16)
    layer.weight_hh_l0 = torch.nn.Parameter(shrunk(layer.weight_hh_l0.detach()))
    with pytest.raises(RuntimeError, match="out of bounds for storage"), torch.no_grad():
        layer(x, return_states=True)


# ---- what is saved ----


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
@pytest.mark.parametrize("packed", [False, True])
def test_what_backward_does_not_read_may_change(kind: str, packed: bool) -> None:
    if kind in CELLS and packed:
        return
    layer, x = getattr(fastrnn, kind)(3, 4), torch.randn((2, 3) if kind in CELLS else (1, 2, 3))
    given: Any = pack_padded_sequence(x, [1, 1]) if packed else x

    def call() -> Tensor:
        y = layer(given)
        y = y if isinstance(y, Tensor) else y[0]
        return (y.data if packed else y).square().sum()

    weights = list(layer.parameters())
    want = torch.autograd.grad(call(), weights)
    loss = call()
    with torch.no_grad():  # an optimizer's step between two losses of one call
        for weight in weights:
            weight.mul_(0.9)
    for got, gradient in zip(torch.autograd.grad(loss, weights), want, strict=True):
        assert torch.equal(got, gradient)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("profiled", [False, True])
def test_gradients_do_not_depend_on_which_are_asked_for(
    kind: str, options: dict[str, Any], steps: int, profiled: bool
) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4, **options), torch.randn(steps, 2, 3)
    h = torch.randn(layer.num_layers * (1 + layer.bidirectional), 2, 4)
    inputs = [x, h, *layer.parameters()]

    def gradients(asked: list[bool]) -> list[Tensor]:
        for tensor, ask in zip(inputs, asked, strict=True):
            tensor.requires_grad_(ask)
        with torch.profiler.profile() if profiled else torch.enable_grad():
            y, _ = layer(x, (h, h) if kind == "LSTM" else h)
            loss = y.square().sum()
        wanted = [tensor for tensor, ask in zip(inputs, asked, strict=True) if ask]
        return list(torch.autograd.grad(loss, wanted))

    everything = gradients([True] * len(inputs))
    for place, want in enumerate(everything):
        only = [place == other for other in range(len(inputs))]
        assert torch.equal(*gradients(only), want)
        but_one = gradients([not one for one in only])
        for got, other in zip(but_one, everything[:place] + everything[place + 1 :], strict=True):
            assert torch.equal(got, other)


def test_a_held_weight_that_has_changed_is_an_error_where_it_is_read() -> None:
    cell, x = fastrnn.GRUCell(3, 4), torch.randn(2, 3)
    y = cell(x)
    with torch.no_grad():
        cell.bias_ih.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y.sum(), cell.weight_ih, create_graph=True)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_weights_made_in_inference_mode_compute_outside_of_it(kind: str) -> None:
    with torch.inference_mode():
        layer = getattr(fastrnn, kind)(3, 4)
        x = torch.ones((2, 3) if kind in CELLS else (1, 2, 3))
        expected = flat(layer(x))
    outputs = flat(layer(x.clone()))
    torch.testing.assert_close([y.detach() for y in outputs], expected)
    torch.autograd.grad(outputs[0].sum(), list(layer.parameters()))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        layer(x.clone().requires_grad_())
