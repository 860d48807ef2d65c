"""Models of Keras's on the engine: training, what is left to Keras, and the way in and out."""

from __future__ import annotations

import os
import re
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from cases import OLD_TORCH, assert_near

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

import fastrnn  # noqa: E402  (after the choice of Keras's backend)
from fastrnn._interop import keras_calls  # noqa: E402

# Of Keras's own reading of its variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T, B, I, H = 6, 4, 3, 5  # noqa: E741
L = keras.layers


@pytest.fixture(autouse=True)
def keras_as_it_was():
    yield
    fastrnn.keras.restore()


def is_on_the_engine(layer: Any, x: torch.Tensor, **call: Any) -> bool:
    with torch.profiler.profile() as profile:
        layer(x, **call)
    return any(event.key.startswith("fastrnn") for event in profile.key_averages())


def weights_after_training(model: Any, x: Any, y: Any, weights: list[Any]) -> list[Any]:
    model.set_weights(weights)
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, batch_size=B, epochs=2, verbose=0)
    model.train_on_batch(x[:B], y[:B])
    return [*model.get_weights(), model.predict(x, verbose=0)]


def assert_trained_the_same(model: Any, x: Any, y: Any) -> None:
    weights = model.get_weights()
    expected = weights_after_training(model, x, y, weights)
    with fastrnn.keras.accelerate(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        got = weights_after_training(model, x, y, weights)
    for one, other in zip(got, expected, strict=True):
        assert_near(one, other, 8 * H, 10 * T)


MODELS: dict[str, Any] = {
    "numbers": lambda: [L.Masking(), L.LSTM(H, return_sequences=True), L.GRU(H)],
    "dropout": lambda: [L.Masking(), L.Bidirectional(L.GRU(H, dropout=0.4)), L.Dropout(0.2)],
    "simple": lambda: [L.SimpleRNN(H, return_sequences=True), L.SimpleRNN(H, go_backwards=True)],
    "recurrent": lambda: [L.Masking(), L.LSTM(H, dropout=0.2, recurrent_dropout=0.3)],
    "before": lambda: [L.GRU(H, reset_after=False, kernel_constraint="max_norm", unroll=True)],
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_trained_as_without_it(name):
    model = keras.Sequential([keras.Input((T, I)), *MODELS[name](), L.Dense(1)])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2 * B, T, I)), rng.standard_normal((2 * B, 1))
    x[1, 2:4] = x[3, :2] = x[5, 4:] = 0
    assert_trained_the_same(model, x.astype("float32"), y.astype("float32"))


