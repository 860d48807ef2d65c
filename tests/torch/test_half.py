"""Layers of bfloat16 and float16: float32's results and gradients, rounded once."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, Called, Case, cases, flat, lengths_of, like, run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils.rnn import PackedSequence
from words import assert_as_in_torch

import fastrnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # torch's own forward mode
    pytest.mark.usefixtures("float32_products"),
]

F32 = torch.float32
HALVES = (torch.bfloat16, torch.float16)
each_half = pytest.mark.parametrize("dtype", HALVES, ids=str)


class Rounding(Called):
    """A layer of more precision than it is given, and than it returns."""

    def __init__(self, layer: Any, wide: torch.dtype, dtype: torch.dtype, **keywords: Any) -> None:
        super().__init__(layer, **keywords)
        self.wide, self.dtype = wide, dtype

    def __call__(self, x: Any, hx: Any = None) -> Any:
        outputs = super().__call__(in_dtype(x, self.wide), in_dtype(hx, self.wide))
        return [y.to(self.dtype) for y in flat(outputs)]


def in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Input or states in ``dtype``, with gradients that flow back to what was given."""
    if isinstance(value, Tensor):
        return value.to(dtype)
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.to(dtype), *value[1:])
    return None if value is None else tuple(in_dtype(part, dtype) for part in value)


def assert_rounded_once(layer: Any, x: Any, hx: Any, dtype: torch.dtype, **keywords: Any) -> None:
    got = run(Called(layer, **keywords), x, hx)
    expected = run(Rounding(deepcopy(layer).float(), F32, dtype, **keywords), x, hx)
    for of_got, of_expected in zip(got, expected, strict=True):
        for g, e in zip(of_got, of_expected, strict=True):
            assert g.dtype == dtype
            assert torch.equal(g, e.to(dtype))


@each_half
@given(data=st.data())
def test_a_layer_rounds_once_what_float32_gives(dtype: torch.dtype, data: st.DataObject) -> None:
    case = data.draw(cases(dtype=dtype))
    x, hx = like(case.input(), dtype), like(case.state(), dtype)
    assert_rounded_once(case.build(), x, hx, dtype)


@each_half
@given(data=st.data())
def test_so_it_is_with_lengths_resets_and_states(dtype: torch.dtype, data: st.DataObject) -> None:
    case = data.draw(cases(dtype=dtype, form="dense"))
    x, hx = like(case.input(), dtype), like(case.state(), dtype)
    lengths = torch.tensor(data.draw(lengths_of(case)))
    resets = torch.rand(x.shape[:-1]) < 0.3
    assert_rounded_once(
        case.build(), x, hx, dtype, lengths=lengths, resets=resets, return_states=True
    )


def cell_of(kind: str, dtype: torch.dtype) -> tuple[Any, Tensor, Any]:
    """A cell with an input and a state of halves."""
    h = torch.randn(2, 4)
    return (
        getattr(fastrnn, kind)(3, 4, dtype=dtype),
        like(torch.randn(2, 3), dtype),
        like((h, torch.randn(2, 4)) if kind == "LSTMCell" else h, dtype),
    )


@each_half
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_rounds_once_too(kind: str, dtype: torch.dtype) -> None:
    assert_rounded_once(*cell_of(kind, dtype), dtype)


def errors(got: Any, exact: Any) -> list[Tensor]:
    """The largest error of each tensor, in units of the largest exact value."""
    return [(g.double() - e).abs().max() / e.abs().max() for g, e in zip(got, exact, strict=True)]


