"""Resets in mid-sequence: what they cut, that nothing crosses the cut, and that nothing else is."""

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

import fastrnn
from fastrnn import functional

F32, F64 = torch.float32, torch.float64
OPTIONS = [
    {},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]

pytestmark = pytest.mark.usefixtures("each_isa")


class PieceByPiece:
    """A layer of torch's that runs each stretch between two resets alone.

    Only the first stretch of a sequence sees the initial states of the forward direction, unless
    it begins with a reset, and only the last those of the reverse direction; all others start from
    zeros. ``resets`` is [T, B].
    """

    def __init__(self, layer, resets, lengths=None):
        self.layer, self.resets = layer, resets
        self.lengths = lengths or [len(resets)] * resets.shape[1]
        self.parameters = layer.parameters

    def __call__(self, x, hx):
        x = x.transpose(0, 1) if self.layer.batch_first else x
        rows = [self.row(x[:, b], [s[:, b] for s in flat(hx)], b) for b in range(x.shape[1])]
        y, *ends = (torch.stack(tensors, dim=1) for tensors in zip(*rows, strict=True))
        return y.transpose(0, 1) if self.layer.batch_first else y, ends

    def row(self, x, states, b):
        n, D, L = self.lengths[b], 1 + self.layer.bidirectional, self.layer.num_layers
        cuts = [t for t in range(1, n) if self.resets[t, b]]
        pieces, first_end, last_end = [], states, states
        for begin, end in zip([0, *cuts], [*cuts, n], strict=True) if n else ():
            keeps = [begin == 0 and not self.resets[0, b], end == n]
            keep = torch.tensor(keeps[:D] * L)[:, None]
            y, state = self.layer(x[begin:end], in_form(self.layer, [s * keep for s in states]))
            last_end = flat(state)
            first_end = first_end if begin else last_end
            pieces.append(y)
        width = D * (self.layer.proj_size or self.layer.hidden_size)
        y = torch.cat([*pieces, x.new_zeros(len(x) - n, width)])
        forward = torch.tensor([True, False][:D] * L)[:, None]
        ends = zip(first_end, last_end, strict=True)
        return y, *(torch.where(forward, last, first) for first, last in ends)


def in_form(layer, states):
    """``hx`` for a layer out of h and, for the LSTM, c."""
    return tuple(states) if isinstance(layer, torch.nn.LSTM) else states[0]


def as_input(case, resets):
    """``resets`` [T, B] in the shape of the case's input."""
    return resets.t() if case.batch_first else resets


@st.composite
def with_resets(draw, **fixed):
    """A dense case and its resets [T, B]."""
    case = draw(cases(form="dense", **fixed))
    T, B = case.lengths[0], len(case.lengths)
    flags = draw(st.lists(st.booleans(), min_size=T * B, max_size=T * B))
    return case, torch.tensor(flags).view(T, B)


