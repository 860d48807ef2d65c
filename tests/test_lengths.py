"""Ragged batches by their lengths: torch's packing without packing, and padding nobody reads."""

from __future__ import annotations

import pytest
import torch
from cases import (
    LAYERS,
    Called,
    Case,
    OnReference,
    assert_derivatives_of_the_equations,
    assert_same,
    cases,
    flat,
    lengths_of,
    like,
    run,
)
from finite_differences import assert_gradients, assert_second_derivatives
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import functional

F32, F64 = torch.float32, torch.float64
T, LENGTHS = 6, (3, 0, 6, 1, 3)
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.4},
]

pytestmark = pytest.mark.usefixtures("each_isa")


class PackRunUnpack:
    """torch.nn's layer on a padded batch; it refuses sequences of length 0, so they are left out.

    Equal lengths and an equal seed give the dropout that fastrnn draws for the padded batch.
    """

    def __init__(self, layer, lengths):
        self.layer, self.lengths = layer, torch.as_tensor(lengths)
        self.parameters = layer.parameters

    def __call__(self, x, hx):
        of_batch = 0 if self.layer.batch_first else 1
        some = self.lengths.nonzero().flatten()
        packed = pack_padded_sequence(
            x.index_select(of_batch, some),
            self.lengths[some],
            batch_first=self.layer.batch_first,
            enforce_sorted=False,
        )
        states = [s.index_select(1, some) for s in flat(hx)]
        y, final = self.layer(packed, tuple(states) if len(states) > 1 else states[0])
        y, _ = pad_packed_sequence(y, self.layer.batch_first, total_length=x.shape[1 - of_batch])
        whole = x.new_zeros(*x.shape[:2], y.shape[-1]).index_copy(of_batch, some, y)
        ends = [s.index_copy(1, some, e) for s, e in zip(flat(hx), flat(final), strict=True)]
        return whole, ends


def case_of(kind, **options):
    return Case(kind, lengths=(T,) * len(LENGTHS), **{"dtype": F64} | options)