@each_half
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_no_result_is_further_from_float64_than_torchs(
    kind: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    case = Case(kind, input_size=8, hidden_size=16, dtype=dtype, **options)
    fast, plain = case.pair()
    exact = Rounding(deepcopy(plain).double(), torch.float64, dtype)
    x, hx = like(case.input(), dtype), like(case.state(), dtype)
    reference = flat(run(exact, x, hx))
    of_fast = errors(flat(run(fast, x, hx)), reference)
    of_plain = errors(flat(run(plain, x, hx)), reference)
    for fast_error, plain_error in zip(of_fast, of_plain, strict=True):
        assert fast_error <= max(plain_error, torch.finfo(dtype).eps)


@each_half
def test_dropout_falls_where_torchs_falls(dtype: torch.dtype) -> None:
    case = Case("RNN", num_layers=2, dropout=0.5, nonlinearity="relu", dtype=dtype)
    fast, plain = case.pair()
    with torch.no_grad():  # the first layer's outputs are positive; the second one passes them on
        for layer in (fast, plain):
            layer.bias_ih_l0.fill_(9)
            layer.weight_ih_l1.copy_(torch.eye(4))
            for p in (layer.weight_hh_l1, layer.bias_ih_l1, layer.bias_hh_l1):
                p.zero_()
    x, dropped = case.input(), []
    for layer in (fast, plain):
        torch.manual_seed(4)
        dropped.append(layer(x)[0] == 0)
    assert torch.equal(*dropped)
    assert 0 < dropped[0].sum() < dropped[0].numel()


@pytest.mark.parametrize("given", HALVES, ids=str)
@pytest.mark.parametrize("of_weights", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_mixed_dtypes_raise_as_in_torch(
    kind: str, of_weights: torch.dtype, given: torch.dtype
) -> None:
    if of_weights is given:
        given = torch.float32
    x = torch.randn(2, 3, dtype=given)
    fast, plain = (getattr(module, kind)(3, 4, dtype=of_weights) for module in (fastrnn, torch.nn))
    assert_as_in_torch(lambda: fast(x), lambda: plain(x), "input")


@each_half
@pytest.mark.parametrize("kind", LAYERS)
def test_a_state_of_another_dtype_is_refused(kind: str, dtype: torch.dtype) -> None:
    case = Case(kind, dtype=dtype)
    state = in_dtype(case.state(), torch.float32)
    with pytest.raises(RuntimeError, match=f"hx.*: expected {dtype} .* got torch.float32"):
        case.build()(case.input(), state)


@each_half
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_compiled_layer_gives_what_it_gives_eagerly(kind: str, dtype: torch.dtype) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=dtype)
    x = like(torch.randn(5, 3) if kind in CELLS else torch.randn(5, 2, 3), dtype)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        got = run(torch.compile(layer, backend="aot_eager", fullgraph=True), x, None)
    for of_got, of_expected in zip(got, run(layer, x, None), strict=True):
        for g, e in zip(of_got, of_expected, strict=True):
            assert g.dtype == dtype
            assert torch.equal(g, e)


@each_half
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_samples_and_tangents_are_halves(kind: str, dtype: torch.dtype) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=dtype)
    x = torch.randn(4, *((2, 3) if kind in CELLS else (5, 2, 3)), dtype=dtype)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def output(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return flat(functional_call(layer, parameters, (x,)))[0]

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return output(parameters, x).sum()

    outputs = vmap(output, in_dims=(None, 0))(parameters, x)
    assert torch.equal(outputs, torch.stack([output(parameters, one) for one in x]))
    of_samples = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for v, one in enumerate(x):
        for name, gradient in grad(loss)(parameters, one).items():
            torch.testing.assert_close(of_samples[name][v], gradient)
    direction = torch.randn_like(x[0])
    y, tangent = jvp(lambda one: output(parameters, one), (x[0],), (direction,))
    wide = deepcopy(layer).float()
    exact = jvp(lambda one: flat(wide(one))[0], (x[0].float(),), (direction.float(),))
    for got, expected in zip((y, tangent), exact, strict=True):
        torch.testing.assert_close(got, expected.to(dtype))


@each_half
@pytest.mark.parametrize("kind", LAYERS)
def test_second_derivatives_are_those_of_float32(kind: str, dtype: torch.dtype) -> None:
    case = Case(kind, dtype=dtype)
    layer, x = case.build(), like(case.input(), dtype)
    found = []
    for each in (layer, Rounding(deepcopy(layer).float(), F32, dtype)):
        (first,) = torch.autograd.grad(flat(each(x))[0].sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *each.parameters()]))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected.to(dtype))


def test_a_layer_on_the_meta_device_has_its_dtype() -> None:
    layer = fastrnn.LSTM(3, 4, dtype=torch.bfloat16, device="meta")
    outputs = flat(layer(torch.randn(5, 2, 3, dtype=torch.bfloat16, device="meta")))
    assert {y.dtype for y in outputs} == {torch.bfloat16}