@given(drawn=with_resets(dropout=0.0, with_state=True))
def test_a_batch_with_resets_is_its_stretches_run_one_by_one(drawn):
    case, resets = drawn
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    called = Called(fast, resets=as_input(case, resets))
    got = run(called, like(x, case.dtype), like(hx, case.dtype))
    expected = run(PieceByPiece(plain, resets), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@given(drawn=with_resets(dropout=0.0, with_state=True), data=st.data())
def test_with_lengths_too_and_nothing_happens_past_the_end(drawn, data):
    case, resets = drawn
    lengths = data.draw(lengths_of(case))
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    called = Called(fast, resets=as_input(case, resets), lengths=lengths)
    got = run(called, like(x, case.dtype), like(hx, case.dtype))
    judge = PieceByPiece(plain, resets, lengths)
    expected = run(judge, like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@given(drawn=with_resets(), data=st.data())
def test_the_reference_computes_the_same(drawn, data):
    case, resets = drawn
    keywords = {"resets": as_input(case, resets)}
    if data.draw(st.booleans()):
        keywords["lengths"] = data.draw(lengths_of(case))
    layer, x, hx = case.build(), case.input(), case.state()
    got = run(Called(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    expected = run(OnReference(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_step_loop_that_clears_the_state_gives_the_same_outputs_and_gradients(kind):
    case = Case(kind, lengths=(9,) * 4, num_layers=2, dtype=F64)
    fast, plain = case.pair()
    resets = torch.rand(9, 4) < 0.3
    x, hx = case.input(), case.state()

    class StepByStep(Called):
        def __call__(self, x, hx):
            outputs, state = [], hx
            for x_t, reset in zip(x, resets, strict=True):
                kept = [s * ~reset[:, None] for s in flat(state)]
                y, state = self.layer(x_t[None], in_form(self.layer, kept))
                outputs.append(y)
            return torch.cat(outputs), state

    got = run(Called(fast, resets=resets), like(x, F64), like(hx, F64))
    expected = run(StepByStep(plain), like(x, F64), like(hx, F64))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, F64)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((k, o) for k in LAYERS for o in OPTIONS),
        ("LSTM", {"proj_size": 2, "bidirectional": True}),
    ],
)
def test_no_information_and_no_gradient_crosses(kind, options):
    case = Case(kind, lengths=(8,) * 3, **options)
    layer, hx = case.build(), like(case.state(), F32)
    x = like(case.input(), F32)
    resets = torch.zeros(8, 3, dtype=torch.bool)
    resets[5] = True

    def halves(tensor):
        time = 1 if case.batch_first else 0
        return tensor.narrow(time, 0, 5), tensor.narrow(time, 5, 3)

    y, final = layer(x, hx, resets=as_input(case, resets))
    before, after = halves(y)
    assert not halves(torch.autograd.grad(after.sum(), x, retain_graph=True)[0])[0].any()
    d_x, *d_hx = torch.autograd.grad(before.sum(), [x, *flat(hx)], retain_graph=True)
    assert not halves(d_x)[1].any()
    d_hx = [d.view(-1, 1 + case.bidirectional, *d.shape[1:]) for d in d_hx]
    assert all(d[:, 0].any() for d in d_hx)
    assert not any(d[:, 1:].any() for d in d_hx)
    forward = [s[-1 - case.bidirectional] for s in flat(final)]
    d_x, *d_hx = torch.autograd.grad(sum(s.sum() for s in forward), [x, *flat(hx)])
    assert not halves(d_x)[0].any()
    assert halves(d_x)[1].any()
    assert not any(d.view(-1, 1 + case.bidirectional, *d.shape[1:])[:, 0].any() for d in d_hx)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_lies_before_a_reset_may_even_be_nan(kind, options):
    case = Case(kind, lengths=(6,) * 2, **options)
    layer, x = case.build(), case.input()
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[3, 1] = True
    clean, _ = layer(x, resets=as_input(case, resets))
    by_time = x.transpose(0, 1) if case.batch_first else x
    by_time[:3, 1] = float("nan")
    y, _ = layer(x, resets=as_input(case, resets))
    y, clean = (t.transpose(0, 1) if case.batch_first else t for t in (y, clean))
    assert torch.equal(y[3:], clean[3:])
    assert torch.equal(y[:, 0], clean[:, 0])


@pytest.mark.parametrize("kind", LAYERS)
def test_no_reset_changes_no_bit(kind):
    case = Case(kind, num_layers=2, bidirectional=True, hidden_size=19, lengths=(7,) * 5)
    layer, x, hx = case.build(), case.input(), case.state()
    none = torch.zeros(7, 5, dtype=torch.bool)
    got = run(Called(layer, resets=none), like(x, F32), like(hx, F32))
    expected = run(layer, like(x, F32), like(hx, F32))
    for g, e in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(g, e)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_reset_at_the_first_step_takes_the_place_of_hx_in_the_forward_direction(kind):
    case = Case(kind, lengths=(4,) * 2, bidirectional=True, dtype=F64)
    layer, x, hx = case.build(), case.input(), case.state()
    resets = torch.zeros(4, 2, dtype=torch.bool)
    resets[0] = True
    y, final = layer(x, hx, resets=resets)
    without = [torch.cat([torch.zeros_like(s[:1]), s[1:]]) for s in flat(hx)]
    expected = layer(x, in_form(layer, without))
    assert_same(flat(y, final), flat(expected), F64)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_reset_at_every_step_makes_every_step_a_sequence(kind):
    case = Case(kind, lengths=(4,) * 3, bidirectional=True, dtype=F64)
    layer, x = case.build(), case.input()
    y, _ = layer(x, resets=torch.ones(4, 3, dtype=torch.bool))
    alone, _ = layer(x.reshape(1, 12, -1))
    assert_same([y], [alone.view_as(y)], F64)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("kind", LAYERS)
def test_a_row_with_resets_is_that_row_alone_to_the_bit_on_any_number_of_threads(kind):
    layer = getattr(fastrnn, kind)(17, 40, num_layers=2, bidirectional=True)
    x, resets = torch.randn(30, 13, 17), torch.rand(30, 13) < 0.1
    torch.set_num_threads(1)
    whole = run(Called(layer, resets=resets), like(x, F32), None)
    for n in (2, 3):
        torch.set_num_threads(n)
        again = run(Called(layer, resets=resets), like(x, F32), None)
        for one, many in zip(whole, again, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))
    for b in (0, 5, 12):
        alone = layer(x[:, b : b + 1], resets=resets[:, b : b + 1])
        assert all(
            torch.equal(a[:, 0], w[:, b]) for a, w in zip(flat(alone), whole[0], strict=True)
        )


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_match_finite_differences(kind, options):
    case = Case(kind, 2, 2, lengths=(3,) * 2, dtype=F64, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    leaves = flat(like(x, F64), like(hx, F64))
    resets = torch.tensor([[False, True], [True, False], [False, True]])

    def function(x, *states):
        hx = in_form(layer, states)
        return tuple(flat(layer(x, hx, resets=resets, lengths=[3, 2])))

    assert_gradients(function, *leaves)
    assert_second_derivatives(function, *leaves)
    assert_derivatives_of_the_equations(layer, case, resets=resets, lengths=[3, 2])


def test_weight_gradients_match_finite_differences_with_a_projection():
    layer = fastrnn.LSTM(2, 3, proj_size=2, bidirectional=True, dtype=F64)
    x, resets = torch.randn(4, 2, 2, dtype=F64), torch.rand(4, 2) < 0.5

    def function(*weights):
        return layer(x, resets=resets)[0]

    assert_gradients(function, *layer.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_a_rollout_buffer_may_be_filled_anew_before_backward(kind):
    case = Case(kind, bidirectional=True)
    layer, x = case.build(), case.input()
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[2] = True
    gradients = []
    for refilled in (False, True):
        flags, leaf = resets.clone(), like(x, F32)
        y, _ = layer(leaf, resets=flags)
        if refilled:
            flags.fill_(True)
        gradients += torch.autograd.grad(y.square().sum(), leaf)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_resets_lie_in_memory_as_they_please(layout):
    layer, x = fastrnn.LSTM(3, 4), torch.randn(6, 5, 3)
    resets = {
        "transposed": (torch.rand(5, 6) < 0.3).t(),
        "strided": (torch.rand(6, 10) < 0.3)[:, ::2],
        "expanded": (torch.rand(6, 1) < 0.3).expand(6, 5),
    }[layout]
    assert torch.equal(layer(x, resets=resets)[0], layer(x, resets=resets.contiguous())[0])


def test_one_sequence_has_resets_of_one_dimension():
    layer, x = fastrnn.GRU(3, 4, bidirectional=True), torch.randn(6, 3)
    resets = torch.tensor([False, False, True, False, True, False])
    got = flat(layer(x, resets=resets))
    expected = flat(layer(x[:, None], resets=resets[:, None]))
    assert all(torch.equal(g, e[:, 0]) for g, e in zip(got, expected, strict=True))


def test_the_functional_forms_take_resets():
    x, resets = torch.randn(5, 2, 3), torch.rand(5, 2) < 0.5
    for kind in LAYERS:
        layer = getattr(fastrnn, kind)(3, 4)
        function = getattr(functional, kind.lower())
        expected = layer(x, resets=resets)[0]
        assert torch.equal(function(x, None, list(layer.parameters()), resets=resets)[0], expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("allow_rnn", [False, True])
def test_a_compiled_layer_takes_resets(allow_rnn):
    layer, x, resets = fastrnn.GRU(3, 4), torch.randn(5, 2, 3), torch.rand(5, 2) < 0.5
    with torch._dynamo.config.patch(allow_rnn=allow_rnn):
        compiled = torch.compile(lambda x, r: layer(x, resets=r)[0] * 2, backend="eager")
        assert torch.equal(compiled(x, resets), layer(x, resets=resets)[0] * 2)
    torch._dynamo.reset()


WRONG = {
    "too few steps": torch.zeros(4, 2, dtype=torch.bool),
    "batch first": torch.zeros(2, 5, dtype=torch.bool),
    "one dimension": torch.zeros(5, dtype=torch.bool),
    "features": torch.zeros(5, 2, 1, dtype=torch.bool),
    "float": torch.zeros(5, 2),
    "int": torch.zeros(5, 2, dtype=torch.int64),
    "a list": [[False, False]] * 5,
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_resets_raise_a_value_error_that_names_them(kind, what):
    with pytest.raises(ValueError, match=r"^resets: expected .*, got "):
        getattr(fastrnn, kind)(3, 4)(torch.randn(5, 2, 3), resets=WRONG[what])


@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_sequence_takes_no_resets(kind):
    packed = Case(kind, form="packed", lengths=(3, 2)).input()
    with pytest.raises(ValueError, match=r"^resets: .* PackedSequence"):
        getattr(fastrnn, kind)(3, 4)(packed, resets=torch.zeros(3, 2, dtype=torch.bool))
