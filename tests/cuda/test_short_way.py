"""The short way on a GPU gives the bits of the long one, and takes no tensor that is not plain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import pytest
import torch
from cases import Case, flat, like
from devices import BF16, F16, F32, F64, on, products
from torch import Tensor

import fastrnn
from fastrnn import _torch
from fastrnn._engine import cuda
from fastrnn._engine.cuda import backward, forward, stack
from fastrnn._layers import short_way
from fastrnn._layers.plan import cell_plan, layer_plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_torch.dlpack_exchange_api() is None, reason="torch 2.10 or later has it"),
]

STACKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first, no bias": {"batch_first": True, "bias": False},
    "stack of both directions": {"num_layers": 3, "bidirectional": True, "batch_first": True},
    "one step": {"lengths": (1, 1)},
    "no states given": {"num_layers": 2, "with_state": False},
}


@pytest.fixture(params=["emulation", "pretence"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device on which calls go the short way, though a mode that pretends sees all calls."""
    request.getfixturevalue(request.param)
    if request.param == "pretence":
        for way in ("layer_directly", "cell_directly"):  # the memory is the CPU's
            monkeypatch.setattr(short_way, way, lambda *_: None)
        monkeypatch.setattr(short_way, "sees_no_short_way", lambda: False)
        monkeypatch.setattr(stack, "empty_on", lambda _: empty)
    for made in (layer_plan, cell_plan):
        made.cache_clear()
    yield "cpu" if request.param == "emulation" else "cuda"
    for made in (layer_plan, cell_plan):
        made.cache_clear()


