"""Packed batches: order, indices, what is given back, and batches that nobody should trust."""

from __future__ import annotations

import pytest
import torch
from cases import LAYERS, Case, assert_same, cases, flat, like, run
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

F32, F64 = torch.float32, torch.float64

pytestmark = pytest.mark.usefixtures("each_isa")


@given(case=st.sampled_from(("packed", "unsorted")).flatmap(lambda form: cases(form=form)))
def test_packed_batches_give_torchs_outputs_and_gradients(case):
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    got = run(fast, like(x, case.dtype), like(hx, case.dtype))
    expected = run(plain, like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.parametrize("form", ["packed", "unsorted"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_output_carries_the_very_indices_of_the_input(kind, form):
    case = Case(kind, form=form, lengths=(2, 5, 3))
    x = case.input()
    y, _ = case.build()(x)
    assert isinstance(y, PackedSequence)
    assert y.batch_sizes is x.batch_sizes
    assert y.sorted_indices is x.sorted_indices
    assert y.unsorted_indices is x.unsorted_indices


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_sequence_of_a_packed_batch_gets_what_it_gets_alone(kind, options):
    lengths = (2, 6, 1, 6, 3)
    case = Case(kind, form="unsorted", lengths=lengths, dtype=F64, **options)
    layer, hx = case.build(), case.state()
    padded = torch.randn(6, 5, 3, dtype=F64)
    packed = pack_padded_sequence(padded, torch.tensor(lengths), enforce_sorted=False)
    y, h_n = layer(packed, hx)
    output, _ = pad_packed_sequence(y)
    for k, length in enumerate(lengths):
        own = tuple(s[:, k] for s in flat(hx))
        alone = layer(padded[:length, k], own if kind == "LSTM" else own[0])
        got = [output[:length, k], *(s[:, k] for s in flat(h_n))]
        assert_same(got, flat(alone), F64)


@pytest.mark.parametrize("kind", LAYERS)
def test_batch_first_changes_nothing_for_a_packed_batch(kind):
    case = Case(kind, form="unsorted", lengths=(1, 4, 2))
    layer, x, hx = case.build(), case.input(), case.state()
    expected = flat(layer(x, hx))
    layer.batch_first = True
    assert all(torch.equal(a, b) for a, b in zip(flat(layer(x, hx)), expected, strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_batch_of_equal_lengths_is_the_dense_batch(kind):
    case = Case(kind, bidirectional=True)
    layer, x, hx = case.build(), case.input(), case.state()
    packed = pack_padded_sequence(x, torch.tensor([5, 5]))
    y, h_n = layer(packed, hx)
    dense, d_n = layer(x, hx)
    assert torch.equal(y.data.view_as(dense), dense)
    assert all(torch.equal(a, b) for a, b in zip(flat(h_n), flat(d_n), strict=True))


def test_indices_that_lie_apart_in_memory_are_read_where_they_lie():
    case = Case("GRU", form="unsorted", lengths=(2, 5, 3))
    layer, x, hx = case.build(), case.input(), case.state()
    apart = [torch.stack([t, t + 99], dim=1)[:, 0] for t in x[1:]]
    assert not any(t.is_contiguous() for t in apart)
    got, expected = layer(PackedSequence(x.data, *apart), hx), layer(x, hx)
    assert all(torch.equal(g, e) for g, e in zip(flat(got), flat(expected), strict=True))


L = torch.tensor
BROKEN = {
    "sizes add up to less than the rows": (5, L([2, 2]), None),
    "sizes add up to more than the rows": (5, L([3, 3]), None),
    "sizes rise": (5, L([2, 3]), None),
    "a size is zero": (5, L([5, 0]), None),
    "a size is negative": (5, L([6, -1]), None),
    "no sizes at all": (0, L([], dtype=torch.int64), None),
    "sizes are not int64": (5, L([3, 2], dtype=torch.int32), None),
    "an index is out of range": (5, L([3, 2]), L([0, 1, 7])),
    "an index is negative": (5, L([3, 2]), L([0, 1, -1])),
    "an index occurs twice": (5, L([3, 2]), L([0, 1, 1])),
    "an index is missing": (5, L([3, 2]), L([0, 1])),
    "indices are not int64": (5, L([3, 2]), L([0, 1, 2], dtype=torch.int32)),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_sequence_filled_by_hand_is_never_followed_out_of_bounds(kind, what):
    rows, sizes, order = BROKEN[what]
    back = None if order is None else L([0, 1, 2])
    packed = PackedSequence(torch.randn(rows, 3), sizes, order, back)
    named = r"input(\.batch_sizes:|\.sorted_indices:| must)"
    with pytest.raises((RuntimeError, IndexError), match=named):
        Case(kind).build()(packed)
