"""Functions of torch's on a cell's values: at their limits, too, and what is no such function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from cases import assert_same
from test_program_tracing import FEATURES, cell_of, weights
from torch.nn import functional

import fastrnn
from fastrnn._program.tensors import step
from fastrnn._program.tracing import trace

HERE = rf"\({__file__}:\d+\)"
VALUES = (-3.0, -0.75, -0.5, 0.0, 0.25, 0.5, 3.0, 6.0)

FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda a: functional.selu(a) + torch.selu(a - 1),
    lambda a: functional.celu(a) + functional.celu(2 * a, alpha=0.5),
    lambda a: functional.mish(a) + torch.nn.Mish()(2 * a),
    lambda a: functional.hardswish(a + 0.1),  # whose derivative at 3 is another since torch 2.6
    functional.relu6,
    functional.tanhshrink,
    lambda a: functional.hardshrink(a) + torch.hardshrink(a, 0.25),
    lambda a: functional.softshrink(a) + functional.softshrink(a, 3.0),
    lambda a: functional.threshold(a, 0.5, 20.0),
    lambda a: functional.softplus(a, beta=2, threshold=3),
    lambda a: torch.exp2(a) + a.exp2() + torch.special.exp2(2 * a),
    lambda a: torch.log2(a.exp() + 1) * torch.log10(a * a + 1),
    lambda a: (
        torch.special.erf(a)
        + torch.special.expit(a)
        + torch.special.expm1(a)
        + torch.special.log1p(a * a)
    ),
    lambda a: torch.logaddexp(a, 0.5 * a) + torch.logaddexp(a, -a),
    lambda a: torch.addcmul(a, a, a - 1) + a.addcmul(a, a, value=0.5),
    lambda a: torch.addcdiv(a, a, a + 10) + a.addcdiv(a, a * a + 1, value=-2),
    lambda a: torch.lerp(1e20 * a, a, 1.0) + torch.lerp(a, a * a, 0.75) + a.lerp(2 * a, -0.5),
    lambda a: torch.max(a, 0.5 - a) * a.min(a * a),
    lambda a: a * torch.sgn(a) + a * torch.heaviside(a.detach(), torch.full_like(a, 0.5)),
    lambda a: (a > 0).float() * a + (a < 1).to(a.dtype) * a + (a > 1).type_as(a) * a,
    lambda a: a.masked_fill(a > 0.25, 2.0) + torch.masked_fill(a, a < 0, 1.0),
    lambda a: torch.where((a > 0) ^ (a > 3), a, -a) + torch.where(a.isfinite(), a, 0),
    lambda a: torch.where(torch.isnan(a / a), a, 2 * a) + torch.where(torch.isinf(1 / a), 1, a),
    lambda a: a.to(a.dtype) + a.type_as(a) + a ** numpy.int64(2) + a.clone(),
    lambda a: torch.tensor([0.5], dtype=a.dtype if isinstance(a, torch.Tensor) else None) * a,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions_and_their_gradients_are_torch_s(function: Callable[[Any], Any]) -> None:
    w = weights(2)
    values = torch.tensor([VALUES[:4], VALUES[4:]], dtype=torch.float64).requires_grad_()
    x = torch.zeros(2, FEATURES, dtype=torch.float64)
    (got,) = step(trace(cell_of(lambda x, u, s, p: function(s.h))), x, (values,), w)
    expected = function(values)
    torch.testing.assert_close(got, expected)
    of_got, of_expected = (torch.autograd.grad(y.sum(), values)[0] for y in (got, expected))
    torch.testing.assert_close(of_got, of_expected)


@pytest.mark.parametrize(
    "function",
    [functional.hardswish, functional.softshrink, lambda a: functional.threshold(a, 1, 2)],
)
def test_nan_and_infinities_flow_as_torch_s(function: Callable[[Any], Any]) -> None:
    w = weights(2)
    values = torch.tensor([[torch.nan, torch.inf, -torch.inf, 0.0]], dtype=torch.float64)
    x = torch.zeros(1, FEATURES, dtype=torch.float64)
    (got,) = step(trace(cell_of(lambda x, u, s, p: function(s.h))), x, (values,), w)
    torch.testing.assert_close(got, function(values), equal_nan=True)


def test_the_gradient_of_a_negative_power_is_infinite_at_zero() -> None:
    w, x = weights(2), torch.zeros(1, FEATURES, dtype=torch.float64)
    values = torch.tensor([[0.0, 2.0, -2.0, torch.inf]], dtype=torch.float64, requires_grad=True)
    (got,) = step(trace(cell_of(lambda x, u, s, p: s.h**-2)), x, (values,), w)
    both = (torch.autograd.grad(y.sum(), values)[0] for y in (got, values**-2))
    torch.testing.assert_close(*both)


class OfInput(fastrnn.Cell):
    """A function of the input."""

    gates = "n"
    recurrent = "none"

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": self.function(x.n)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_second_derivatives_are_finite_where_an_exponential_is_not(
    sign: int, dtype: torch.dtype
) -> None:
    function = functional.softplus if sign == 1 else functional.logsigmoid
    rnn = fastrnn.Recurrent(OfInput(function), 1, 1, bias=False, dtype=dtype)
    torch.nn.init.ones_(rnn.weight_ih_l0)
    x = torch.tensor([[-800.0], [-1.0], [800.0]], dtype=dtype).requires_grad_()
    (slope,) = torch.autograd.grad(rnn(x)[0].sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(bend, sign * torch.sigmoid(x) * torch.sigmoid(-x))


def test_infinities_add_up_as_torch_s() -> None:
    a = torch.tensor([[torch.inf, -torch.inf, torch.inf, 1.0]], dtype=torch.float64)
    program = trace(cell_of(lambda x, u, s, p: torch.logaddexp(s.h, x.f * 0 - torch.inf)))
    w = weights(2)
    (got,) = step(program, torch.zeros(1, FEATURES, dtype=torch.float64), (a,), w)
    torch.testing.assert_close(got, a)


class Straight(torch.autograd.Function):
    """The sign, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, value: Any) -> Any:
        return torch.sign(value)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


