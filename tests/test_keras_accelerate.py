"""Keras's own layers on the engine: what they return, their gradients and states stay Keras's."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from cases import assert_near, seed

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

import fastrnn  # noqa: E402  (after the choice of Keras's backend)
from fastrnn._interop import keras_calls  # noqa: E402

# Of Keras's own reading of its variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T, B, I, H = 7, 4, 3, 5  # noqa: E741
L = keras.layers

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("LSTM", {"activation": "relu", "recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"unroll": True}),
    ("LSTM", {"implementation": 1}),
    ("LSTM", {"use_cudnn": False}),
    ("LSTM", {"dtype": "float64"}),
    ("LSTM", {"dropout": 0.5, "seed": 3}),
    ("LSTM", {"dropout": 0.5, "seed": 3, "implementation": 1, "use_cudnn": False}),
    ("LSTM", {"recurrent_dropout": 0.4, "seed": 3}),
    ("LSTM", {"recurrent_dropout": 0.4, "dropout": 0.2, "seed": 3, "activation": "elu"}),
    ("GRU", {}),
    ("GRU", {"use_bias": False}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"reset_after": False, "use_bias": False, "activation": L.ELU(alpha=0.5)}),
    ("GRU", {"unroll": True}),
    ("GRU", {"implementation": 1, "reset_after": False}),
    ("GRU", {"dtype": "float64", "reset_after": False}),
    ("GRU", {"dropout": 0.5, "seed": 3}),
    ("GRU", {"dropout": 0.5, "seed": 3, "implementation": 1, "use_cudnn": False}),
    ("GRU", {"recurrent_dropout": 0.4, "dropout": 0.2, "seed": 3}),
    ("GRU", {"recurrent_dropout": 0.4, "reset_after": False, "seed": 3, "dtype": "float64"}),
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "leaky_relu", "use_bias": False}),
    ("SimpleRNN", {"unroll": True, "dtype": "float64"}),
    ("SimpleRNN", {"dropout": 0.5, "seed": 3}),
    ("SimpleRNN", {"recurrent_dropout": 0.4, "seed": 3, "activation": "relu"}),
]
MASKS = {
    "none": None,
    "all": [[1] * T] * B,
    "right": [[1] * 7, [1] * 3 + [0] * 4, [1] * 1 + [0] * 6, [0] * 7],
    "left": [[1] * 7, [0] * 4 + [1] * 3, [0] * 6 + [1], [0] * 7],
    "gaps": [[0, 1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 1, 1], [0] * 7],
}


def built(layer: Any) -> Any:
    """With weights that are nowhere zero, biases included."""
    layer.build((B, T, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.standard_normal(w.shape) * 0.4 for w in layer.get_weights()])
    return layer


def mask_named(name: str) -> torch.Tensor | None:
    flags = MASKS[name]
    return None if flags is None else torch.tensor(flags, dtype=torch.bool)


def weights_of(layer: Any) -> list[Any]:
    return [variable.value for variable in layer.trainable_weights]


def seeds_of(layer: Any) -> list[Any]:
    return [v for v in layer.non_trainable_variables if "seed" in v.name]


def results(layer: Any, x: torch.Tensor, **call: Any) -> list[torch.Tensor]:
    """What a call returns, and the gradients of the input, the given states and the weights."""
    seed(0)  # what Keras draws from where a layer has no seed
    inputs = [x, *call.get("initial_state", ())]
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    if "initial_state" in call:
        call = call | {"initial_state": leaves[1:]}
    given = keras.tree.flatten(layer(leaves[0], **call))
    weights = weights_of(layer)
    loss = sum((one * torch.linspace(0.5, 2, one.numel()).view_as(one)).sum() for one in given)
    grads = torch.autograd.grad(loss, [*leaves, *weights], allow_unused=True)
    return [one.detach().clone() for one in given] + [
        torch.zeros_like(of) if grad is None else grad
        for grad, of in zip(grads, [*leaves, *weights], strict=True)
    ]


def assert_the_same(layer: Any, x: torch.Tensor, **call: Any) -> None:
    """With and without the engine, from equal seeds, which are left equal."""
    seeds = seeds_of(layer)
    before = [variable.value.clone() for variable in seeds]
    expected = results(layer, x, **call)
    after = [variable.value.clone() for variable in seeds]
    for variable, value in zip(seeds, before, strict=True):
        variable.assign(value)
    with fastrnn.keras.accelerate(), warnings.catch_warnings():
        warnings.simplefilter("error")
        got = results(layer, x, **call)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype is other.dtype
        if one.dtype is torch.float64:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        else:
            assert_near(one, other, I + H, T)
    for variable, value in zip(seeds, after, strict=True):
        assert torch.equal(variable.value, value)


@pytest.fixture(autouse=True)
def engine_calls(monkeypatch):
    """How often the engine was asked, and Keras as it was when the test is over."""
    calls = []
    run = keras_calls._run

    def counted(cell, own, *rest):
        calls.append(own)
        return run(cell, own, *rest)

    monkeypatch.setattr(keras_calls, "_run", counted)
    yield calls
    fastrnn.keras.restore()


@pytest.fixture
def exact_products(monkeypatch):
    """Keras's torch backend rounds products of float64 to float32; here it does not."""
    matmul = keras.src.backend.torch.numpy.matmul

    def exact(a, b):
        a, b = map(keras.ops.convert_to_tensor, (a, b))
        return a @ b if a.dtype is b.dtype is torch.float64 else matmul(a, b)

    monkeypatch.setattr(keras.src.backend.torch.numpy, "matmul", exact)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_a_layer_computes_as_without_it(
    engine_calls, exact_products, kind, options, backwards, mask
):
    if backwards and mask != "none":
        options = options | {"unroll": False}  # with which Keras itself fails there
    dtype = options.get("dtype", "float32")
    for whole in (False, True):
        layer = getattr(L, kind)(H, return_state=True, go_backwards=backwards, **options)
        built(layer).return_sequences = whole
        x = torch.randn(B, T, I, dtype=getattr(torch, dtype))
        assert_the_same(layer, x, mask=mask_named(mask), training=True)
    assert len(engine_calls) == 2


