"""Tensors on a device without kernels: torch's layers compute, or the equations, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from cases import CELLS, LAYERS, Called, Case, assert_same, input_of, like, run, twins
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.parametrizations import weight_norm
from whole_models import Tagger, example, expect_close, made_by, train

import fastrnn
from fastrnn import functional
from fastrnn._engine import backends, cuda, fallback
from fastrnn._layers import overrides, short_way
from fastrnn._layers import run as fork

KINDS = [*LAYERS, *CELLS]
RESETS = torch.rand(5, 2, generator=torch.Generator().manual_seed(3)) < 0.3
MORE: dict[str, dict[str, Any]] = {
    "lengths": {"lengths": [3, 5]},
    "resets": {"resets": RESETS},
    "states": {"return_states": True},
}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback._SETTING, "chosen", None)
    monkeypatch.delenv(fallback.VARIABLE, raising=False)


@contextmanager
def without_kernels() -> Iterator[list[str]]:
    """The CPU stands for a device without kernels; the list says who computes in their place."""
    computed: list[str] = []
    by_torch, equations = overrides.by_torch, backends.EQUATIONS.forward

    def spied_torch(*arguments: Any) -> Any:
        computed.append("torch")
        return by_torch(*arguments)

    def spied_equations(*arguments: Any) -> Any:
        computed.append("equations")
        return equations(*arguments)

    with (
        mock.patch.object(type(backends.CPU), "refuses", return_value="nobody computes here"),
        mock.patch.object(short_way, "layer_directly", return_value=None),
        mock.patch.object(short_way, "cell_directly", return_value=None),
        mock.patch.object(overrides, "by_torch", spied_torch),
        mock.patch.object(backends.EQUATIONS, "forward", spied_equations),
    ):
        yield computed


@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_cells_compute_as_torchs_do_bit_for_bit(kind: str) -> None:
    fast, plain = twins(kind)
    x = input_of(kind)
    with without_kernels() as computed:
        got = run(fast, like(x, x.dtype), None)
    expected = run(plain, like(x, x.dtype), None)
    for ours, theirs in zip(got, expected, strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert computed == ["torch"]


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_parametrized_ones(kind: str) -> None:
    fast, plain = twins(kind)
    name = "weight_hh_l0" if kind in LAYERS else "weight_hh"
    for module in (fast, plain):
        weight_norm(module, name)
    x = input_of(kind)
    with without_kernels() as computed:
        got = run(fast, like(x, x.dtype), None)
    for ours, theirs in zip(got, run(plain, like(x, x.dtype), None), strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert computed == ["torch"]


@pytest.mark.parametrize("way", ["convert", "patch", "mixed"])
def test_a_model_learns_there_and_here_as_torchs_does(way: str) -> None:
    plain = Tagger()
    fast = made_by(way, plain)
    x = example()
    for _ in range(2):
        with without_kernels() as computed:
            got = train(fast, x)
        assert set(computed) == {"torch"}
        expect_close(got, train(plain, x))
        expect_close(train(fast, x), train(plain, x))
    Tagger().load_state_dict(fast.state_dict())


@pytest.mark.parametrize("form", ["packed", "unsorted", "unbatched"])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_form_of_a_batch_and_dropout_stay_torchs(kind: str, form: str) -> None:
    lengths = (5,) if form == "unbatched" else (3, 5)
    case = Case(kind, num_layers=2, dropout=0.5, bidirectional=True, lengths=lengths, form=form)
    fast, plain = case.pair()
    x, hx = like(case.input(), case.dtype), like(case.state(), case.dtype)
    with without_kernels() as computed:
        got = run(fast, x, hx)
    for ours, theirs in zip(got, run(plain, x, hx), strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert computed == ["torch"]


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_torch_has_not_is_computed_by_the_equations(kind: str, more: str) -> None:
    case = Case(kind, num_layers=2, bidirectional=True)
    check_equations(case, Called(case.build(), **MORE[more]))


@pytest.mark.parametrize("kind", LAYERS)
def test_so_are_the_options_that_torch_has_not(kind: str) -> None:
    case = Case(kind)
    check_equations(case, case.build(activation="softsign"))


def check_equations(case: Case, layer: Any) -> None:
    x, hx = like(case.input(), case.dtype), like(case.state(), case.dtype)
    expected = run(layer, x, hx)
    with without_kernels() as computed:
        got = run(layer, x, hx)
    for ours, right in zip(got, expected, strict=True):
        assert_same(ours, right, case)
    assert set(computed) == {"equations"}


def test_a_function_without_a_module_is_computed_by_the_equations() -> None:
    case = Case("GRU", with_state=False)
    layer, x = case.build(), case.input()
    weights = [parameter.detach() for parameter in layer.parameters()]
    expected = functional.gru(x, None, weights)
    with without_kernels() as computed:
        got = functional.gru(x, None, weights)
    assert_same(got, [each.detach() for each in expected], case)
    assert computed == ["equations"]


def test_an_operator_has_zeros_for_weights_that_nothing_asked_for_was_made_of() -> None:
    """As from the engine: c after one step is not projected, and no peephole of o has seen it."""
    layer = fastrnn.LSTM(3, 4, proj_size=2, peephole="o")
    unused = layer.weight_hr_l0, layer.weight_ch_l0
    with without_kernels(), mock.patch.object(fork.operators, "is_watched", return_value=True):
        _, (_, c) = layer(torch.randn(1, 2, 3))
        used, *zeros = torch.autograd.grad(c.sum(), [layer.weight_ih_l0, *unused])
    assert used.any()
    assert all(map(torch.equal, zeros, map(torch.zeros_like, unused)))


def test_autocast_is_torchs_own_there() -> None:
    fast, plain = twins("GRU")
    x = input_of("GRU")
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(x)
        with without_kernels():
            got = fast(x)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_derivatives_of_derivatives_and_samples_by_the_equations() -> None:
    layer, x = (
        fastrnn.GRU(3, 4, activation="softsign", dtype=torch.float64),
        torch.randn(2, 5, 1, 3),
    )
    x = x.double()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return layer(x)[0].square().sum()

    expected = torch.func.vmap(torch.func.grad(loss))(x)
    second = torch.func.jacrev(torch.func.grad(loss))(x[0])
    with without_kernels():
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), expected)
        torch.testing.assert_close(torch.func.jacrev(torch.func.grad(loss))(x[0]), second)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_on_request(kind: str) -> None:
    layer, _ = twins(kind)
    fastrnn.set_fallback("error")
    with without_kernels(), pytest.raises(NotImplementedError, match="cpu, but nobody computes"):
        layer(input_of(kind))
    fastrnn.set_fallback("torch")
    with without_kernels() as computed:
        layer(input_of(kind))
    assert computed == ["torch"]


def test_the_environment_says_it_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = twins("GRU")
    monkeypatch.setenv(fallback.VARIABLE, "error")
    with without_kernels(), pytest.raises(NotImplementedError, match="nobody computes here"):
        layer(input_of("GRU"))
    monkeypatch.setenv(fallback.VARIABLE, "tensorflow")
    with without_kernels(), pytest.raises(ValueError, match=r"FASTRNN_FALLBACK.*'tensorflow'"):
        layer(input_of("GRU"))


def test_a_gpu_that_cannot_run_the_kernels_is_named_once() -> None:
    fallback._warn_once.cache_clear()
    with FakeTensorMode():
        x = torch.empty(5, 2, 3, device="cuda:0")
    reason = "this GPU is too old"
    with (
        mock.patch.object(cuda, "is_built", return_value=True),
        mock.patch.object(fallback, "why_not", return_value=reason),
    ):
        with pytest.warns(UserWarning, match="in the place of fastrnn's: this GPU is too old"):
            fallback.check(x, reason)
        fallback.check(x, reason)  # a second warning would be an error here
        fallback.check(x, "the kernels have no such variant")  # and so would this


def test_another_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of 'torch', 'error', got 'numpy'"):
        fastrnn.set_fallback("numpy")


@pytest.mark.parametrize("kind", LAYERS)
def test_shapes_on_a_device_that_this_machine_need_not_have(kind: str) -> None:
    layer = Case(kind).build(activation="softsign")
    with FakeTensorMode():
        weights = [torch.empty(p.shape, device="xpu:0") for p in layer.parameters()]
        function = getattr(functional, kind.lower())
        x = torch.empty(5, 2, 3, device="xpu:0")
        y, *_ = function(x, None, weights, activation="softsign", lengths=[3, 5])
        assert y.device == torch.device("xpu:0")
        assert y.shape == (5, 2, 4)


def test_a_report_says_what_keeps_layers_from_computing() -> None:
    layer = torch.nn.LSTMCell(3, 4)
    with FakeTensorMode():  # the machine need not have the device
        layer.weight_ih = torch.nn.Parameter(torch.empty(16, 3, device="xpu:0"))
    _, report = fastrnn.convert(layer, report=True)
    assert report.converted[0].note == ""
    fastrnn.set_fallback("error")
    _, report = fastrnn.convert(fastrnn.revert(layer), report=True)
    assert report.converted[0].note == "on xpu:0, where this build of fastrnn does not compute"