class Turned(Straight):
    @staticmethod
    def forward(ctx: Any, value: Any) -> Any:
        return value.clone()


class Spike(Straight):
    @staticmethod
    def forward(ctx: Any, value: Any) -> Any:
        return (value > 0).float()


@pytest.mark.parametrize("function", [Straight, Turned, Spike])
def test_a_backward_of_one_s_own_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=rf"^torch\.autograd\.Function {HERE}: a program has the"):
        trace(cell_of(lambda x, u, s, p: function.apply(x.f)))


def test_no_gradient_flows_through_what_is_computed_without() -> None:
    def value(x: Any, u: Any, s: Any, p: Any) -> Any:
        with torch.no_grad():
            gate = torch.sigmoid(x.f)
        return gate * u.n

    detached = cell_of(lambda x, u, s, p: torch.sigmoid(x.f).detach() * u.n)
    with torch.no_grad():  # around the layer it means nothing
        assert trace(cell_of(value)) == trace(detached)
        plain = trace(cell_of(lambda x, u, s, p: torch.sigmoid(x.f) * u.n))
    assert plain == trace(cell_of(lambda x, u, s, p: torch.sigmoid(x.f) * u.n))


def test_a_spike_has_the_gradient_of_another_function() -> None:
    class Spiking(fastrnn.Cell):
        gates = "i"
        states = "z v"

        def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
            v = 0.9 * s.v * (1 - s.z.detach()) + x.i + u.i
            soft = torch.sigmoid(5 * (v - 0.3))
            return {"z": ((v > 0.3).float() - soft).detach() + soft, "v": v}

    layer = fastrnn.Recurrent(Spiking, 3, 4, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    z = v = x.new_zeros(2, 4)
    expected = []
    for now in torch.nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0):
        given = torch.nn.functional.linear(z, layer.weight_hh_l0, layer.bias_hh_l0)
        v = 0.9 * v * (1 - z.detach()) + now + given
        soft = torch.sigmoid(5 * (v - 0.3))
        z = ((v > 0.3).double() - soft).detach() + soft
        expected.append(z)
    got = layer(x)[0]
    wanted = x, *layer.parameters()
    assert_same(got, torch.stack(expected), torch.float64)
    both = (torch.autograd.grad(y.square().sum(), wanted) for y in (got, torch.stack(expected)))
    for g, e in zip(*both, strict=True):
        assert_same(g, e, torch.float64)


