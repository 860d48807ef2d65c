"""Layers on a GPU against torch's in float64 on the CPU: every cell, option and form of input."""

from __future__ import annotations

import pytest
from cases import Case
from devices import BF16, F16, F32, F64, TOLERANCE, error_of, products

KINDS = [
    {"kind": "LSTM"},
    {"kind": "GRU"},
    {"kind": "RNN"},
    {"kind": "RNN", "nonlinearity": "relu"},
]
OPTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "stacked, both directions": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True, "num_layers": 2, "with_state": False},
    "unbatched": {"form": "unbatched", "lengths": (6,)},
    "packed": {"form": "packed", "lengths": (5, 4, 4, 1)},
    "unsorted, both directions": {
        "form": "unsorted",
        "lengths": (2, 6, 1, 6),
        "num_layers": 2,
        "bidirectional": True,
    },
    "strided": {"memory": "strided"},
    "transposed": {"memory": "transposed", "bidirectional": True},
    "expanded": {"memory": "expanded"},
}
PROJECTED = {
    "plain": {},
    "stacked, both directions": {"num_layers": 2, "bidirectional": True},
    "unsorted": {"form": "unsorted", "lengths": (2, 6, 1, 6), "bidirectional": True},
}


pytestmark = pytest.mark.usefixtures("exact_products")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))
def test_every_option_in_float64(device, kind, options):
    case = Case(**kind, hidden_size=9, input_size=5, dtype=F64, **OPTIONS[options])
    assert error_of(case, device) < TOLERANCE[F64]


@pytest.mark.parametrize("options", PROJECTED)
def test_every_option_of_projections_in_float64(device, options):
    case = Case(hidden_size=9, proj_size=5, input_size=3, dtype=F64, **PROJECTED[options])
    assert error_of(case, device) < TOLERANCE[F64]


# Around the sizes of a tile, of a chunk of K, of a round of all warps and of what is loaded at
# once; 16-byte rows and others
SIZES = [
    (1, 1),
    (8, 3),
    (17, 16),
    (24, 17),
    (33, 4),
    (40, 33),
    (72, 2),
    (136, 5),
    (256, 3),
    (520, 2),
]


@pytest.mark.parametrize(("hidden", "batch"), SIZES)
@pytest.mark.parametrize("dtype", [F64, F32, F16, BF16])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_every_precision_at_the_borders_of_tiles(device, kind, dtype, hidden, batch):
    case = Case(kind, hidden_size=hidden, input_size=5, dtype=dtype, lengths=(3,) * batch)
    assert error_of(case, device) < TOLERANCE[dtype]


@pytest.mark.parametrize(("hidden", "batch"), [(24, 17), (136, 5)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_tf32_is_as_exact_as_its_ten_bits(device, kind, hidden, batch):
    case = Case(kind, hidden_size=hidden, input_size=5, lengths=(3,) * batch)
    with products("tf32"):
        error = error_of(case, device)
    assert TOLERANCE[F32] < error < 5e-3


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("options", PROJECTED)
def test_every_precision_of_projections(device, dtype, options):
    case = Case(hidden_size=24, proj_size=17, input_size=3, dtype=dtype, **PROJECTED[options])
    assert error_of(case, device) < TOLERANCE[dtype]
