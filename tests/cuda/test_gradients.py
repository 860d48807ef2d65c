"""What a training loop does with a layer on a GPU, beside asking for every gradient once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import Called, Case, OnReference, flat, like, run
from devices import F64, TOLERANCE, largest_error, on
from torch.func import functional_call, grad, vmap

import fastrnn
from fastrnn import functional
from fastrnn._call import dropout

pytestmark = pytest.mark.usefixtures("exact_products")

KINDS = ["LSTM", "GRU", "RNN"]


def prepared(case, device):
    layer = case.build().to(device)
    return (
        layer,
        on(device, like(case.input(), case.dtype)),
        on(device, like(case.state(), case.dtype)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_do_not_depend_on_who_else_is_asked_for(device, kind):
    case = Case(kind, num_layers=2, bidirectional=True, dtype=F64)
    layer, x, hx = prepared(case, device)
    leaves = [*flat(x, hx), *layer.parameters()]
    loss = sum(t.sum() for t in flat(layer(x, hx)))
    everything = torch.autograd.grad(loss, leaves, retain_graph=True)
    for leaf in leaves:
        leaf.requires_grad_(False)
    for leaf, expected in zip(leaves, everything, strict=True):
        leaf.requires_grad_()
        loss = sum(t.sum() for t in flat(layer(x, hx)))
        (alone,) = torch.autograd.grad(loss, [leaf])
        assert torch.equal(alone, expected)
        leaf.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same_bits_every_time(device, kind):
    case = Case(kind, hidden_size=40, lengths=(7,) * 19, num_layers=2, bidirectional=True)
    layer, x, hx = prepared(case, device)
    first, second = run(layer, x, hx), run(layer, x, hx)
    for a, b in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_inference_give_the_same_bits(device, kind):
    layer, x, hx = prepared(Case(kind, num_layers=2, bidirectional=True), device)
    trained = flat(layer(x, hx))
    with torch.inference_mode():
        inferred = flat(layer(x, hx))
    assert all(torch.equal(a, b) for a, b in zip(trained, inferred, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_backward_in_eval_mode(device, kind):
    layer, x, hx = prepared(Case(kind, dtype=F64), device)
    _, expected = run(layer, x, hx)
    _, got = run(layer.eval(), x, hx)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_backward_runs_twice_over_one_graph(device, kind):
    layer, x, hx = prepared(Case(kind, dtype=F64, num_layers=2), device)
    loss = sum(t.sum() for t in flat(layer(x, hx)))
    first = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_may_be_changed_in_place(device, kind):
    layer, x, hx = prepared(Case(kind, dtype=F64), device)
    y, _ = layer(x, hx)
    (expected,) = torch.autograd.grad((2 * y).sum(), [x])
    y, _ = layer(x, hx)
    (got,) = torch.autograd.grad(y.mul_(2).sum(), [x])
    assert torch.equal(got, expected)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, torch.tensor([2, 5, 0])])
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_the_same_in_both_passes(device, kind, lengths, batch_first, monkeypatch):
    """The reference gets the masks that were drawn, in the order of the rows of a packed batch."""
    case = Case(
        kind, num_layers=3, dropout=0.5, dtype=F64, lengths=(5, 5, 5), batch_first=batch_first
    )
    layer, x, hx = prepared(case, device)
    masks = []
    draw = dropout.dropout_mask

    def recorded(*arguments):
        masks.append(draw(*arguments))
        return masks[-1]

    monkeypatch.setattr(dropout, "dropout_mask", recorded)
    got = run(Called(layer, lengths=on(device, lengths)), x, hx)
    masks = [mask.cpu() for mask in masks]
    if lengths is not None:
        ordered, order = torch.sort(lengths, descending=True)
        active = torch.arange(5)[:, None] < ordered
        masks = [mask[:, order][active] for mask in masks]
    monkeypatch.setattr(dropout, "dropout_mask", lambda *arguments: masks.pop(0))
    judge = case.build()
    judge.load_state_dict(layer.state_dict())
    expected = run(OnReference(judge, lengths=lengths), on("cpu", x), on("cpu", hx))
    assert max(map(largest_error, got, expected)) < TOLERANCE[F64]


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(device, kind, options):
    case = Case(kind, input_size=2, hidden_size=2, lengths=(3, 3), dtype=F64, **options)
    layer, x, _ = prepared(replace(case, with_state=False), device)
    judge = case.build(torch.nn)
    judge.load_state_dict(layer.state_dict())

    def penalty(layer, x):
        y, _ = layer(x)
        (d_x,) = torch.autograd.grad((y**2).sum(), [x], create_graph=True)
        return torch.autograd.grad((d_x**2).sum(), [x, *layer.parameters()])

    expected = penalty(judge, on("cpu", x))
    assert largest_error(penalty(layer, x), expected) < TOLERANCE[F64]


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(device, name):
    cell = getattr(fastrnn, name)(5, 9, dtype=F64)
    judge = getattr(torch.nn, name)(5, 9, dtype=F64)
    judge.load_state_dict(cell.state_dict())
    x, h = torch.randn(3, 5, dtype=F64), torch.randn(3, 9, dtype=F64)
    hx = (h, torch.randn(3, 9, dtype=F64)) if name == "LSTMCell" else h
    expected = run(judge, like(x, F64), like(hx, F64))
    got = run(cell.to(device), on(device, like(x, F64)), on(device, like(hx, F64)))
    assert max(map(largest_error, got, expected)) < TOLERANCE[F64]


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_a_batch_without_rows_or_features(device, shape):
    rows, features = shape
    layer = Case(input_size=features or 1).build().to(device)
    x = torch.randn(5, rows, features or 1, device=device, requires_grad=True)
    y, _ = layer(x)
    y.sum().backward()
    assert y.shape == (5, rows, 4)
    assert x.grad.shape == x.shape


def test_functional_transformations_reach_the_kernels(device):
    layer, x, _ = prepared(Case("GRU", dtype=F64, with_state=False), device)
    weights = [w.detach() for w in layer.parameters()]

    def loss(x):
        y, _ = functional.gru(x, None, weights)
        return y.sin().sum()

    (expected,) = torch.autograd.grad(loss(x), [x])
    assert largest_error([torch.func.grad(loss)(x.detach())], [expected.cpu()]) < TOLERANCE[F64]


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_a_compiled_layer_is_one_graph_and_gives_the_same(device_without_pretence, options):
    layer, x, hx = prepared(Case("GRU", dtype=F64, **options), device_without_pretence)
    expected = run(layer, x, hx)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        got = run(torch.compile(layer, backend="aot_eager", fullgraph=True), x, hx)
    for g, e in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(g, e)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_each_sample_are_those_of_one_after_the_other(device, kind):
    proj_size = 2 if kind == "LSTM" else 0
    case = Case(kind, num_layers=2, bidirectional=True, proj_size=proj_size, dtype=F64)
    layer, _, hx = prepared(case, device)
    samples = torch.stack([on(device, case.input()) for _ in range(3)])
    keywords = {"lengths": torch.tensor([3, 5]), "resets": torch.rand(5, 2) < 0.4}

    def loss(parameters, x):
        outputs = functional_call(layer, parameters, (x, hx), keywords)
        return sum(t.square().sum() for t in flat(outputs))

    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    got = vmap(grad(loss), in_dims=(None, 0))(parameters, samples)
    for v, x in enumerate(samples):
        expected = torch.autograd.grad(loss(dict(layer.named_parameters()), x), layer.parameters())
        for g, e in zip(got.values(), expected, strict=True):
            torch.testing.assert_close(g[v], e)
