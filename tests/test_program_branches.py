"""Functions of two branches: one selection in each pass, and nothing of the other branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engine import DTYPES, applied
from torch.nn import functional

from fastrnn._program.lowering import Lowered, lowered
from fastrnn._program.tracing import trace


def lowered_of(step: Callable[..., Any], states: str = "h") -> Lowered:
    return lowered(trace(SimpleNamespace(gates="a b", states=states, step=step)))


def counts(code: Any) -> Counter[str]:
    return Counter(instruction[0] for stage in code.stages for instruction in stage.code)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "elu": functional.elu,
    "elu of another slope": lambda a: functional.elu(a, alpha=0.5),
    "elu that falls": lambda a: functional.elu(a, alpha=-0.5),
    "leaky_relu": lambda a: functional.leaky_relu(a, 0.2),
    "clamp": lambda a: torch.clamp(a, -0.5, 0.5),
}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"elu that falls"}))
def test_a_function_of_two_branches_is_one_selection_in_each_pass(name: str) -> None:
    low = lowered_of(lambda x, u, s, p: {"h": FUNCTIONS[name](x.a + u.a)})
    forward, backward = counts(low.forward), counts(low.backward)
    assert forward["where"] == (name != "clamp")
    assert backward["where"] == 1
    assert backward["le"] == 0


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_selected_does_not_leak(name: str, dtype: type) -> None:
    function = FUNCTIONS[name]
    values = [0.0, -0.0, 0.5, -0.5, 3.0, -3.0, 1e4, -1e4, np.inf, -np.inf, np.nan]
    x = np.array(values, dtype=dtype)
    judge = torch.from_numpy(x).requires_grad_()
    expected = function(judge)
    tolerance = {"rtol": 8 * np.finfo(dtype).eps, "atol": 0}
    np.testing.assert_allclose(applied(function, x), expected.detach().numpy(), **tolerance)
    (slope,) = torch.autograd.grad(expected.sum(), judge)
    got = applied(function, x[:-1], slope=True)  # torch's of NaN depends on where it stands
    np.testing.assert_allclose(got, slope[:-1].numpy(), **tolerance)
