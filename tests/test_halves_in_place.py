"""Weights of bfloat16 that the engine reads where they lie: the bits of raised ones, unraised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest import mock

import pytest
import torch
from cases import CELLS, LAYERS, flat
from torch import Tensor

import fastrnn
from fastrnn import cells
from fastrnn._call import precision
from fastrnn._layers.plan import layer_plan

HALF = torch.bfloat16
pytestmark = pytest.mark.skipif(
    not hasattr(Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no short way"
)

LAYER_OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 3},
]
# One feature; whole blocks of every vector width; all of them with a rest
SIZES = [(1, 5), (64, 64), (33, 150)]

STEPS: dict[str, Any] = {
    "one state": lambda: fastrnn.RecurrentCell(cells.MGU, 33, 70),
    "a vector": lambda: fastrnn.RecurrentCell(cells.IndRNN, 33, 70),
    "heads": lambda: fastrnn.RecurrentCell(cells.SLSTM, 33, 70, num_heads=2),
    "peepholes": lambda: fastrnn.LSTMCell(33, 70, peephole="ifo"),
    "two products": lambda: fastrnn.GRUCell(33, 70, reset_after=False),
}


@contextmanager
def raised_matrices(module: Any) -> Iterator[list[Any]]:
    """Lists the matrices of ``module`` that are made float32 as a whole."""
    own = {id(p) for p in module.parameters() if p.dim() > 1}
    found: list[Any] = []
    raised = precision.raised

    def spy(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            found.extend(one for one in value if id(one) in own)
        return raised(value)

    with mock.patch.object(precision, "raised", spy):
        yield found


def assert_bits_of_raised(module: Any, call: Callable[[], Any]) -> None:
    with torch.no_grad():
        with raised_matrices(module) as found:
            got = flat(call())
        assert not found
        with mock.patch.object(precision, "raised_vectors", precision.raised):
            expected = flat(call())
    for g, e in zip(got, expected, strict=True):
        assert g.dtype is HALF
        assert torch.equal(g, e)


@pytest.fixture(params=["float32 products", "the machine's"])
def _products(request: pytest.FixtureRequest) -> None:
    if request.param == "float32 products":
        request.getfixturevalue("float32_products")


@pytest.mark.usefixtures("each_isa", "_products")
@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, o) for o in LAYER_OPTIONS for kind in LAYERS if kind == "LSTM" or "proj_size" not in o],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_layer_has_the_bits_of_raised_weights(
    kind: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    layer = getattr(fastrnn, kind)(*size, **options, dtype=HALF)
    for T in (1, 2, 7):
        for B in (1, 2, 9):
            x = torch.randn(T, B, size[0], dtype=HALF)
            _, state = layer(x)
            hx = state if isinstance(state, Tensor) else tuple(state)
            for given in (None, hx):
                assert_bits_of_raised(layer, lambda x=x, given=given: layer(x, given))


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("B", [1, 4])
def test_a_cell_has_the_bits_of_raised_weights(kind: str, size: tuple[int, int], B: int) -> None:
    cell = getattr(fastrnn, kind)(*size, dtype=HALF)
    x = torch.randn(B, size[0], dtype=HALF)
    state = cell(x)
    for hx in (None, state):
        assert_bits_of_raised(cell, lambda hx=hx: cell(x, hx))


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("which", STEPS)
@pytest.mark.parametrize("B", [1, 4])
def test_a_program_has_the_bits_of_raised_weights(which: str, B: int) -> None:
    cell = STEPS[which]().to(HALF)
    x = torch.randn(B, 33, dtype=HALF)
    state = cell(x)
    for hx in (None, state):
        assert_bits_of_raised(cell, lambda hx=hx: cell(x, hx))


def test_special_numbers_are_raised_exactly() -> None:
    cell = fastrnn.RNNCell(40, 3, bias=False, nonlinearity="relu", dtype=HALF)
    special = torch.tensor([float("inf"), 1e-40, -0.0], dtype=HALF)
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.weight_ih[:, 33] = special
        x = torch.zeros(1, 40, dtype=HALF)
        x[0, 33] = 1
        assert torch.equal(cell(x)[0], special)
        cell.weight_ih[1, 7] = float("nan")
        assert cell(x).isnan().tolist() == [[False, True, False]]


@pytest.mark.usefixtures("float32_products")
def test_weights_that_lie_otherwise_are_raised_first() -> None:
    layer = fastrnn.GRU(6, 6, dtype=HALF)
    layer.weight_hh_l0.data = layer.weight_hh_l0.data.t().contiguous().t()
    x = torch.randn(3, 2, 6, dtype=HALF)
    with torch.no_grad():
        with raised_matrices(layer) as found:
            y, _ = layer(x)
        expected, _ = deepcopy(layer).float()(x.float())
    assert found
    assert torch.equal(y, expected.to(HALF))


def test_gradients_are_those_of_raised_weights() -> None:
    layer = fastrnn.LSTM(5, 7, dtype=HALF)
    with raised_matrices(layer) as found:
        layer(torch.randn(3, 2, 5, dtype=HALF))[0].sum().backward()
    assert len(found) == 2
    assert all(p.grad is not None and p.grad.dtype is HALF for p in layer.parameters())


def test_each_tensor_is_looked_at_before_its_memory() -> None:
    direct: Any = layer_plan("gru", 5, 6, 0, 1, True, False, 0.0).direct

    def serves(x: Tensor, weights: list[Tensor], grad_enabled: bool = False) -> bool:
        return direct.call(x, None, weights, False, grad_enabled, 1, True) is not None

    x = torch.randn(3, 2, 5)
    wide = list(torch.nn.GRU(5, 6).requires_grad_(False).parameters())
    halved = [w.to(HALF) for w in wide]
    right = [*halved[:2], *wide[2:]]
    assert serves(x, right, grad_enabled=True)
    for i, other in enumerate([*wide[:2], *halved[2:]]):
        assert not serves(x, [*right[:i], other, *right[i + 1 :]])
    for wrong in (right[0].half(), right[0].t(), right[0][:, :4], right[0].t().contiguous().t()):
        assert not serves(x, [wrong, *right[1:]])
    assert not serves(x.double(), [*halved[:2], *(b.double() for b in wide[2:])])
    assert not serves(x.to(HALF), right)
    assert not serves(x, wide)
    assert not serves(x.clone().requires_grad_(), right, grad_enabled=True)
