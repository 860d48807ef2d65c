"""torch.jit.trace, whose graphs run for inputs of other sizes than the one that was traced."""

from __future__ import annotations

import pytest
import torch
from cases import CELLS, LAYERS, flat

import fastrnn

pytestmark = [  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean"),
]


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_traced_layer_computes_what_it_is_given_and_no_constant(
    kind: str, with_gradients: bool
) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    steps, more_steps = ((5,), (7,)) if kind in LAYERS else ((), ())
    with torch.set_grad_enabled(with_gradients):
        traced = torch.jit.trace(layer, torch.randn(*steps, 2, 3))
        x = torch.randn(*more_steps, 4, 3)
        got, expected = flat(traced(x)), flat(layer(x))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)
    if with_gradients:
        parameters = list(layer.parameters())
        wanted = torch.autograd.grad(expected[0].sum(), parameters)
        for g, w in zip(torch.autograd.grad(got[0].sum(), parameters), wanted, strict=True):
            torch.testing.assert_close(g, w)
