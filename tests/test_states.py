"""The states after every step, and sequences fed in pieces that hand their states on."""

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
    {"num_layers": 3},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
    {"num_layers": 2, "proj_size": 3},
]
VARIANTS = [(k, o) for k in LAYERS for o in OPTIONS if k == "LSTM" or "proj_size" not in o]

pytestmark = pytest.mark.usefixtures("each_isa")


def in_form(kind, states):
    return tuple(states) if kind == "LSTM" else states[0]


class Prefixes(Called):
    """A layer of torch's in one direction that runs every prefix of the sequence for its end."""

    def __call__(self, x, hx):
        by_time = x.transpose(0, 1) if self.layer.batch_first else x
        ends = []
        for t in range(1, len(by_time) + 1):
            prefix = by_time[:t].transpose(0, 1) if self.layer.batch_first else by_time[:t]
            y, end = self.layer(prefix, hx)
            ends.append(flat(end))
        return y, end, [torch.stack(states, dim=1) for states in zip(*ends, strict=True)]


@given(case=cases(form="dense", bidirectional=False, dropout=0.0))
def test_the_state_after_a_step_is_the_final_state_of_the_prefix(case):
    fast, plain = case.pair()
    x, hx = like(case.input(), case.dtype), like(case.state(), case.dtype)
    got = run(Called(fast, return_states=True), x, hx)
    expected = run(Prefixes(plain), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@given(case=cases(), data=st.data())
def test_the_reference_computes_the_same(case, data):
    keywords = {"return_states": True}
    if case.form in ("dense", "unbatched"):
        if data.draw(st.booleans()):
            keywords["lengths"] = data.draw(lengths_of(case))
        if data.draw(st.booleans()):
            keywords["resets"] = torch.rand(case.input().shape[:-1]) < 0.4
    layer, x, hx = case.build(), case.input(), case.state()
    got = run(Called(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    expected = run(OnReference(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_layout_is_torchs_order_of_layers_and_directions_with_time_first(kind, options, grad):
    T, B = 5, 3
    case = Case(kind, hidden_size=7, lengths=(T,) * B, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    with torch.set_grad_enabled(grad):
        plain = flat(layer(x, hx))
        y, final, states = layer(x, hx, return_states=True)
    assert all(map(torch.equal, flat(y, final), plain))
    L, D = case.num_layers, 1 + case.bidirectional
    widths = [case.proj_size or 7, 7]
    shapes = [(L * D, T, B, width) for width in widths][: 2 if kind == "LSTM" else 1]
    assert [tuple(s.shape) for s in flat(states)] == shapes
    assert isinstance(states, tuple) == (kind == "LSTM")
    y = y.transpose(0, 1) if case.batch_first else y
    assert torch.equal(torch.cat(flat(states)[0][-D:].unbind(0), dim=-1), y)
    for end, state in zip(flat(final), flat(states), strict=True):
        for k in range(L * D):
            assert torch.equal(end[k], state[k, 0 if k % D else -1])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_states_are_those_before_dropout(kind, grad):
    case = Case(kind, num_layers=2, dropout=0.6, hidden_size=16)
    layer, x = case.build(), case.input()
    with torch.set_grad_enabled(grad):
        _, _, states = layer(x, return_states=True)
        _, _, expected = layer.eval()(x, return_states=True)
    assert all(torch.equal(s[0], e[0]) for s, e in zip(flat(states), flat(expected), strict=True))
    assert not torch.equal(flat(states)[0][1], flat(expected)[0][1])


@pytest.mark.parametrize("form", ["packed", "unsorted"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_batch_has_padded_states_in_the_order_of_its_sequences(kind, form):
    lengths = (5, 3, 2) if form == "packed" else (2, 5, 3)
    case = Case(kind, form=form, lengths=lengths, num_layers=2, bidirectional=True)
    layer, x, hx = case.build(), case.input(), case.state()
    _, _, states = layer(x, hx, return_states=True)
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(x)
    _, _, expected = layer(padded, hx, lengths=lengths, return_states=True)
    assert all(map(torch.equal, flat(states), flat(expected)))
    for b, n in enumerate(lengths):
        assert not any(s[:, n:, b].any() for s in flat(states))
        assert all(s[:, :n, b].all() for s in flat(states))


def test_one_sequence_has_states_without_a_batch():
    layer, x = fastrnn.LSTM(3, 4, num_layers=2), torch.randn(5, 3)
    _, _, (h, c) = layer(x, return_states=True)
    assert h.shape == c.shape == (2, 5, 4)
    _, _, batched = layer(x[:, None], return_states=True)
    assert torch.equal(h, batched[0][:, :, 0])
    assert torch.equal(c, batched[1][:, :, 0])


def test_an_empty_batch_has_empty_states():
    _, _, (h, c) = fastrnn.LSTM(3, 4, proj_size=2)(torch.randn(5, 0, 3), return_states=True)
    assert h.shape == (1, 5, 0, 2)
    assert c.shape == (1, 5, 0, 4)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_gradients_match_finite_differences(kind, options):
    case = Case(kind, lengths=(3,) * 2, hidden_size=4, dtype=F64, **options)
    layer, x, hx = case.build(), case.input(), case.state()
    leaves = flat(like(x, F64), like(hx, F64))
    resets = torch.tensor([[False, False], [False, True], [True, False]])
    resets = resets.t() if case.batch_first else resets
    keywords = {"lengths": [3, 2], "resets": resets, "return_states": True}

    def function(x, *rest):
        hx = in_form(kind, rest[: 2 if kind == "LSTM" else 1])
        return tuple(flat(layer(x, hx, **keywords)))

    # Where a cell is called in another way, random directions and the equations are enough.
    inputs = (*leaves, *layer.parameters())
    if options:
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    else:
        assert_gradients(function, *inputs)
    assert_derivatives_of_the_equations(layer, case, **keywords)


def test_second_derivatives_flow_through_the_states():
    layer = fastrnn.LSTM(2, 2, bidirectional=True, dtype=F64)
    x = torch.randn(2, 2, 2, dtype=F64, requires_grad=True)
    assert_second_derivatives(lambda x: layer(x, return_states=True)[2], x)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_gradient_may_come_through_a_single_state_alone(kind):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    layer, x = case.build(), case.input()
    for k in range(2 if kind == "LSTM" else 1):
        gradients = []
        for called in (Called, OnReference):
            leaf = like(x, F64)
            state = flat(called(layer, return_states=True)(leaf)[2])[k]
            wanted = [leaf, *layer.parameters()]
            loss = state[1, 2].square().sum()
            gradients.append(torch.autograd.grad(loss, wanted, materialize_grads=True))
        assert_same(*gradients, F64)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("kind", LAYERS)
def test_the_number_of_threads_changes_no_bit(kind):
    layer = getattr(fastrnn, kind)(17, 40, num_layers=2, bidirectional=True)
    x, lengths = torch.randn(20, 12, 17), torch.randint(0, 21, (12,))
    called = Called(layer, lengths=lengths, return_states=True)
    results = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        with torch.no_grad():
            inferred = flat(called(x))
        results.append([*inferred, *flat(*run(called, like(x, F32), None))])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("kind", LAYERS)
def test_changing_the_states_in_place_leaves_the_gradient_right(kind):
    case = Case(kind, num_layers=2, dtype=F64)
    layer, x = case.build(), case.input()
    gradients = []
    for in_place in (False, True):
        leaf = like(x, F64)
        y, _, states = layer(leaf, return_states=True)
        first = flat(states)[0]
        first = first.mul_(3) if in_place else first * 3
        gradients.append(torch.autograd.grad(y.sum() + first.sum(), [leaf, *layer.parameters()]))
    assert_same(*gradients, F64)


def test_the_functional_forms_return_states_too():
    x = torch.randn(5, 2, 3)
    for kind in LAYERS:
        layer = getattr(fastrnn, kind)(3, 4)
        weights = list(layer.parameters())
        got = getattr(functional, kind.lower())(x, None, weights, return_states=True)
        assert all(map(torch.equal, flat(got), flat(layer(x, return_states=True))))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("allow_rnn", [False, True])
def test_a_compiled_layer_returns_states(allow_rnn):
    layer, x = fastrnn.LSTM(3, 4), torch.randn(5, 2, 3)
    with torch._dynamo.config.patch(allow_rnn=allow_rnn):
        compiled = torch.compile(lambda x: layer(x, return_states=True), backend="eager")
        assert all(map(torch.equal, flat(compiled(x)), flat(layer(x, return_states=True))))
    torch._dynamo.reset()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"batch_first": True}])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_stream_of_single_steps_is_the_whole_sequence(kind, options, grad):
    case = Case(kind, lengths=(6,) * 3, dtype=F64, **options)
    layer, x, state = case.build(), case.input(), case.state()
    time = 1 if case.batch_first else 0
    with torch.set_grad_enabled(grad):
        whole, final = layer(x, state)
        outputs = []
        for x_t in x.split(1, dim=time):
            y, state = layer(x_t, state)
            outputs.append(y)
    assert_same([torch.cat(outputs, dim=time), *flat(state)], [whole, *flat(final)], F64)


@pytest.mark.parametrize("kind", LAYERS)
def test_truncated_back_propagation_stops_at_a_detached_state(kind):
    case = Case(kind, lengths=(8,) * 3, num_layers=2, dtype=F64)
    gradients = []
    for layer in case.pair():
        torch.manual_seed(3)
        x, state, loss = like(case.input(), F64), None, torch.zeros((), dtype=F64)
        for piece in x.split(3):
            y, state = layer(piece, state)
            loss = loss + y.square().sum()
            state = in_form(kind, [s.detach() for s in flat(state)])
        gradients.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    assert_same(*gradients, F64)