def test_a_change_in_place_is_seen_by_every_name() -> None:
    def value(x: Any, u: Any, s: Any, p: Any) -> Any:
        total = x.f * u.f
        other, copied = total, total.clone()
        total += s.h
        total *= 2
        return other - copied

    plain = cell_of(lambda x, u, s, p: (x.f * u.f + s.h) * 2 - x.f * u.f)
    assert trace(cell_of(value)) == trace(plain)


def _changed(x: Any, u: Any, s: Any, p: Any) -> Any:
    h = s.h
    h += x.f
    return h


def _assigned(x: Any, u: Any, s: Any, p: Any) -> Any:
    s.h = x.f
    return x.f


MISTAKES: list[tuple[Callable[..., Any], str]] = [
    (_changed, rf"^a change in place {HERE}: what a cell is given stays as it is"),
    (_assigned, rf"^s\.h = {HERE}: what a cell is given stays as it is; step returns a dict"),
    (lambda x, u, s, p: x + u.f, rf"^x {HERE}: values by name, as x\.gate, and not a value"),
    (lambda x, u, s, p: s["h"], rf"^s {HERE}: values by name"),
    (lambda x, u, s, p: torch.tanh(x), rf"^x, u, s or p {HERE}: values by name"),
    (lambda x, u, s, p: x, "step .* returns Names, expected a value of the cell"),
    (lambda x, u, s, p: numpy.tanh(x.f), rf"^numpy\.tanh {HERE}: expected a function of torch's"),
    (lambda x, u, s, p: 2 % x.f, rf"^a value with % {HERE}: not an operation"),
    (lambda x, u, s, p: divmod(x.f, 2), rf"^a value with divmod\(\) {HERE}: not an operation"),
    (lambda x, u, s, p: x.f << 1, rf"^a value with << {HERE}: not an operation"),
    (lambda x, u, s, p: torch.max(x.f, 0), rf"^torch\.max over a dimension {HERE}: not an"),
    (lambda x, u, s, p: x.f if x.f.dtype == torch.half else x.n, rf"^Tensor\.dtype == {HERE}: a"),
    (lambda x, u, s, p: torch.maximum(x.f, 0.0), rf"^maximum.* must be Tensor, not float {HERE}$"),
    (lambda x, u, s, p: torch.ones(2) @ torch.ones(3), rf"^inconsistent tensor size.* {HERE}$"),
    (
        lambda x, u, s, p: functional.linear(x.f, torch.ones(2, 2)),
        "products with matrices are gates",
    ),
    (lambda x, u, s, p: torch.ones(2, 2) @ x.f, rf"^a value with @ {HERE}: products with matrices"),
    (lambda x, u, s, p: functional.layer_norm(x.f, (2,)), r"expected fastrnn\.layer_norm"),
    (lambda x, u, s, p: x.f * torch.rand_like(x.f), "a program draws nothing: what is random is"),
    (lambda x, u, s, p: x.f.double(), rf"^a dtype of its own {HERE}: a value has the dtype of"),
]


@pytest.mark.parametrize(("value", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_what_is_no_function_of_values_says_so(value: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trace(cell_of(value))


def test_an_output_does_not_change_the_states() -> None:
    def output(self: Any, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        h = new.h
        h += 1
        return h

    with pytest.raises(TypeError, match=rf"^a change in place {HERE}: what a cell is given"):
        trace(cell_of(lambda x, u, s, p: x.f, output=output))


def test_a_tensor_that_is_returned_is_named_with_the_method() -> None:
    with pytest.raises(
        ValueError, match=r"shape \[3\] \(.*test_program_tracing\.py:\d+\) does not"
    ):
        trace(cell_of(lambda x, u, s, p: torch.zeros(3)))


def test_a_single_value_has_no_sequence_of_weights() -> None:
    with pytest.raises(ValueError, match="weight: expected one value, as values is"):
        trace(cell_of(lambda x, u, s, p: fastrnn.layer_norm(x.f, (4,))))
