"""Every mistake raises what torch.nn raises for it, in torch's words where torch has them.

Each mistake is made twice: torch's exception says which type is expected and which words.
"""

from __future__ import annotations

import pytest
import torch
from cases import CELLS, LAYERS, OLD_TORCH, Case, flat
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from words import assert_as_in_torch, error_of

import fastrnn
from fastrnn import functional

F64 = torch.float64


def randn(*shape, **options):
    return torch.randn(*shape, **options)


def state(kind, *shape, **options):
    """Zeros in the form of the kind's ``hx``."""
    h, c = torch.zeros(*shape, **options), torch.zeros(*shape, **options)
    return (h, c) if kind.startswith("LSTM") else h


def other_form(kind, *shape):
    """``hx`` in the form of the other kinds: a Tensor where a pair is due, and vice versa."""
    h = torch.zeros(*shape)
    return h if kind.startswith("LSTM") else (h, h)


def packed(*lengths, features=3):
    return pack_sequence([randn(n, features) for n in lengths], enforce_sorted=False)


# What is said of the mistake -> (call arguments by kind, what a message names if torch has none).
LAYER_CALLS = {
    "input has one dimension": (lambda k: (randn(3),), "input"),
    "input has four dimensions": (lambda k: (randn(1, 5, 2, 3),), "input"),
    "input has too many features": (lambda k: (randn(5, 2, 4),), "input"),
    "input of one sequence has too many features": (lambda k: (randn(5, 4),), "input"),
    "input is float64": (lambda k: (randn(5, 2, 3, dtype=F64),), "input"),
    "input is bfloat16": (lambda k: (randn(5, 2, 3, dtype=torch.bfloat16),), "input"),
    "input is integer": (lambda k: (torch.ones(5, 2, 3, dtype=torch.int64),), "input"),
    "input is on another device": (lambda k: (randn(5, 2, 3, device="meta"),), "input"),
    "input is a list": (lambda k: ([[1.0, 2.0, 3.0]],), "input"),
    "input is None": (lambda k: (None,), "input"),
    "input is an array": (lambda k: (randn(5, 2, 3).numpy(),), "input"),
    "input has no steps": (lambda k: (randn(0, 2, 3),), "input"),
    "input of one sequence has no steps": (lambda k: (randn(0, 3),), "input"),
    "packed input has too many features": (lambda k: (packed(5, 2, features=4),), "input"),
    "packed input is float64": (lambda k: (packed(5, 2).double(),), "input"),
    "hx has another batch size": (lambda k: (randn(5, 2, 3), state(k, 1, 3, 4)), "hx"),
    "hx has another number of layers": (lambda k: (randn(5, 2, 3), state(k, 2, 2, 4)), "hx"),
    "hx has another hidden size": (lambda k: (randn(5, 2, 3), state(k, 1, 2, 5)), "hx"),
    "hx has two dimensions": (lambda k: (randn(5, 2, 3), state(k, 1, 4)), "hx"),
    "hx has four dimensions": (lambda k: (randn(5, 2, 3), state(k, 1, 1, 2, 4)), "hx"),
    "hx of one sequence has three dimensions": (lambda k: (randn(5, 3), state(k, 1, 1, 4)), "hx"),
    "hx of one sequence has one dimension": (lambda k: (randn(5, 3), state(k, 4)), "hx"),
    "hx of one sequence has another size": (lambda k: (randn(5, 3), state(k, 1, 5)), "hx"),
    "hx is float64": (lambda k: (randn(5, 2, 3), state(k, 1, 2, 4, dtype=F64)), "hx"),
    "hx is integer": (lambda k: (randn(5, 2, 3), state(k, 1, 2, 4, dtype=torch.int64)), "hx"),
    "hx is on another device": (
        lambda k: (randn(5, 2, 3), state(k, 1, 2, 4, device="meta")),
        "hx",
    ),
    "hx is of the other form": (lambda k: (randn(5, 2, 3), other_form(k, 1, 2, 4)), "hx"),
    "hx of two layers is of the other form": (
        lambda k: (randn(5, 2, 3), other_form(k, 2, 2, 4)),
        "hx",
    ),
    "hx is one stacked Tensor": (lambda k: (randn(5, 2, 3), torch.zeros(2, 1, 2, 4)), "hx"),
    "hx is a tuple of one": (lambda k: (randn(5, 2, 3), (torch.zeros(1, 2, 4),)), "hx"),
    "hx is a tuple of three": (lambda k: (randn(5, 2, 3), (torch.zeros(1, 2, 4),) * 3), "hx"),
    "hx has None in it": (lambda k: (randn(5, 2, 3), (torch.zeros(1, 2, 4), None)), "hx"),
    "hx is a number": (lambda k: (randn(5, 2, 3), 3), "hx"),
    "hx is an array": (lambda k: (randn(5, 2, 3), torch.zeros(1, 2, 4).numpy()), "hx"),
    "hx of a packed batch has another batch size": (
        lambda k: (packed(5, 2), state(k, 1, 1, 4)),
        "hx",
    ),
    "hx of a packed batch is float64": (
        lambda k: (packed(5, 2), state(k, 1, 2, 4, dtype=F64)),
        "hx",
    ),
    "hx of a packed batch has another hidden size": (
        lambda k: (packed(5, 2), state(k, 1, 2, 5)),
        "hx",
    ),
    "packed data has three dimensions": (
        lambda k: (PackedSequence(randn(1, 3, 3), torch.tensor([2, 1])),),
        "input",
    ),
    "a packed batch has no steps": (
        lambda k: (PackedSequence(randn(0, 3), torch.tensor([], dtype=torch.int64)),),
        "input",
    ),
}

