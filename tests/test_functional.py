"""The stateless functions: values, gradients, and what a call may and may not touch."""

from __future__ import annotations

import pytest
import torch
from cases import (
    CELLS,
    LAYERS,
    Case,
    assert_derivatives_of_the_equations,
    assert_same,
    cases,
    flat,
    like,
    run,
    seed,
)
from finite_differences import assert_gradients
from hypothesis import given, settings
from torch.nn.utils.rnn import PackedSequence

from fastrnn import functional, reference

F32, F64 = torch.float32, torch.float64

pytestmark = pytest.mark.usefixtures("each_isa")

FUNCTIONS = {
    "LSTM": functional.lstm,
    "GRU": functional.gru,
    "RNN": functional.rnn,
    "LSTMCell": functional.lstm_cell,
    "GRUCell": functional.gru_cell,
    "RNNCell": functional.rnn_cell,
}

# One option at a time beside the plain layer, and all of them together.
OPTIONS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 2},
    {"form": "unbatched"},
    {"form": "packed", "lengths": (3, 1)},
    {"form": "unsorted", "lengths": (1, 3, 2)},
    {"num_layers": 2, "dropout": 0.4},
    {"num_layers": 2, "bidirectional": True, "form": "unsorted", "lengths": (2, 3), "bias": False},
]
VARIANTS = [
    *[("LSTM", o | p) for o in OPTIONS for p in ({}, {"proj_size": 2})],
    *[("GRU", o) for o in OPTIONS],
    *[("RNN", o | {"nonlinearity": n}) for o in OPTIONS for n in ("tanh", "relu")],
]


def call(case: Case, x, hx, weights):
    """The case's function on bare weights."""
    options = case.options
    del options["dtype"]
    return FUNCTIONS[case.kind](x, hx, weights, training=True, **options)


class _Stateless:
    """A function and its weights, to stand where `run` expects a layer."""

    def __init__(self, case, weights):
        self.case, self.weights = case, weights

    def parameters(self):
        return self.weights

    def __call__(self, x, hx):
        return call(self.case, x, hx, self.weights)


