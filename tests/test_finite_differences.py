"""The judge of derivatives notices one that is wrong, be it a single number's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from finite_differences import assert_gradients, assert_second_derivatives
from torch import Tensor


class Product(torch.autograd.Function):
    """x * y and x + y, of which ``fault`` says what is wrong with the derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, fault: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        ctx.set_materialize_grads(False)
        ctx.fault = fault
        ctx.calls = 0
        return x * y, x + y

    @staticmethod
    def backward(ctx: Any, d_product: Any, d_sum: Any) -> tuple[Any, ...]:
        x, y = ctx.saved_tensors
        ctx.calls += 1
        if ctx.fault == "second":
            y = y.detach()
        wrong = torch.zeros_like(x)
        if ctx.fault == "a number" or (ctx.fault == "undefined" and d_sum is None):
            wrong[0, 1] = 1e-3
        if ctx.fault == "again" and ctx.calls > 3:
            wrong[0, 1] = 1e-12
        d_x, d_y = torch.zeros_like(x), torch.zeros_like(y)
        if d_product is not None:
            d_x, d_y = d_x + d_product * (y + wrong), d_y + d_product * x
        if d_sum is not None:
            d_x, d_y = d_x + d_sum, d_y + d_sum
        return d_x, d_y, None


def twins() -> list[Tensor]:
    return [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]


@pytest.mark.parametrize("fault", ["none", "a number", "undefined", "again", "second"])
def test_a_wrong_gradient_is_noticed(fault: str) -> None:
    def check() -> None:
        assert_gradients(lambda x, y: Product.apply(x.sin(), y, fault), *twins())

    if fault in ("none", "second"):
        check()
    else:
        with pytest.raises(AssertionError, match="again" if fault == "again" else "for input 0"):
            check()


@pytest.mark.parametrize("fault", ["none", "second"])
def test_a_wrong_second_derivative_is_noticed(fault: str) -> None:
    def check() -> None:
        assert_second_derivatives(lambda x, y: Product.apply(x.sin(), y, fault)[0], *twins())

    if fault == "none":
        check()
    else:
        with pytest.raises(AssertionError, match="for input 1"):
            check()


def test_an_input_that_nothing_depends_on_has_gradients_of_zero() -> None:
    x, y = twins()
    assert_gradients(lambda x, y: (x.sin(), x.cos()), x, y)
    assert_gradients(lambda x, none: (x.sin(), torch.ones(3)), x, None)
    with pytest.raises(AssertionError, match="for input 1"):
        assert_gradients(lambda x, y: x * y.detach(), x, y)