CELL_CALLS = {
    "input has no dimension": (lambda k: (torch.tensor(1.0),), "input"),
    "input has three dimensions": (lambda k: (randn(5, 2, 3),), "input"),
    "input has too many features": (lambda k: (randn(2, 4),), "input"),
    "input is float64": (lambda k: (randn(2, 3, dtype=F64),), "input"),
    "input is integer": (lambda k: (torch.ones(2, 3, dtype=torch.int64),), "input"),
    "input is on another device": (lambda k: (randn(2, 3, device="meta"),), "input"),
    "input is None": (lambda k: (None,), "input"),
    "hx has another batch size": (lambda k: (randn(2, 3), state(k, 3, 4)), "hx"),
    "hx has a batch of one": (lambda k: (randn(2, 3), state(k, 1, 4)), "hx"),
    "hx has another hidden size": (lambda k: (randn(2, 3), state(k, 2, 5)), "hx"),
    "hx has three dimensions": (lambda k: (randn(2, 3), state(k, 1, 2, 4)), "hx"),
    "hx has one dimension": (lambda k: (randn(2, 3), state(k, 4)), "hx"),
    "hx of one sequence has two dimensions": (lambda k: (randn(3), state(k, 1, 4)), "hx"),
    "hx is float64": (lambda k: (randn(2, 3), state(k, 2, 4, dtype=F64)), "hx"),
    "hx is on another device": (lambda k: (randn(2, 3), state(k, 2, 4, device="meta")), "hx"),
    "hx is of the other form": (lambda k: (randn(2, 3), other_form(k, 2, 4)), "hx"),
    "hx is one stacked Tensor": (lambda k: (randn(2, 3), torch.zeros(2, 2, 4)), "hx"),
    "hx is a tuple of one": (lambda k: (randn(2, 3), (torch.zeros(2, 4),)), "hx"),
    "hx is a tuple of three": (lambda k: (randn(2, 3), (torch.zeros(2, 4),) * 3), "hx"),
    "hx is a number": (lambda k: (randn(2, 3), 3), "hx"),
    "hx is an array": (lambda k: (randn(2, 3), torch.zeros(2, 4).numpy()), "hx"),
    "hx has no dimension": (lambda k: (randn(2, 3), torch.tensor(1.0)), "hx"),
    "hx is empty": (lambda k: (randn(2, 3), ()), "hx"),
    "hx of one sequence is empty": (lambda k: (randn(3), ()), "hx"),
    "hx of one sequence is a tuple of one": (lambda k: (randn(3), (torch.zeros(4),)), "hx"),
}

# A parameter -> a replacement that torch's LSTM refuses. (It reads others out of bounds.)
SURGERY = {
    "weight_ih_l0": lambda: randn(16, 3, dtype=F64),
    "weight_hh_l0": lambda: randn(16, 4, dtype=F64),
    "bias_ih_l0": lambda: randn(17),
    "bias_hh_l0": lambda: randn(15),
}


@pytest.mark.parametrize("what", LAYER_CALLS)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_arguments_of_a_layer_raise_as_in_torch(kind, what):
    arguments, named = LAYER_CALLS[what]
    fast, plain = Case(kind).pair()
    assert_as_in_torch(lambda: fast(*arguments(kind)), lambda: plain(*arguments(kind)), named)