@given(case=cases())
def test_functions_compute_what_torch_computes_in_float64(case):
    fast, _ = case.pair()
    judge = case.build(torch.nn, dtype=F64)
    judge.load_state_dict(fast.state_dict())
    x, hx = case.input(), case.state()
    dropout_differs_between_dtypes = case.dropout and case.dtype is F32
    if dropout_differs_between_dtypes:
        judge = case.build(torch.nn)
        judge.load_state_dict(fast.state_dict())
    dtype = case.dtype if dropout_differs_between_dtypes else F64
    stateless = _Stateless(case, list(fast.parameters()))
    got = run(stateless, like(x, case.dtype), like(hx, case.dtype))
    expected = run(judge, like(x, dtype), like(hx, dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_gradients_match_finite_differences(kind, options):
    sizes = {"input_size": 2, "hidden_size": 3, "lengths": (2, 2)}
    case = Case(kind, dtype=F64, **sizes | options)
    x, hx = case.input(), case.state()
    leaves = flat(like(x, F64), like(hx, F64))
    weights = [w.detach().requires_grad_() for w in case.build().parameters()]

    def function(data, *rest):
        seed(4)  # the same dropout at every evaluation
        states, weights = rest[: len(leaves) - 1], rest[len(leaves) - 1 :]
        packed = PackedSequence(data, *x[1:]) if isinstance(x, PackedSequence) else data
        hx = states if kind == "LSTM" else states[0]
        return tuple(flat(call(case, packed, hx, weights)))

    # Where a cell is called in another way, random directions and the equations are enough.
    another_way = bool(options.keys() - {"nonlinearity", "proj_size"})
    if another_way:
        assert torch.autograd.gradcheck(function, (*leaves, *weights), fast_mode=True)
    else:
        assert_gradients(function, *leaves, *weights)
    assert_derivatives_of_the_equations(_Stateless(case, weights), case)


@pytest.mark.parametrize("biases", [0, 1, 2])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", CELLS)
def test_cell_gradients_match_finite_differences(kind, batch, biases):
    cell = getattr(torch.nn, kind)(3, 4, dtype=F64)
    weights = [w.detach().requires_grad_() for w in cell.parameters()][: 2 + biases]
    tensors = [torch.randn(*batch, n, dtype=F64, requires_grad=True) for n in (3, 4, 4)]
    tensors = tensors[: 3 if kind == "LSTMCell" else 2]

    def function(x, *rest):
        states, weights = rest[: len(tensors) - 1], rest[len(tensors) - 1 :]
        return FUNCTIONS[kind](x, states if kind == "LSTMCell" else states[0], *weights)

    assert_gradients(function, *tensors, *weights)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
@pytest.mark.parametrize("kind", LAYERS)
def test_an_empty_batch_has_torchs_shapes_and_zero_gradients(kind, options):
    case = Case(kind, lengths=(), **options)
    fast, plain = case.pair()
    x, hx = torch.randn(5, 0, 3, requires_grad=True), case.state()
    got, expected = flat(fast(x, hx)), flat(plain(x, hx))
    assert [g.shape for g in got] == [e.shape for e in expected]
    sum(g.sum() for g in got).backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is not None and not p.grad.any() for p in fast.parameters())


@pytest.mark.parametrize("kind", CELLS)
def test_an_empty_batch_passes_through_a_cell(kind):
    cell = getattr(torch.nn, kind)(3, 4)
    weights = list(cell.parameters())
    outputs = flat(FUNCTIONS[kind](torch.randn(0, 3), None, *weights))
    assert all(y.shape == (0, 4) for y in outputs)
    sum(y.sum() for y in outputs).backward()


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_frozen_weights_and_plain_inputs_get_no_gradient_and_change_no_other(kind):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    full = run(plain, like(x, F64), like(hx, F64))[1]
    names = [name for name, _ in fast.named_parameters()]
    for trained in ("weight_ih_l0", "weight_hh_l1_reverse", "bias_hh_l1", "bias_ih_l0_reverse"):
        for name, parameter in fast.named_parameters():
            parameter.requires_grad_(name == trained)
        outputs, grads = run(fast, x, hx)
        assert all(y.requires_grad for y in outputs)
        assert_same(grads, [full[-len(names) + names.index(trained)]], F64)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_gradient_for_the_input_alone(kind):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    full = run(plain, like(x, F64), like(hx, F64))[1]
    fast.requires_grad_(False)
    assert_same(run(fast, like(x, F64), hx)[1], full[:1], F64)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_gradient_through_any_single_output(kind):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    for k in range(3 if kind == "LSTM" else 2):
        grads = []
        for layer in (fast, plain):
            leaf = like(x, F64)
            output = flat(layer(leaf, hx))[k]
            wanted = [leaf, *layer.parameters()]
            grads.append(torch.autograd.grad(output.sum(), wanted, materialize_grads=True))
        assert_same(*grads, F64)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_nothing_is_recorded_when_nothing_needs_a_gradient(kind):
    case = Case(kind)
    layer = case.build()
    with torch.no_grad():
        assert not any(y.requires_grad for y in flat(layer(case.input(), case.state())))
    with torch.inference_mode():
        assert all(y.is_inference() for y in flat(layer(case.input(), case.state())))
    layer.requires_grad_(False)
    assert not any(y.requires_grad for y in flat(layer(case.input(), case.state())))


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_backward_works_in_eval_mode(kind):
    case = Case(kind, num_layers=2, dropout=0.5, dtype=F64)
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    got = run(fast.eval(), like(x, F64), like(hx, F64))[1]
    assert_same(got, run(plain.eval(), like(x, F64), like(hx, F64))[1], F64)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_retained_graph_gives_the_same_gradient_twice(kind, each_road):
    dropout = 0.0 if each_road == "short" else 0.3
    case = Case(kind, num_layers=2, bidirectional=True, dropout=dropout)
    layer, x = case.build(), like(case.input(), F32)
    loss = sum(y.square().sum() for y in flat(layer(x)))
    wanted = [x, *layer.parameters()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.autograd.grad(loss, wanted)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, wanted)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("changed", ["x", "weight_ih_l0", "weight_hh_l0", "hx"])
@pytest.mark.parametrize("kind", LAYERS)
def test_changing_a_saved_tensor_in_place_makes_backward_raise(kind, changed):
    case = Case(kind)
    layer = case.build()
    saved = dict(layer.named_parameters())
    saved["x"], hx = like(case.input(), F32) * 1, case.state()
    saved["hx"] = flat(hx)[0]
    loss = sum(y.sum() for y in flat(layer(saved["x"], hx)))
    with torch.no_grad():
        saved[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize(
    ("kind", "which"), [(k, i) for k in LAYERS for i in range(3 if k == "LSTM" else 2)]
)
def test_changing_an_output_in_place_leaves_the_gradient_right(kind, which):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    fast, plain = case.pair()
    x = case.input()

    def gradients(layer, changed):
        leaf = like(x, F64)
        outputs = flat(layer(leaf))
        outputs[which] = outputs[which].mul_(3) if changed else outputs[which] * 3
        return torch.autograd.grad(sum(y.sum() for y in outputs), [leaf, *layer.parameters()])

    expected = gradients(plain, changed=False)
    assert_same(gradients(fast, changed=True), expected, F64)


@given(case=cases())
@settings(max_examples=15)
def test_a_call_writes_to_none_of_its_inputs(case):
    layer, x, hx = case.build(), like(case.input(), case.dtype), like(case.state(), case.dtype)
    tensors = [*flat(x, hx), *layer.parameters()]
    before = [t.detach().clone() for t in tensors]
    run(layer, x, hx)
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", LAYERS)
def test_nan_and_inf_flow_as_in_torch_and_stay_in_their_row(kind, bad):
    case = Case(kind, lengths=(4,) * 5, hidden_size=9)
    fast, plain = case.pair()
    x = case.input()
    clean = flat(fast(x))
    x[1, 2, 0] = bad
    got, expected = flat(fast(x)), flat(plain(x))
    others = [0, 1, 3, 4]
    for g, e, c in zip(got, expected, clean, strict=True):
        assert torch.equal(g[:, others], c[:, others])
        torch.testing.assert_close(g, e, equal_nan=True, rtol=0, atol=case.tolerance)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_cell_applies_the_nonlinearity_that_it_is_asked_for(nonlinearity):
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    weights = list(torch.nn.RNNCell(3, 4).parameters())
    got = functional.rnn_cell(x, h, *weights, nonlinearity=nonlinearity)
    assert_same([got], [reference.rnn_step(x, h, *weights, nonlinearity)], F32)


def test_dropout_applies_only_in_training():
    case = Case("GRU", num_layers=2)
    x, weights = case.input(), list(case.build().parameters())
    still = functional.gru(x, None, weights, num_layers=2, dropout=0.9)
    assert torch.equal(still[0], functional.gru(x, None, weights, num_layers=2)[0])
    moved = functional.gru(x, None, weights, num_layers=2, dropout=0.9, training=True)
    assert not torch.equal(still[0], moved[0])