def empty(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(sizes, strides, dtype=dtype, device="cuda")


@contextmanager
def way(name: str) -> Iterator[None]:
    """Every call goes this way, and there is at least one."""
    directly, taken = short_way.directly_on_gpu, []

    def spied(*arguments: Any) -> Any:
        done = directly(*arguments) if name == "short" else None
        taken.append("long" if done is None else "short")
        return done

    with mock.patch.object(short_way, "directly_on_gpu", spied):
        yield
    assert set(taken) == {name}


def backward_by(name: str) -> Any:
    """The passes that Python drives have nothing to do where C++ drives them."""
    if name == "long":
        return nullcontext()
    never = AssertionError("the long way of backward")
    return mock.patch.object(backward.BackwardPass, "run", side_effect=never)


def results(module: Any, x: Tensor, hx: Any, name: str) -> list[Tensor]:
    """Outputs in inference and in training, and gradients of everything."""
    with way(name):
        with torch.no_grad():
            inferred = flat(module(x, hx))
        outputs = flat(module(x, hx))
    torch.manual_seed(0)
    d_outputs = [on("cuda" if y.is_cuda else "cpu", torch.randn_like(y.cpu())) for y in outputs]
    leaves = [x, *module.parameters(), *([] if hx is None else flat(hx))]
    with backward_by(name):
        gradients = torch.autograd.grad(outputs, leaves, d_outputs)
    return [*inferred, *outputs, *gradients]


def check_same(module: Any, x: Tensor, hx: Any) -> None:
    short, long = (results(module, x, hx, name) for name in ("short", "long"))
    for got, expected in zip(short, long, strict=True):
        assert torch.equal(got, expected)
        assert (got.dtype, got.stride(), got.is_cuda) == (
            expected.dtype,
            expected.stride(),
            expected.is_cuda,
        )


def placed(case: Case, where: str) -> tuple[Any, Tensor, Any]:
    return (
        case.build().to(where),
        on(where, like(case.input(), case.dtype)),
        on(where, like(case.state(), case.dtype)),
    )


@pytest.mark.parametrize("options", STACKS)
@pytest.mark.parametrize("dtype", [F32, F64, BF16, F16])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_layer_gives_the_bits_of_the_long_way(kind, dtype, options, where):
    check_same(*placed(Case(kind, dtype=dtype, **STACKS[options]), where))


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_projection_gives_the_bits_of_the_long_way(dtype, where):
    options = {"proj_size": 3, "num_layers": 2, "bidirectional": True}
    check_same(*placed(Case(dtype=dtype, **options), where))


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_it_rounds_float32_as_torch_is_told_to(precision, where):
    with products(precision):
        check_same(*placed(Case(), where))


@pytest.mark.parametrize("dtype", [F64, F16])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cell_gives_the_bits_of_the_long_way(kind, dtype, where):
    cell = getattr(fastrnn, f"{kind}Cell")(3, 4, dtype=dtype).to(where)
    x, h, c = (on(where, torch.randn(2, n, dtype=dtype).requires_grad_()) for n in (3, 4, 4))
    check_same(cell, x, (h, c) if kind == "LSTM" else h)


@pytest.mark.parametrize("wanted", ["input", "states", "weights of the second layer", "biases"])
def test_only_what_is_wanted_has_a_gradient(wanted, where):
    layer, x, hx = placed(Case("GRU", num_layers=2, bidirectional=True, dtype=F64), where)
    second = [p for name, p in layer.named_parameters() if "_l1" in name and "weight" in name]
    biases = [p for name, p in layer.named_parameters() if name.startswith("bias_hh")]
    leaves = {"input": [x], "states": [hx], "weights of the second layer": second}
    found = []
    for name in ("short", "long"):
        with way(name):
            y = layer(x, hx)[0]
        with backward_by(name):
            found.append(torch.autograd.grad(y.sum(), leaves.get(wanted, biases)))
    assert all(map(torch.equal, *found))


def unusual(what: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Any]:
    return {
        "strides": (x.transpose(0, 1).contiguous().transpose(0, 1), (h, c)),
        "a view that is negated": (torch._neg_view(x), (h, c)),
        "states that lie apart": (x, (h.repeat(1, 1, 2)[..., ::2], c)),
        "another dtype": (x, (h, c.float())),
        "other sizes": (x, (h[:, :1], c)),
        "a sequence": (x[:, 0], (h[:, 0], c[:, 0])),
    }[what]


def offered(layer: Any, x: Tensor, hx: Any) -> Any:
    """What the short way makes of a call of an LSTM."""
    plan = layer_plan("lstm", 3, 4, 0, 1, True, False, 0.0, None)
    return short_way.directly_on_gpu(plan, x, hx, layer._flat_weights, False)


@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize(
    "what",
    [
        "strides",
        "a view that is negated",
        "states that lie apart",
        "another dtype",
        "other sizes",
        "a sequence",
    ],
)
def test_what_is_not_plain_is_none_for_it(what):
    case = Case(dtype=F64)
    layer, x, (h, c) = case.build(), case.input().detach(), [s.detach() for s in case.state()]
    assert offered(layer, x, (h, c)) is not None
    assert offered(layer, *unusual(what, x, h, c)) is None


@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize(("spare", "training", "is_served"), [(0, 0, 1), (-1, 0, 0), (-1, 1, 1)])
def test_inference_that_needs_several_spans_is_none_for_it(spare, training, is_served):
    layer, x, _ = placed(Case(dtype=F64), "cpu")
    needed = 5 * 2 * 4 * 4 * 8  # steps, rows, gates, units, bytes
    with (
        mock.patch.object(forward.ForwardPass, "ROOM", needed + spare),
        torch.set_grad_enabled(bool(training)),
    ):
        assert (offered(layer, x, None) is not None) == is_served


@pytest.mark.usefixtures("emulation")
def test_memory_on_another_kind_of_device_reaches_no_kernel():
    layer, x, _ = placed(Case(dtype=F64), "cpu")
    layer_plan.cache_clear()
    with mock.patch.object(cuda.extension(), "device_type", 2):
        assert offered(layer, x, None) is None
    layer_plan.cache_clear()
    assert offered(layer, x, None) is not None


@pytest.mark.usefixtures("emulation")
def test_weights_that_got_other_memory_are_found_as_they_were():
    """`.data =` gives a parameter other memory, which autograd does not see."""
    layer, x, hx = placed(Case(dtype=F64), "cpu")
    leaves = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x, hx)[0].sum(), leaves)
    with way("short"):
        y = layer(x, hx)[0]
    for parameter in layer.parameters():
        parameter.data = torch.zeros_like(parameter)
    assert all(map(torch.equal, torch.autograd.grad(y.sum(), leaves), expected))


@pytest.mark.usefixtures("emulation")
def test_a_derivative_of_the_derivative_goes_the_long_way():
    layer, x, _ = placed(Case(dtype=F64), "cpu")
    with way("short"):
        y = layer(x)[0]
    (d_x,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
    (second,) = torch.autograd.grad(d_x.sum(), [x])
    with way("long"):
        y = layer(x)[0]
    (d_x,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
    assert torch.equal(second, torch.autograd.grad(d_x.sum(), [x])[0])