@pytest.mark.parametrize("what", CELL_CALLS)
@pytest.mark.parametrize("kind", CELLS)
def test_wrong_arguments_of_a_cell_raise_as_in_torch(kind, what):
    if OLD_TORCH and what == "hx has no dimension":
        pytest.skip("torch 2.6 has another error for its LSTMCell")
    arguments, named = CELL_CALLS[what]
    fast, plain = getattr(fastrnn, kind)(3, 4), getattr(nn, kind)(3, 4)
    assert_as_in_torch(lambda: fast(*arguments(kind)), lambda: plain(*arguments(kind)), named)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_cell_takes_the_first_two_states_of_one_sequence_as_torch_does(stacked):
    fast, plain = fastrnn.LSTMCell(3, 4), nn.LSTMCell(3, 4)
    plain.load_state_dict(fast.state_dict())
    x, hx = randn(3), randn(3, 4)
    got, expected = (cell(x, hx if stacked else tuple(hx)) for cell in (fast, plain))
    torch.testing.assert_close(got, expected)
    with pytest.raises(IndexError):
        fast(x, hx[:1])


@pytest.mark.parametrize("name", SURGERY)
def test_a_weight_that_torch_refuses_is_refused_with_the_same_type(name):
    def call(module):
        layer = module.LSTM(3, 4)
        setattr(layer, name, nn.Parameter(SURGERY[name]()))
        return layer(randn(5, 2, 3))

    named = "input" if name == "weight_ih_l0" else name
    assert_as_in_torch(lambda: call(fastrnn), lambda: call(nn), named)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_missing_weight_raises_as_in_torch(kind, name):
    def call(module):
        layer = getattr(module, kind)(3, 4)
        setattr(layer, name, None)
        return layer(randn(5, 2, 3))

    assert_as_in_torch(lambda: call(fastrnn), lambda: call(nn), name)


@pytest.mark.parametrize("attribute", ["hidden_size", "num_layers", "bias", "bidirectional"])
@pytest.mark.parametrize("kind", LAYERS)
def test_attributes_that_contradict_the_weights_raise(kind, attribute):
    layer = getattr(fastrnn, kind)(3, 4)
    value = {"hidden_size": 5, "num_layers": 2, "bias": False, "bidirectional": True}[attribute]
    setattr(layer, attribute, value)
    with pytest.raises(RuntimeError, match="weight"):
        layer(randn(5, 2, 3))


