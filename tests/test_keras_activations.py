"""Activations, dtypes and versions of Keras: what is not Keras 3's plain default."""

from __future__ import annotations

import os
import sys
from functools import partial
from types import ModuleType, SimpleNamespace
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


def built(layer: Any) -> Any:
    layer.build((None, None, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.standard_normal(w.shape) * 0.6 for w in layer.get_weights()])
    return layer


def outputs(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(keras.ops.convert_to_numpy(layer(x.numpy()))))


A, L = keras.activations, keras.layers
OBJECTS = [
    (L.LeakyReLU(negative_slope=0.15), "leaky_relu(0.15)"),
    (L.LeakyReLU(), "leaky_relu(0.3)"),
    (L.ELU(alpha=0.5), "elu(0.5)"),
    (L.ReLU(), "relu"),
    (L.ReLU(negative_slope=0.25), "leaky_relu(0.25)"),
    (L.ReLU(threshold=0.5), "thresholded_relu(0.5)"),
    (L.Activation("softsign"), "softsign"),
    (L.Activation(L.ELU(alpha=2.0)), "elu(2.0)"),
    (partial(A.leaky_relu, negative_slope=0.1), "leaky_relu(0.1)"),
    (partial(A.elu, alpha=0.5), "elu(0.5)"),
    (partial(A.relu, threshold=0.25), "thresholded_relu(0.25)"),
    (partial(partial(A.relu, negative_slope=0.1), negative_slope=0.2), "leaky_relu(0.2)"),
    (partial(A.relu), "relu"),
    (A.leaky_relu, "leaky_relu(0.2)"),
    (A.elu, "elu"),
    *((getattr(A, name), name) for name in ("silu", "gelu", "selu", "mish", "relu6")),
    *((getattr(A, name), name) for name in ("hard_tanh", "hard_silu")),
    (partial(A.gelu, approximate=True), "gelu_tanh"),
    (L.ReLU(max_value=6.0), "relu6"),
]


@pytest.mark.parametrize(("activation", "own"), OBJECTS, ids=[own for _, own in OBJECTS])
def test_the_parameters_of_an_activation_are_taken_over(activation, own):
    theirs = built(L.GRU(H, return_sequences=True, activation=activation))
    layer = fastrnn.from_keras(theirs)
    assert layer.variant.activation == own
    x = torch.randn(B, T, I)
    assert_near(layer(x)[0], outputs(theirs, x), I + H, T)


def tanh(x):
    return x


