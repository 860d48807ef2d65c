"""Layers out of Keras's and back: equal outputs, states and gradients, on Keras's torch backend."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from cases import assert_near

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

import fastrnn  # noqa: E402  (after the choice of Keras's backend)

# Of Keras's own reading of its variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T, B, I, H = 6, 3, 4, 5  # noqa: E741
OF_KERAS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("LSTM", {"activation": "relu", "recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"go_backwards": True, "unit_forget_bias": False}),
    ("GRU", {}),
    ("GRU", {"use_bias": False}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"reset_after": False, "activation": "softsign", "go_backwards": True}),
    ("GRU", {"recurrent_activation": "softplus", "activation": "elu"}),
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "leaky_relu", "use_bias": False}),
    ("SimpleRNN", {"activation": "linear", "go_backwards": True}),
]


def built(layer: Any) -> Any:
    """With weights that are nowhere zero, biases included."""
    layer.build((None, None, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.standard_normal(w.shape) * 0.4 for w in layer.get_weights()])
    return layer


def layer_of(kind: str, **options: Any) -> Any:
    return getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options)


def as_tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(keras.ops.convert_to_numpy(value))


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert_near(got, expected, I + H, T)


@pytest.mark.parametrize(("kind", "options"), OF_KERAS, ids=str)
def test_a_layer_from_keras_computes_the_same(kind, options):
    theirs = built(layer_of(kind, **options))
    own = fastrnn.from_keras(theirs)
    x = torch.randn(B, T, I)
    y, *states = (as_tensor(value) for value in theirs(x.numpy()))
    got, final = own(x)
    close(got, y.flip(1) if theirs.go_backwards else y)
    for g, e in zip(final if kind == "LSTM" else [final], states, strict=True):
        close(g[0], e)
    assert own.bias == theirs.use_bias


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_bidirectional_layer_from_keras_computes_the_same(kind):
    theirs = keras.layers.Bidirectional(layer_of(kind))
    theirs.build((None, None, I))
    built(theirs.forward_layer)
    built(theirs.backward_layer)
    theirs.backward_layer.set_weights([2 * w for w in theirs.backward_layer.get_weights()])
    x = torch.randn(B, T, I)
    close(fastrnn.from_keras(theirs)(x)[0], as_tensor(theirs(x.numpy())[0]))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_layer_with_keras_defaults_is_one_of_torchs(kind):
    own = fastrnn.from_keras(built(layer_of(kind)))
    plain = getattr(torch.nn, type(own).__name__)
    assert own.variant is None
    assert type(fastrnn.revert(own)) is plain


def test_gradients_reach_the_same_weights():
    theirs = built(layer_of("GRU"))
    own = fastrnn.from_keras(theirs)
    x = torch.randn(B, T, I)
    theirs(x)[0].sum().backward()
    own(x)[0].sum().backward()
    kernel = theirs.trainable_weights[0].value.grad  # gates z r h
    blocks = own.weight_ih_l0.grad.t().chunk(3, dim=1)  # gates r z n
    close(torch.cat([blocks[1], blocks[0], blocks[2]], dim=1), kernel)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
        ("LSTM", {"bias": False}),
        ("LSTM", {"activation": "elu(0.5)", "recurrent_activation": "hard_sigmoid"}),
        ("GRU", {"num_layers": 2}),
        ("GRU", {"reset_after": False, "bidirectional": True}),
        ("RNN", {"nonlinearity": "relu"}),
        ("RNN", {"activation": "leaky_relu(0.3)"}),
    ],
    ids=str,
)
def test_a_layer_goes_to_keras_and_comes_back(kind, options):
    own = getattr(fastrnn, kind)(I, H, batch_first=True, **options).eval()
    theirs = fastrnn.to_keras(own)
    x = torch.randn(B, T, I)
    close(as_tensor(theirs(x.numpy())), own(x)[0])
    stack = theirs.layers if isinstance(theirs, keras.Sequential) else [theirs]
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in stack) == bool(own.dropout)
    back = x
    for layer in stack:
        if not isinstance(layer, keras.layers.Dropout):
            back = fastrnn.from_keras(layer)(back)[0]
    close(back, own(x)[0])


def test_a_reversed_layer_goes_backwards_in_keras():
    own = fastrnn.GRU(I, H, batch_first=True, reverse=True)
    theirs = fastrnn.to_keras(own)
    x = torch.randn(B, T, I)
    close(as_tensor(theirs(x.numpy())).flip(1), own(x)[0])


@pytest.mark.parametrize("num_layers", [2, 3])
def test_a_reversed_stack_goes_backwards_as_a_whole(num_layers):
    own = fastrnn.LSTM(I, H, num_layers, batch_first=True, reverse=True)
    theirs = fastrnn.to_keras(own)
    x = torch.randn(B, T, I)
    close(as_tensor(theirs(x.numpy())).flip(1), own(x)[0])


def test_torchs_own_layers_go_to_keras_too():
    plain = torch.nn.LSTM(I, H, batch_first=True)
    x = torch.randn(B, T, I)
    close(as_tensor(fastrnn.to_keras(plain)(x.numpy())), plain(x)[0])


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: keras.layers.LSTM(H), "expected a built layer.*layer.build"),
        (lambda: keras.layers.Dense(H), "expected an LSTM, a GRU, a SimpleRNN"),
        (
            lambda: built(layer_of("LSTM", activation="log_sigmoid")),
            r"layer.activation: expected one of",
        ),
        (
            lambda: keras.layers.Bidirectional(layer_of("LSTM"), merge_mode="sum"),
            "merge_mode='concat', got 'sum'; convert layer.forward_layer",
        ),
        (
            lambda: keras.layers.Bidirectional(
                layer_of("LSTM"),
                backward_layer=layer_of("LSTM", go_backwards=True, activation="relu"),
            ),
            "expected directions of equal options",
        ),
    ],
)
def test_what_cannot_be_taken_from_keras_is_refused(make, part):
    layer = make()
    if isinstance(layer, keras.layers.Bidirectional):
        layer.build((None, None, I))
    with pytest.raises(ValueError, match=part):
        fastrnn.from_keras(layer)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"proj_size": 2}, "nothing like proj_size=2"),
        ({"initial_state": True}, "nothing like initial_state=True"),
        ({"peephole": "i"}, "nothing like peephole='i'"),
        ({"cell_clip": 1.0}, "nothing like cell_clip=1.0"),
        ({"input_forget": True}, "nothing like input_forget=True"),
        ({"output_activation": "relu"}, "nothing like output_activation='relu' beside 'tanh'"),
        ({"recurrent_activation": "hard_sigmoid_onnx"}, "nothing like recurrent_activation="),
    ],
)
def test_what_keras_lacks_is_refused(options, part):
    with pytest.raises(ValueError, match=part):
        fastrnn.to_keras(fastrnn.LSTM(I, H, **options))


@pytest.mark.parametrize("other", [torch.nn.Linear(I, H), torch.nn.LSTMCell(I, H), None])
def test_what_is_no_layer_is_refused(other):
    with pytest.raises(ValueError, match=r"layer: expected an LSTM, a GRU or an RNN, got"):
        fastrnn.to_keras(other)


@pytest.mark.parametrize("number_format", ["float32", "bfloat16", "int8"])
def test_a_frozen_layer_goes_to_keras_with_its_rounded_weights(number_format):
    frozen = fastrnn.freeze(fastrnn.LSTM(I, H, batch_first=True), weights=number_format)
    theirs, x = fastrnn.to_keras(frozen), torch.randn(B, T, I)
    assert theirs.compute_dtype == "float32"
    close(as_tensor(theirs(x.numpy())), fastrnn.thaw(frozen)(x)[0])


DROPOUT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("LSTM", {"dropout": 0.2}, {"input_dropout": 0.2}),
    (
        "LSTM",
        {"dropout": 0.2, "recurrent_dropout": 0.3},
        {"input_dropout_gates": "separate", "recurrent_dropout_gates": "separate"},
    ),
    ("GRU", {"recurrent_dropout": 0.3, "reset_after": False}, {"recurrent_dropout": 0.3}),
    ("SimpleRNN", {"dropout": 0.2, "recurrent_dropout": 0.3}, {"recurrent_dropout_gates": "tied"}),
]


@pytest.mark.parametrize(("kind", "options", "part"), DROPOUT, ids=str)
@pytest.mark.parametrize("both", [False, True])
def test_dropout_comes_from_keras(kind, options, part, both):
    layer = layer_of(kind, **options)
    theirs = keras.layers.Bidirectional(layer) if both else layer
    theirs.build((None, None, I))
    own = fastrnn.from_keras(theirs)
    made = own.regularised
    assert {name: getattr(made, name) for name in part} == part
    rates = made.input_dropout, made.recurrent_dropout
    assert rates == (options.get("dropout", 0), options.get("recurrent_dropout", 0))
    x = torch.randn(B, T, I)
    assert not torch.equal(own(x)[0], own(x)[0])
    close(own.eval()(x)[0], as_tensor(theirs(x.numpy())[0]))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"input_dropout": 0.2, "num_layers": 2, "bidirectional": True}),
        ("GRU", {"recurrent_dropout": 0.3, "recurrent_dropout_gates": "separate"}),
        ("RNN", {"input_dropout": 0.2, "recurrent_dropout": 0.3}),
    ],
    ids=str,
)
def test_dropout_goes_to_keras_and_comes_back(kind, options):
    own = getattr(fastrnn, kind)(I, H, batch_first=True, **options).eval()
    theirs = fastrnn.to_keras(own)
    x = torch.randn(B, T, I)
    close(as_tensor(theirs(x.numpy())), own(x)[0])
    for layer in theirs.layers if isinstance(theirs, keras.Sequential) else [theirs]:
        assert fastrnn.from_keras(layer).regularised == own.regularised


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"zoneout": 0.1}, r"zoneout=\(0.1, 0.0\)"),
        ({"layer_norm": "both"}, "layer_norm='both'"),
        ({"recurrent_dropout": 0.1}, "recurrent_dropout_gates='tied'"),
        ({"input_dropout": 0.1, "input_dropout_per": "step"}, "input_dropout_per='step'"),
    ],
)
def test_regularisation_that_keras_lacks_is_refused(options, part):
    with pytest.raises(ValueError, match=f"Keras's has nothing like {part}"):
        fastrnn.to_keras(fastrnn.LSTM(I, H, **options))


def test_the_first_implementation_has_masks_for_each_gate():
    own = fastrnn.from_keras(built(layer_of("GRU", dropout=0.2, implementation=1)))
    assert own.regularised.input_dropout_gates == "separate"


def test_a_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match="input_dropout: expected a rate of at least 0 and less"):
        fastrnn.from_keras(built(layer_of("LSTM", dropout=1.0)))


def test_a_gru_of_an_early_keras_3_is_refused_with_recurrent_dropout():
    layer = built(layer_of("GRU", recurrent_dropout=0.2))
    del layer.cell.dropout_mask_count  # which it did not have, and masked z * h
    with pytest.raises(ValueError, match=r"recurrent_dropout: expected 0 .* z \* h, too, got 0.2"):
        fastrnn.from_keras(layer)