@pytest.mark.parametrize(
    ("built", "called"),
    [
        ({}, {"num_layers": 2}),
        ({}, {"bidirectional": True}),
        ({}, {"bias": False}),
        ({"bias": False}, {"bias": True}),
        ({"num_layers": 2}, {"num_layers": 1}),
        ({"bidirectional": True}, {"bidirectional": False}),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["GRU", "RNN"])  # torch's LSTM does not count
def test_another_number_of_weights_is_told_in_torchs_words(kind, built, called):
    def call(module):
        layer = getattr(module, kind)(3, 4, **built)
        for attribute, value in called.items():
            setattr(layer, attribute, value)
        return layer(randn(5, 2, 3))

    assert_as_in_torch(lambda: call(fastrnn), lambda: call(nn), "weights")


@pytest.mark.parametrize("shape", [(16, 5), (3, 16), (48,), (17, 3), (16, 3, 1), (0, 0)])
@pytest.mark.parametrize("which", ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0", "bias_hh_l0"])
def test_a_weight_of_a_wrong_shape_never_reaches_the_engine(which, shape):
    layer = fastrnn.LSTM(3, 4, proj_size=2)
    setattr(layer, which, nn.Parameter(torch.zeros(shape)))
    with pytest.raises(RuntimeError, match=rf"{which}\): expected shape .* got"):
        layer(randn(5, 2, 3))


@pytest.mark.parametrize("shape", [(16, 5), (5, 16), (64,), (17, 4), (13, 3)])
@pytest.mark.parametrize("which", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_weight_of_a_wrong_shape_never_reaches_the_engine(kind, which, shape):
    cell = getattr(fastrnn, kind)(3, 4)
    setattr(cell, which, nn.Parameter(torch.zeros(shape)))
    with pytest.raises(RuntimeError, match="expected"):
        cell(randn(2, 3))


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_with_one_bias_of_two_computes_as_in_torch(kind):
    fast, plain = getattr(fastrnn, kind)(3, 4), getattr(nn, kind)(3, 4)
    plain.load_state_dict(fast.state_dict())
    x = randn(2, 3)
    for gone in ("bias_ih", "bias_hh"):
        before = fast(x)
        setattr(fast, gone, None)
        setattr(plain, gone, None)
        for got, expected, old in zip(flat(fast(x)), flat(plain(x)), flat(before), strict=True):
            torch.testing.assert_close(got, expected)
            assert not torch.equal(got, old)


def test_a_weight_on_another_device_raises():
    layer = fastrnn.GRU(3, 4)
    layer.weight_hh_l0 = nn.Parameter(randn(12, 4, device="meta"))
    with pytest.raises(
        RuntimeError, match=r"found input tensor at cpu and .* meta; weights\[1\] \(weight_hh_l0"
    ):
        layer(randn(5, 2, 3))


def test_a_cell_state_of_another_dtype_is_refused_where_torch_promotes():
    h = torch.zeros(2, 4)
    with pytest.raises(RuntimeError, match=r"got Double and Float; hx\[1\]: expected torch"):
        fastrnn.LSTMCell(3, 4)(randn(2, 3), (h, h.double()))
    assert nn.LSTMCell(3, 4)(randn(2, 3), (h, h.double()))[1].dtype is F64
    x, h = randn(5, 2, 3).double(), torch.zeros(1, 2, 4)
    with pytest.raises(RuntimeError, match=r"got Float and Double; hx\[1\]: expected torch"):
        fastrnn.LSTM(3, 4).double()(x, (h.double(), h))
    assert nn.LSTM(3, 4).double()(x, (h.double(), h))[1][1].dtype is F64


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_dtype_without_kernels_is_named(kind):
    layer = getattr(fastrnn, kind)(3, 4).to(torch.complex64)
    with pytest.raises(NotImplementedError, match=r"one of torch.float32, .* got torch.complex64"):
        layer(torch.ones(2, 3, dtype=torch.complex64))


CONSTRUCTORS = [
    {"input_size": 0},
    {"input_size": -1},
    {"input_size": 3.0},
    {"hidden_size": 0},
    {"hidden_size": -1},
    {"hidden_size": 4.0},
    {"num_layers": 0},
    {"num_layers": -1},
    {"num_layers": 1.5},
    {"dropout": 2},
    {"dropout": -0.1},
    {"dropout": True},
    {"dropout": "a"},
    {"bias": 1},
    {"batch_first": 1},
    {"proj_size": 4},
    {"proj_size": -1},
    {"nonlinearity": "sigmoid"},
    {"unknown": 1},
    {"dtype": torch.int64},
]


@pytest.mark.parametrize("options", CONSTRUCTORS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_constructor_arguments_raise_as_in_torch(kind, options):
    options = {"input_size": 3, "hidden_size": 4} | options

    def refusal(module):
        """None where it is accepted, as older versions of torch do some of them."""
        try:
            getattr(module, kind)(**options)
        except Exception as error:
            return type(error)

    assert refusal(fastrnn) is refusal(nn)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_dropout_that_is_no_probability_raises_as_in_torch_when_it_is_used(kind):
    fast, plain = Case(kind, num_layers=2).pair()
    fast.dropout = plain.dropout = 2
    x = randn(5, 2, 3)
    assert_as_in_torch(lambda: fast(x), lambda: plain(x), "dropout")
    fast.eval()(x)


def test_the_stateless_functions_check_what_a_constructor_would_have_checked():
    x, weights = randn(5, 2, 3), list(nn.LSTM(3, 4).parameters())
    with pytest.raises(RuntimeError, match=r"weights: expected .* got none"):
        functional.lstm(x)
    with pytest.raises(RuntimeError, match=r"weights: expected 4 .* got 3"):
        functional.lstm(x, None, weights[:3])
    with pytest.raises(RuntimeError, match=r"weights: expected 8 .* got 4"):
        functional.lstm(x, None, weights, num_layers=2)
    with pytest.raises(RuntimeError, match=r"weights: expected 2 .* got 4"):
        functional.lstm(x, None, weights, bias=False)
    with pytest.raises(RuntimeError, match=r"weights\[0\].*expected shape .* got \(16,\)"):
        functional.lstm(x, None, weights[2:])
    with pytest.raises(TypeError, match=r"weights\[0\].*expected a Tensor, got None"):
        functional.lstm(x, None, [None] * 4)
    with pytest.raises(ValueError, match="num_layers"):
        functional.lstm(x, None, weights, num_layers=0)
    with pytest.raises(ValueError, match="proj_size"):
        functional.lstm(x, None, weights, proj_size=4)
    with pytest.raises(ValueError, match="nonlinearity"):
        functional.rnn(x, None, weights, nonlinearity="sigmoid")
    with pytest.raises(RuntimeError, match="nonlinearity"):
        functional.rnn_cell(x[0], None, *weights, nonlinearity="sigmoid")


def test_a_failed_call_leaves_the_next_one_unharmed():
    layer, x = fastrnn.LSTM(3, 4), randn(5, 2, 3)
    expected = layer(x)[0]
    for arguments, _ in LAYER_CALLS.values():
        error_of(layer, *arguments("LSTM"))
    assert torch.equal(layer(x)[0], expected)