def test_a_model_of_padded_words_is_trained_as_without_it():
    words = [keras.Input((T,)), L.Embedding(9, I, mask_zero=True)]
    model = keras.Sequential([*words, L.Bidirectional(L.LSTM(H)), L.Dense(1)])
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 9, (2 * B, T)), rng.standard_normal((2 * B, 1)).astype("float32")
    x[1, 2:] = x[4, 5:] = 0
    assert_trained_the_same(model, x, y)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_states_go_on_from_batch_to_batch(kind):
    cudnn = {} if kind == "SimpleRNN" else {"use_cudnn": False}  # else Keras cannot train it
    layer = getattr(L, kind)(H, stateful=True, return_sequences=True, **cudnn)
    model = keras.Sequential([keras.Input(batch_shape=(B, T, I)), layer, L.Dense(1)])
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2 * B, T, size)).astype("float32") for size in (I, 1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    weights, found = model.get_weights(), []
    for ours in (False, True):
        if ours:
            fastrnn.keras.accelerate()
        model.set_weights(weights)
        layer.reset_state()
        model.fit(x, y, batch_size=B, verbose=0, shuffle=False)
        states = [state.value.clone() for state in layer.states]
        found.append([*states, *model.get_weights(), model.predict(x, batch_size=B, verbose=0)])
    for one, other in zip(*found, strict=True):
        assert_near(other, one, 8 * H, 4 * T)
    assert not torch.equal(states[0], torch.zeros_like(states[0]))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_mixed_precision(kind, policy):
    options = {"recurrent_initializer": "glorot_uniform", "dtype": policy}
    layer = getattr(L, kind)(H, return_sequences=True, **options)
    layer.build((B, T, I))
    x = torch.randn(B, T, I)
    found = []
    for ours in (False, True):
        if ours:
            fastrnn.keras.accelerate()
        y = layer(x)
        y.float().square().sum().backward()
        weights = [variable.value for variable in layer.trainable_weights]
        found.append([y.detach(), *(weight.grad.clone() for weight in weights)])
        for weight in weights:
            weight.grad = None
    for one, other in zip(*found, strict=True):
        assert one.dtype is other.dtype
        size = float(one.abs().max())
        eps = torch.finfo(layer(x).dtype).eps
        assert float((one - other).abs().max()) <= 8 * eps * max(1.0, size)


def test_integers_are_taken_as_keras_takes_them():
    layer = L.LSTM(H)
    x = np.arange(B * T * I).reshape(B, T, I) % 5
    expected = layer(x)
    with fastrnn.keras.accelerate():
        assert_near(layer(x), expected, I + H, T)


class Doubled(keras.layers.LSTM):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return 2 * super().call(sequences, initial_state, mask, training)


def test_a_derived_layer_runs_on_the_engine():
    layer, x = Doubled(H), torch.randn(B, T, I)
    expected = layer(x)
    assert not is_on_the_engine(layer, x)
    with fastrnn.keras.accelerate():
        assert is_on_the_engine(layer, x)
        assert_near(layer(x), expected, I + H, T)


class Halved(keras.layers.GRUCell):
    def call(self, inputs, states, training=False):
        h, new = super().call(inputs, states, training)
        return h / 2, new


def hooked() -> Any:
    layer = L.LSTM(H)
    layer.cell.register_forward_hook(lambda *_: None)
    return layer


class MaskedOtherwise(keras.layers.SimpleRNN):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        mask = torch.ones(B, T, 1, dtype=torch.bool)
        return super().call(sequences, initial_state, mask, training)


LEFT = {
    "its cell, a Halved, has a call of its own": lambda: L.RNN(Halved(H)),
    "ConvLSTMCell": lambda: L.ConvLSTM1D(2, 3),
    "a Halved, has a call": lambda: L.RNN([L.LSTMCell(2), Halved(H)]),
    "log_sigmoid": lambda: L.LSTM(H, activation="log_sigmoid"),
    "hooks": hooked,
    "activity_regularizer": lambda: L.RNN(L.LSTMCell(H, activity_regularizer="l2")),
    "mask is not one of shape": lambda: MaskedOtherwise(H),
    "use_cudnn=True": lambda: L.GRU(H, use_cudnn=True),
    "dropout: .* less than 1, got 1.0": lambda: L.SimpleRNN(H, dropout=1.0),
}


@pytest.mark.parametrize("reason", LEFT)
def test_what_it_cannot_serve_is_left_to_keras_and_said_once(reason):
    layer = LEFT[reason]()
    x = torch.randn(B, T, I, 2) if "Conv" in reason else torch.randn(B, T, I)
    expected = layer(x)
    fastrnn.keras.accelerate()
    said = f"leaves {type(layer).__name__} '{layer.name}' to Keras: .*{reason}"
    with pytest.warns(UserWarning, match=said):
        got = layer(x)
    assert torch.equal(got, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)


def test_a_call_without_steps_fails_as_without_it():
    layer = L.LSTM(H)
    layer.build((B, T, I))
    for _ in range(2):
        with pytest.raises((IndexError, ValueError, RuntimeError)) as error:
            layer(torch.randn(B, 0, I))
        fastrnn.keras.accelerate()
    assert "0 steps" not in str(error.value)


@pytest.mark.parametrize("shape", [(0, T, I), (B, T, 0)])
def test_a_batch_may_have_no_rows_or_no_features(shape):
    layer = L.GRU(H, return_sequences=True)
    layer.build(shape)
    x = torch.randn(shape)
    expected = layer(x)
    with fastrnn.keras.accelerate():
        assert_near(layer(x), expected, I + H, T)


def test_shapes_are_inferred_without_values(monkeypatch):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = L.LSTM(H, return_sequences=True)

        def call(self, x, mask=None):
            return self.layer(x, mask=x[..., 0] > 0)

    run, devices = keras_calls._run, set()

    def seen(cell, own, input, *rest):
        devices.add(input.device.type)
        return run(cell, own, input, *rest)

    monkeypatch.setattr(keras_calls, "_run", seen)
    with fastrnn.keras.accelerate():
        assert Model()(keras.Input((T, I))).shape == (None, T, H)
    assert devices == {"meta"}


@pytest.mark.filterwarnings("ignore")
def test_a_model_is_exported_to_onnx_as_without_it(tmp_path):
    pytest.importorskip("onnxscript")
    session = pytest.importorskip("onnxruntime").InferenceSession
    model = keras.Sequential([keras.Input((3, I)), L.LSTM(H)])
    x = np.random.default_rng(0).standard_normal((1, 3, I)).astype("float32")
    expected = model(x)
    with fastrnn.keras.accelerate():
        model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    ran = session(tmp_path / "model.onnx")
    [got] = ran.run(None, {ran.get_inputs()[0].name: x})
    assert_near(got, expected, I + H, T)


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 cannot compile Keras's own sets")
@pytest.mark.parametrize("masked", [False, True])
def test_a_compiler_sees_one_graph(masked):
    layer = L.LSTM(H, return_sequences=True, dropout=0.2, recurrent_dropout=0.0 if masked else 0.3)
    x = torch.randn(B, T, I)
    mask = (torch.arange(T) % 3 > 0).expand(B, T) if masked else None
    layer.build((B, T, I))
    torch.manual_seed(0)
    expected = layer(x, mask=mask, training=True)
    fastrnn.keras.accelerate()
    compiled = torch.compile(
        lambda x, mask: layer(x, mask=mask, training=True), backend="aot_eager", fullgraph=True
    )
    torch.manual_seed(0)
    assert_near(compiled(x, mask), expected, I + H, T)


def test_it_ends_with_the_context_that_began_it():
    layer, x = L.SimpleRNN(H), torch.randn(B, T, I)
    plain = keras.layers.LSTM.inner_loop
    with fastrnn.keras.accelerate():
        with fastrnn.keras.accelerate():
            assert is_on_the_engine(layer, x)
        assert is_on_the_engine(layer, x)
    assert not is_on_the_engine(layer, x)
    fastrnn.keras.accelerate()
    fastrnn.keras.accelerate()
    assert is_on_the_engine(layer, x)
    fastrnn.keras.restore()
    fastrnn.keras.restore()
    assert keras.layers.LSTM.inner_loop is plain


def test_it_ends_where_an_exception_leaves_the_context():
    plain = keras.layers.RNN.inner_loop
    with pytest.raises(KeyError), fastrnn.keras.accelerate():
        raise KeyError
    assert keras.layers.RNN.inner_loop is plain


def test_another_backend_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"torch backend, got 'jax'; set .*KERAS_BACKEND"):
        fastrnn.keras.accelerate()


def test_keras_2_is_refused(monkeypatch):
    package = ModuleType("keras")
    package.__version__ = "2.15.0"
    monkeypatch.setitem(sys.modules, "keras", package)
    with pytest.raises(ImportError, match=r"Keras 3 is not installed, but 2\.15"):
        fastrnn.keras.accelerate()


def test_the_example_trains_the_same_model_both_ways(capsys):
    from examples import keras_fit

    keras_fit.main(["--quick", "--cell", "GRU"])
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"keras_fit: speedup \d+\.\d", line)
