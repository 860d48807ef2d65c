"""Where the engine hands over: derivatives of derivatives, compilers, tensors without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Case, assert_derivatives_of_the_equations
from finite_differences import assert_second_derivatives
from torch._subclasses.fake_tensor import FakeTensorMode

import fastrnn

LAYERS = ["LSTM", "GRU", "RNN"]


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives_are_right(name: str, options: dict[str, Any]) -> None:
    layer = getattr(fastrnn, name)(2, 2, **options).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = dict(layer.named_parameters())
    names = ("weight_ih_l0", "weight_hh_l1", "bias_hh_l0_reverse")
    some = [weights[k] for k in (names if options else ("weight_ih_l0", "weight_hh_l0"))]

    def outputs(x: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, state = layer(x)
        return (y, *(state if isinstance(state, tuple) else (state,)))

    assert_second_derivatives(outputs, x, *some)
    assert_derivatives_of_the_equations(layer, Case(name, 2, 2, dtype=torch.float64, **options))


@pytest.mark.parametrize(
    ("options", "name"),
    [({"peephole": "o"}, "weight_ch"), ({"layer_norm_cell": "inside"}, "norm_cell_bias")],
    ids=str,
)
def test_second_derivatives_of_what_some_outputs_do_not_depend_on(
    options: dict[str, Any], name: str
) -> None:
    cell = fastrnn.LSTMCell(3, 4, dtype=torch.float64, **options)
    x = torch.randn(2, 3, dtype=torch.float64)
    weight = cell.get_parameter(name)

    def second() -> torch.Tensor:
        h, c = cell(x)
        total = h.square().sum() + c.square().sum()
        (d_weight,) = torch.autograd.grad(total, weight, create_graph=True)
        return torch.autograd.grad(d_weight.square().sum(), weight)[0]

    expected = second()
    cell.requires_grad_(False)
    weight.requires_grad_()  # c' needs no gradient then
    torch.testing.assert_close(second(), expected)


def test_a_gradient_penalty_reaches_the_weights_through_the_same_dropout() -> None:
    def penalty_gradient(namespace: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = namespace.LSTM(3, 4, num_layers=2, dropout=0.5).double()
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        (g,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        return list(torch.autograd.grad(g.square().sum(), list(layer.parameters())))

    for got, want in zip(penalty_gradient(fastrnn), penalty_gradient(torch.nn), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("allow_rnn", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_compiled_layer_gives_the_eager_result(allow_rnn: bool) -> None:
    layer, x = fastrnn.GRU(3, 4), torch.randn(5, 2, 3)
    with torch._dynamo.config.patch(allow_rnn=allow_rnn):
        compiled = torch.compile(layer, backend="eager")
        assert torch.equal(compiled(x)[0], layer(x)[0])
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_tensor_without_memory_has_a_shape_all_the_same() -> None:
    with FakeTensorMode():
        y, (h, c) = fastrnn.LSTM(3, 4, proj_size=2)(torch.randn(5, 2, 3))
    assert (y.shape, h.shape, c.shape) == ((5, 2, 2), (1, 2, 2), (1, 2, 4))
    layer = fastrnn.GRU(3, 4)
    zeros = torch._efficientzerotensor((5, 2, 3))
    torch.testing.assert_close(layer(zeros)[0], layer(torch.zeros(5, 2, 3))[0])


def test_a_negative_view_is_read_with_its_sign() -> None:
    x = torch.randn(5, 2, 1)
    negative = torch.complex(x, x).conj().imag
    assert negative.is_neg()
    layer = fastrnn.GRU(1, 4)
    assert torch.equal(layer(negative)[0], layer(-x)[0])


@pytest.mark.usefixtures("each_road")
def test_an_infinite_gradient_stops_at_a_closed_relu_as_in_torch() -> None:
    plain, fast = torch.nn.RNN(3, 8, nonlinearity="relu"), fastrnn.RNN(3, 8, nonlinearity="relu")
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(1, 1, 3)
    gradients = []
    for layer in (plain, fast):
        y, _ = layer(x)
        assert (y == 0).any()
        assert (y > 0).any()
        y.backward(torch.where(y == 0, torch.inf, 1.0))
        gradients.append([p.grad for p in layer.parameters()])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_nobody_needs_are_not_computed(name: str) -> None:
    layer = getattr(fastrnn, name)(3, 4, num_layers=2)
    layer.weight_ih_l0.requires_grad_(False)
    layer.bias_hh_l1.requires_grad_(False)
    x = torch.randn(5, 2, 3)
    layer(x)[0].sum().backward()
    without = {k for k, p in layer.named_parameters() if p.grad is None}
    assert without == {"weight_ih_l0", "bias_hh_l1"}
    assert x.grad is None