def test_what_fails_in_keras_for_a_fault_of_its_own_works(engine_calls):
    layer = built(L.GRU(H, go_backwards=True, unroll=True))
    x, mask = torch.randn(B, T, I), mask_named("gaps")
    with pytest.raises(AttributeError):
        layer(x, mask=mask)
    with fastrnn.keras.accelerate():
        got = layer(x, mask=mask)
    layer.unroll = False
    assert_near(got, layer(x, mask=mask), I + H, T)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("mask", ["right", "left", "gaps"])
def test_outputs_of_masked_steps_are_zero_where_that_is_asked_for(mask, whole, backwards):
    layer = built(L.RNN(L.GRUCell(H), go_backwards=backwards, zero_output_for_mask=True))
    layer.return_sequences = whole
    assert_the_same(layer, torch.randn(B, T, I), mask=mask_named(mask))


@pytest.mark.parametrize("mask", ["none", "gaps"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_layer_begins_with_the_states_that_it_is_given(kind, mask):
    layer = built(getattr(L, kind)(H, return_sequences=True, return_state=True))
    states = [torch.randn(B, H) for _ in range(1 + (kind == "LSTM"))]
    assert_the_same(layer, torch.randn(B, T, I), mask=mask_named(mask), initial_state=states)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("mask", ["none", "gaps"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_both_directions(engine_calls, kind, mask, whole, merge_mode):
    inner = getattr(L, kind)(H, return_sequences=whole, dropout=0.3)
    layer = built(L.Bidirectional(inner, merge_mode=merge_mode))
    assert_the_same(layer, torch.randn(B, T, I), mask=mask_named(mask), training=True)
    assert [call.variant is not None for call in engine_calls] == [False, True]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask", ["none", "gaps"])
def test_stacked_cells(engine_calls, mask, backwards):
    cells = [L.LSTMCell(H), L.GRUCell(4, dropout=0.5), L.SimpleRNNCell(2, recurrent_dropout=0.3)]
    layer = L.RNN(cells, return_sequences=True, return_state=True, go_backwards=backwards)
    nested = built(layer)(torch.randn(B, T, I))[1:]
    assert [len(one) for one in nested] == [2, 1, 1]
    assert_the_same(layer, torch.randn(B, T, I), mask=mask_named(mask), training=True)
    assert len(engine_calls) == 3


@pytest.mark.parametrize(("inner", "outer"), [("float64", "float64"), ("float32", "float64")])
@pytest.mark.parametrize("number", [1, 2])
def test_masks_may_have_another_dtype_than_the_cells(engine_calls, inner, outer, number):
    # Keras draws them like what the layer passes on to its cells, and rounds that to float32.
    options = {"dropout": 0.3, "recurrent_dropout": 0.3, "dtype": inner, "seed": 3}
    x = torch.randn(B, T, I, dtype=getattr(torch, outer))
    found = []
    for ours in (False, True):
        if ours:
            fastrnn.keras.accelerate()
        cells = [L.GRUCell(H, **options) for _ in range(number)]
        layer = built(L.RNN(cells if number > 1 else cells[0], return_state=True, dtype=outer))
        found.append(results(layer, x, training=True))
    for expected, got in zip(*found, strict=True):
        assert got.dtype is expected.dtype
        assert_near(got.float(), expected.float(), I + H, T)
    assert len(engine_calls) == number
