"""FlopCounterMode, held against what it counts of torch.nn's layers in float64.

(Of float32 LSTMs it counts nothing there: torch has no formula for oneDNN's operator.)
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, Case, cases, flat, twins
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

import fastrnn

F64 = torch.float64


def counted(layer: Any, *inputs: Any, **keywords: Any) -> tuple[int, int]:
    """Operations of a call, and of backward from the sum of all its outputs."""
    with FlopCounterMode(display=False) as mode:
        outputs = flat(layer(*inputs, **keywords))
        forward = mode.get_total_flops()
        if any(y.requires_grad for y in outputs):
            torch.stack([y.sum() for y in outputs]).sum().backward()
        return forward, mode.get_total_flops() - forward


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_a_training_step_counts_what_torchs_layer_counts(kind: str, dtype: torch.dtype) -> None:
    options = {"num_layers": 2, "bidirectional": True} if kind in LAYERS else {}
    sizes = (7, 2, 10) if kind in LAYERS else (2, 10)
    plain = getattr(nn, kind)(10, 20, **options, dtype=F64)
    fast = getattr(fastrnn, kind)(10, 20, **options, dtype=dtype)
    expected = counted(plain, torch.randn(sizes, dtype=F64))
    assert counted(fast, torch.randn(sizes, dtype=dtype)) == expected
    assert min(expected) > 0
    with torch.no_grad():
        assert counted(fast, torch.randn(sizes, dtype=dtype)) == (expected[0], 0)


@given(case=cases(dtype=F64), needs=st.integers(0, 2**40 - 1))
def test_whatever_needs_gradients_the_count_is_torchs(case: Case, needs: int) -> None:
    assume(not case.proj_size)
    assume(not (case.bidirectional and case.form in ("packed", "unsorted")))
    x, hx = case.input(), case.state()
    counts = []
    for layer in case.pair():
        for place, tensor in enumerate([*flat(x, hx), *layer.parameters()]):
            tensor.requires_grad_(bool(needs >> place & 1))
        counts.append(counted(layer, x, hx))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("with_state", [True, False])
def test_projections_are_counted_as_torch_counts_them(with_state: bool) -> None:
    fast, plain = twins("LSTM", num_layers=2, bidirectional=True, proj_size=2, dtype=F64)
    h, c = torch.randn(4, 2, 2, dtype=F64), torch.randn(4, 2, 4, dtype=F64)
    given = [torch.randn(7, 2, 3, dtype=F64)]
    if with_state:
        given.append((h.requires_grad_(), c.requires_grad_()))
    assert counted(fast, *given) == counted(plain, *given)


def test_in_the_reverse_direction_of_a_packed_batch_torch_counts_products_of_zeros() -> None:
    fast, plain = twins("GRU", bidirectional=True, dtype=F64)
    x = pack_padded_sequence(torch.randn(7, 4, 3, dtype=F64), torch.tensor([7, 7, 3, 1]))
    (forward, backward), (forward_of_torch, backward_of_torch) = counted(fast, x), counted(plain, x)
    assert forward == forward_of_torch
    shorter = 2
    assert backward_of_torch - backward == 2 * shorter * plain.weight_hh_l0.numel()


def test_a_projection_that_is_trained_alone_counts_a_step_more_than_torchs() -> None:
    fast, plain = twins("LSTM", proj_size=2, dtype=F64)
    for layer in (fast, plain):
        layer.requires_grad_(False).weight_hr_l0.requires_grad_()
    x = torch.randn(7, 5, 3, dtype=F64)
    difference = counted(fast, x)[1] - counted(plain, x)[1]
    assert difference == 2 * 5 * plain.weight_hr_l0.numel()


def test_a_padded_batch_counts_as_the_packed_one() -> None:
    layer = fastrnn.LSTM(3, 4, num_layers=2)
    lengths, x = torch.tensor([7, 4, 1]), torch.randn(7, 3, 3)
    assert counted(layer, x, lengths=lengths) == counted(layer, pack_padded_sequence(x, lengths))


def test_counts_stand_under_the_modules_names_as_torchs_do() -> None:
    totals = []
    for lib in (nn, fastrnn):
        model = nn.Sequential(lib.GRU(3, 4, dtype=F64))
        with FlopCounterMode(display=False) as mode:
            model(torch.randn(7, 2, 3, dtype=F64))[0].sum().backward()
        totals.append({k: sum(v.values()) for k, v in mode.get_flop_counts().items()})
    assert totals[0] == totals[1]
    assert totals[0]["Sequential.0"] > 0


def test_layers_on_the_meta_device_count_without_computing() -> None:
    sizes = (7, 2, 3)
    expected = counted(fastrnn.GRU(3, 4), torch.randn(sizes))
    assert counted(fastrnn.GRU(3, 4, device="meta"), torch.empty(sizes, device="meta")) == expected


@pytest.mark.parametrize(
    "options",
    [{"reset_after": False}, {"cell_clip": 1.0}, {"activation": "relu"}],
    ids=lambda options: next(iter(options)),
)
def test_options_that_torchs_layers_lack_change_no_product(options: dict[str, Any]) -> None:
    x = torch.randn(7, 2, 3)
    assert counted(fastrnn.GRU(3, 4, **options), x) == counted(fastrnn.GRU(3, 4), x)