@given(case=cases(form="dense", with_state=True), data=st.data())
def test_lengths_give_what_torch_gives_by_packing(case, data):
    lengths = data.draw(lengths_of(case))
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    got = run(Called(fast, lengths=lengths), like(x, case.dtype), like(hx, case.dtype))
    expected = run(PackRunUnpack(plain, lengths), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@given(case=cases(form="dense"), data=st.data())
def test_the_reference_computes_the_same(case, data):
    lengths = data.draw(lengths_of(case))
    layer, x, hx = case.build(), case.input(), case.state()
    got = run(Called(layer, lengths=lengths), like(x, case.dtype), like(hx, case.dtype))
    expected = run(OnReference(layer, lengths=lengths), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.parametrize(
    ("kind", "options"),
    [*((k, o) for k in LAYERS for o in OPTIONS), ("LSTM", {"proj_size": 2, "bias": False})],
)
def test_lengths_equal_pack_run_unpack_to_the_bit_and_with_the_same_dropout(kind, options):
    case = case_of(kind, dtype=F32, hidden_size=19, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    got = run(Called(layer, lengths=LENGTHS), like(x, F32), like(hx, F32))
    expected = run(PackRunUnpack(layer, LENGTHS), like(x, F32), like(hx, F32))
    for g, e in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(g, e)


@pytest.mark.parametrize("options", OPTIONS[:2])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_row_of_some_length_is_that_row_alone_to_the_bit(kind, options):
    case = case_of(kind, dtype=F32, hidden_size=19, **options)
    layer, x = case.build(), case.input()

    def outputs(x, **keywords):
        leaf = like(x, F32)
        y, state = layer(leaf, **keywords)
        y.sum().backward()
        return [y.detach(), leaf.grad, *(s.detach() for s in flat(state))]

    y, d_x, *states = outputs(x, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        if n == 0:
            continue
        y_alone, d_x_alone, *alone = outputs(x[:n, b : b + 1])
        assert torch.equal(y[:n, b], y_alone[:, 0])
        assert torch.equal(d_x[:n, b], d_x_alone[:, 0])
        assert all(torch.equal(s[:, b], a[:, 0]) for s, a in zip(states, alone, strict=True))


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_number_of_threads_changes_no_bit(kind, threads):
    layer = getattr(fastrnn, kind)(17, 40, num_layers=2, bidirectional=True)
    x, lengths = torch.randn(50, 24, 17), torch.randint(0, 51, (24,))
    results = []
    for n in (1, threads):
        torch.set_num_threads(n)
        results.append(run(Called(layer, lengths=lengths), like(x, F32), None))
    for one, many in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_nothing_in_the_padding_has_any_influence(kind, options, grad):
    case = case_of(kind, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    past = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    past = past.t() if case.batch_first else past
    dirty = x.masked_fill(past[..., None], float("nan"))
    called = Called(layer, lengths=LENGTHS)
    if not grad:
        with torch.no_grad():
            torch.manual_seed(1)
            got = flat(called(dirty, hx))
            torch.manual_seed(1)
            expected = flat(called(x, hx))
        assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))
        assert not got[0][past].any()
        return
    got, expected = (run(called, like(data, F64), like(hx, F64)) for data in (dirty, x))
    for g, e in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(g, e)
    assert not got[0][0][past].any()
    assert not got[1][0][past].any()


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_outputs_past_the_end_go_nowhere(kind):
    case = case_of(kind, bidirectional=True)
    layer, x = case.build(), like(case.input(), F64)
    past = (torch.arange(T)[:, None] >= torch.tensor(LENGTHS))[..., None]
    y, _ = layer(x, lengths=LENGTHS)
    d_y = torch.randn_like(y)
    wanted = [x, *layer.parameters()]
    expected = torch.autograd.grad(y, wanted, d_y, retain_graph=True)
    got = torch.autograd.grad(y, wanted, d_y.masked_fill(past, float("nan")))
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("options", OPTIONS[:2])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_batch_without_a_single_step_gives_back_its_states(kind, options):
    case = case_of(kind, **options)
    layer, x, hx = case.build(), like(case.input(), F64), like(case.state(), F64)
    y, final = layer(x.detach().fill_(float("nan")), hx, lengths=[0] * len(LENGTHS))
    assert not y.any()
    assert all(torch.equal(s, h) for s, h in zip(flat(final), flat(hx), strict=True))
    sum(s.sum() for s in [y, *flat(final)]).backward()
    assert all((h.grad == 1).all() for h in flat(hx))
    assert all(not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_full_lengths_are_no_lengths_and_shorter_than_t_is_fine(kind):
    case = case_of(kind, bidirectional=True)
    layer, x = case.build(), case.input()
    whole = flat(layer(x))
    assert all(map(torch.equal, flat(layer(x, lengths=[T] * len(LENGTHS))), whole))
    y, *states = flat(layer(x, lengths=[4] * len(LENGTHS)))
    short = flat(layer(x[:4]))
    assert torch.equal(y[:4], short[0])
    assert not y[4:].any()
    assert all(map(torch.equal, states, short[1:]))


@pytest.mark.parametrize("form", ["tensor", "int32", "uint8", "tuple", "strided"])
def test_lengths_come_in_any_form(form):
    case = case_of("GRU")
    layer, x = case.build(), case.input()
    given = {
        "tensor": torch.tensor(LENGTHS),
        "int32": torch.tensor(LENGTHS, dtype=torch.int32),
        "uint8": torch.tensor(LENGTHS, dtype=torch.uint8),
        "tuple": LENGTHS,
        "strided": torch.tensor(LENGTHS).repeat_interleave(2)[::2],
    }[form]
    expected = layer(x, lengths=list(LENGTHS))[0]
    assert torch.equal(layer(x, lengths=given)[0], expected)


def test_one_sequence_has_one_length():
    layer, x = fastrnn.LSTM(3, 4, bidirectional=True), torch.randn(5, 3)
    y, (h, c) = layer(x, lengths=[3])
    y_short, (h_short, c_short) = layer(x[:3])
    assert torch.equal(y[:3], y_short)
    assert not y[3:].any()
    assert torch.equal(h, h_short)
    assert torch.equal(c, c_short)


def test_an_empty_batch_has_no_lengths():
    layer = fastrnn.GRU(3, 4)
    for none in ([], torch.empty(0, dtype=torch.int64)):
        assert layer(torch.randn(5, 0, 3), lengths=none)[0].shape == (5, 0, 4)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_match_finite_differences(kind, options):
    case = Case(kind, 2, 2, lengths=(3,) * 3, dtype=F64, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    leaves = flat(like(x, F64), like(hx, F64))

    def function(x, *states):
        hx = states if kind == "LSTM" else states[0]
        return tuple(flat(layer(x, hx, lengths=[1, 3, 0])))

    assert_gradients(function, *leaves)
    assert_second_derivatives(function, *leaves)
    assert_derivatives_of_the_equations(layer, case, lengths=[1, 3, 0])


def test_a_gradient_penalty_sees_the_same_dropout_as_through_packing():
    case = case_of("LSTM", num_layers=2, dropout=0.5)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    penalties = []
    for layer in (Called(fast, lengths=LENGTHS), PackRunUnpack(plain, LENGTHS)):
        leaf = like(x, F64)
        torch.manual_seed(5)
        (g,) = torch.autograd.grad(layer(leaf, hx)[0].square().sum(), leaf, create_graph=True)
        wanted = list(layer.parameters())
        penalties.append(torch.autograd.grad(g.square().sum(), wanted, allow_unused=True))
    assert_same(flat(penalties[0]), flat(penalties[1]), F64)


def test_lengths_changed_after_the_call_change_no_gradient():
    layer, x = fastrnn.GRU(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    lengths = torch.tensor([2, 5])
    y, _ = layer(x, lengths=lengths)
    lengths.fill_(5)
    for twice in (False, True):
        (d_x,) = torch.autograd.grad(y.sum(), x, retain_graph=True, create_graph=twice)
        assert not d_x[2:, 0].any()
        assert d_x[:2, 0].all()


def test_the_functional_forms_take_lengths():
    x = torch.randn(T, len(LENGTHS), 3)
    for kind in LAYERS:
        layer = getattr(fastrnn, kind)(3, 4)
        function, weights = getattr(functional, kind.lower()), list(layer.parameters())
        expected = layer(x, lengths=LENGTHS)[0]
        assert torch.equal(function(x, None, weights, lengths=LENGTHS)[0], expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("allow_rnn", [False, True])
def test_a_compiled_layer_takes_lengths(allow_rnn):
    layer, x = fastrnn.GRU(3, 4), torch.randn(T, len(LENGTHS), 3)
    lengths = torch.tensor(LENGTHS)
    with torch._dynamo.config.patch(allow_rnn=allow_rnn):
        compiled = torch.compile(lambda x, n: layer(x, lengths=n)[0] * 2, backend="eager")
        assert torch.equal(compiled(x, lengths), layer(x, lengths=lengths)[0] * 2)
    torch._dynamo.reset()


WRONG = {
    "too few": [3, 2],
    "too many": [3, 2, 1, 1],
    "two dimensions": torch.ones(3, 1, dtype=torch.int64),
    "a number": 3,
    "negative": [3, -1, 2],
    "above T": torch.tensor([3, 7, 2]),
    "floating": torch.tensor([3.0, 2.0, 1.0]),
    "a list of floats": [3.0, 2.0, 1.5],
    "bool": torch.tensor([True, False, True]),
    "words": ["a", "b", "c"],
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_lengths_raise_a_value_error_that_names_them(kind, what):
    layer = getattr(fastrnn, kind)(3, 4)
    x: Tensor = torch.randn(T, 3, 3)
    with pytest.raises(ValueError, match=r"^lengths: expected .*, got "):
        layer(x, lengths=WRONG[what])


@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_sequence_has_lengths_of_its_own(kind):
    packed = Case(kind, form="packed", lengths=(3, 2)).input()
    with pytest.raises(ValueError, match=r"^lengths: .* PackedSequence"):
        getattr(fastrnn, kind)(3, 4)(packed, lengths=[3, 2])