@pytest.mark.parametrize(
    ("activation", "named"),
    [
        (lambda x: x, "<lambda>"),
        (tanh, "tanh"),
        (A.log_sigmoid, "log_sigmoid"),
        (L.Softmax(), "Softmax"),
        (L.PReLU(), "PReLU"),
        (L.ReLU(max_value=1.0), "ReLU"),
        (L.ReLU(negative_slope=0.1, threshold=0.5), "ReLU"),
        (partial(A.relu, max_value=5.0), "max_value=5.0"),
        (partial(A.relu, max_value=6.0, threshold=1.0), "threshold=1.0"),
        (partial(A.gelu, exact=True), "exact=True"),
        (partial(A.elu, beta=1.0), "beta=1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_activation_that_is_not_here_is_refused_by_name(activation, named):
    theirs = L.LSTM(H, recurrent_activation=activation)
    theirs.build((None, None, I))
    with pytest.raises(ValueError, match=rf"layer\.recurrent_activation: .* got .*{named}"):
        fastrnn.from_keras(theirs)


@pytest.mark.parametrize("own", ["gelu", "gelu_tanh", "silu", "selu", "mish", "relu6", "hard_silu"])
def test_an_activation_goes_to_keras_and_comes_back(own):
    layer = fastrnn.GRU(I, H, batch_first=True, activation=own)
    theirs = fastrnn.to_keras(layer)
    assert fastrnn.from_keras(theirs).variant.activation == own
    x = torch.randn(B, T, I)
    assert_near(layer(x)[0], outputs(theirs, x), I + H, T)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("own", ["gelu_tanh", "elu(0.5)", "leaky_relu(0.3)"])
def test_a_layer_that_came_to_keras_can_be_saved_there(own, bidirectional, tmp_path):
    layer = fastrnn.GRU(I, H, batch_first=True, activation=own, bidirectional=bidirectional)
    model = keras.Sequential([keras.Input((T, I)), fastrnn.to_keras(layer)])
    model.save(tmp_path / "model.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "model.keras").layers
    assert fastrnn.from_keras(loaded).variant.activation == own
    x = torch.randn(B, T, I)
    assert_near(layer(x)[0], outputs(loaded, x), I + H, T)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("own", ["elu(0.7)", "leaky_relu(0.2)", "thresholded_relu(0.1)"])
def test_an_activation_that_is_a_layer_has_the_layers_dtype(own, policy):
    keras.config.set_dtype_policy(policy)
    try:
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.bfloat16, 0.02)):
            layer = fastrnn.LSTM(I, H, batch_first=True, activation=own, dtype=dtype)
            theirs, x = fastrnn.to_keras(layer), torch.randn(B, T, I, dtype=dtype)
            got = keras.ops.cast(theirs(x.double().numpy()), "float64")
            found, expected = torch.from_numpy(keras.ops.convert_to_numpy(got)), layer(x)[0]
            torch.testing.assert_close(found, expected.double(), rtol=tolerance, atol=tolerance)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_dtype_stays_in_both_directions(dtype, bidirectional):
    own = fastrnn.LSTM(
        I, H, 2, batch_first=True, dropout=0.5, bidirectional=bidirectional, dtype=torch.float64
    ).to(getattr(torch, dtype))
    theirs = fastrnn.to_keras(own)
    assert theirs.input_dtype == dtype
    assert [layer.compute_dtype for layer in theirs.layers] == [dtype] * 3
    for k, layer in enumerate(theirs.layers[::2]):
        back = fastrnn.from_keras(layer)
        for name, parameter in back.named_parameters():
            expected = getattr(own, name.replace("l0", f"l{k}"))
            assert parameter.dtype is expected.dtype
            if name.startswith("weight"):
                assert torch.equal(parameter, expected)


@pytest.mark.parametrize(
    ("forward", "backward", "part"),
    [
        (L.LSTM(6), L.LSTM(3, go_backwards=True), "'units': 6.*'units': 3"),
        (L.SimpleRNN(6), L.SimpleRNN(1, go_backwards=True), "'units': 6.*'units': 1"),
        (L.LSTM(6), L.GRU(6, go_backwards=True), "'LSTM'.*'GRU'"),
        (L.GRU(6), L.GRU(6, go_backwards=True, use_bias=False), "True.*False"),
    ],
    ids=["LSTM", "RNN", "kinds", "bias"],
)
def test_directions_that_differ_are_refused(forward, backward, part):
    theirs = L.Bidirectional(forward, backward_layer=backward)
    theirs.build((None, None, I))
    with pytest.raises(ValueError, match=f"expected directions of equal options, got .*{part}"):
        fastrnn.from_keras(theirs)


# ---- Keras 2, which needs TensorFlow: stand-ins with its names, attributes and equations ----


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    """As Keras 2 documents it."""
    return np.clip(0.2 * x + 0.5, 0, 1)


class LeakyReLU:
    """Stands in for Keras 2's layer of this name, whose slope is called alpha."""

    def __init__(self, alpha: float = 0.3) -> None:
        self.alpha = np.asarray(alpha, np.float32)

    def __call__(self, x):
        return np.where(x < 0, self.alpha * x, x)


class ThresholdedReLU:
    """Stands in for Keras 2's layer of this name, which Keras 3 has as a parameter of ReLU."""

    def __init__(self, theta: float = 1.0) -> None:
        self.theta = np.asarray(theta, np.float32)

    def __call__(self, x):
        return np.where(x > self.theta, x, 0)


class LSTM:
    """Stands in for Keras 2's layer of this name: what `fastrnn.from_keras` reads, in NumPy."""

    built, name, use_bias, go_backwards, dropout, recurrent_dropout = (
        True,
        "lstm",
        True,
        False,
        0,
        0,
    )

    def __init__(self, activation: Any, recurrent_activation: Any) -> None:
        self.units = H
        self.activation, self.recurrent_activation = activation, recurrent_activation
        rng = np.random.default_rng(0)
        self.weights = [rng.standard_normal(s) for s in ((I, 4 * H), (H, 4 * H), (4 * H,))]

    def get_weights(self):
        return self.weights

    def __call__(self, x):
        kernel, recurrent, bias = self.weights
        h = c = np.zeros((len(x), H))
        steps = []
        for t in range(x.shape[1]):
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            inner = self.recurrent_activation
            c = inner(f) * c + inner(i) * self.activation(g)
            h = inner(o) * self.activation(c)
            steps.append(h)
        return np.stack(steps, axis=1)


@pytest.fixture(params=[("tf_keras", "2.16.0"), ("keras", "2.15.0")], ids=str)
def keras_2(request, monkeypatch):
    """Stands in for the module of a Keras 2 under either of its names."""
    name, version = request.param
    package = ModuleType(name)
    package.__version__ = version
    package.activations = SimpleNamespace(tanh=tanh, sigmoid=sigmoid, hard_sigmoid=hard_sigmoid)
    for own, where in (
        (LSTM, "rnn.lstm"),
        (LeakyReLU, "activation.leaky_relu"),
        (ThresholdedReLU, "activation.thresholded_relu"),
    ):
        monkeypatch.setattr(own, "__module__", f"{name}.src.layers.{where}")
    monkeypatch.setitem(sys.modules, name, package)
    return package


@pytest.mark.parametrize(
    ("activation", "recurrent_activation"),
    [
        (LeakyReLU(), sigmoid),
        (LeakyReLU(0.1), hard_sigmoid),
        (tanh, hard_sigmoid),
        (ThresholdedReLU(0.25), sigmoid),
    ],
    ids=["LeakyReLU", "LeakyReLU, hard_sigmoid", "hard_sigmoid", "ThresholdedReLU"],
)
def test_a_layer_of_keras_2_keeps_the_values_of_its_version(
    keras_2, monkeypatch, activation, recurrent_activation
):
    if activation is tanh:
        activation = keras_2.activations.tanh = np.tanh
    theirs = LSTM(activation, recurrent_activation)
    x = np.random.default_rng(1).standard_normal((B, T, I))
    own = fastrnn.from_keras(theirs)
    assert own.weight_ih_l0.dtype is torch.float64
    y = own(torch.from_numpy(x))[0].detach().numpy()
    assert_near(y, theirs(x), I + H, T)


def test_what_a_keras_2_does_not_have_is_refused(keras_2):
    keras_2.activations.tanh = np.tanh
    with pytest.raises(ValueError, match=rf"of {keras_2.__name__}.activations, .*got tanh"):
        fastrnn.from_keras(LSTM(tanh, sigmoid))


def test_to_keras_says_that_keras_3_is_not_installed(monkeypatch):
    package = ModuleType("keras")
    package.__version__ = "2.15.0"
    monkeypatch.setitem(sys.modules, "keras", package)
    with pytest.raises(ImportError, match=r"Keras 3 is not installed, but 2\.15"):
        fastrnn.to_keras(fastrnn.LSTM(I, H))
