"""Layers with initial states of their own: those of torch's layer that is given them as ``hx``."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import LAYERS, Case, assert_near, assert_same, cases, flat, like, run
from finite_differences import assert_gradients
from hypothesis import given, settings
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastrnn

T, B = 5, 3


class Given(torch.nn.Module):
    """torch's layer, called with the initial states of a layer of fastrnn's."""

    def __init__(self, plain: Any, own: Any) -> None:
        super().__init__()
        self.plain = plain
        for name in ("h_0", "c_0"):
            if hasattr(own, name):
                setattr(self, name, copy.deepcopy(getattr(own, name)))

    def forward(self, x: Any, _: Any = None) -> Any:
        states = [state.to(flat(x)[0].dtype) for state in (self.h_0, *self._c_0())]
        if isinstance(x, PackedSequence):
            batch = int(x.batch_sizes[0])
        else:
            batch = 1 if x.dim() == 2 else x.shape[0 if self.plain.batch_first else 1]
        states = [state.repeat(1, batch, 1) for state in states]
        if isinstance(x, Tensor) and x.dim() == 2:
            states = [state[:, 0] for state in states]
        return self.plain(x, tuple(states) if self._c_0() else states[0])

    def _c_0(self) -> tuple[Tensor, ...]:
        return (self.c_0,) if hasattr(self, "c_0") else ()

    def parameters(self, recurse: bool = True) -> Any:
        return [*self.plain.parameters(), self.h_0, *self._c_0()]


def drawn(layer: Any) -> Any:
    """The layer with initial states that are not zeros."""
    with torch.no_grad():
        for name in ("h_0", "c_0"):
            if hasattr(layer, name):
                getattr(layer, name).normal_()
    return layer


def layer_of(kind: str, **options: Any) -> Any:
    return drawn(getattr(fastrnn, kind)(3, 4, initial_state=True, **options))


def as_hx(layer: Any, batch: int = B) -> Any:
    states = [getattr(layer, name).expand(-1, batch, -1) for name in ("h_0", "c_0")[: _of(layer)]]
    return tuple(states) if len(states) == 2 else states[0]


def _of(layer: Any) -> int:
    return 2 if layer.mode == "LSTM" else 1


@settings(max_examples=60)
@given(case=cases(with_state=False))
def test_outputs_and_gradients_are_those_of_torchs_layer_given_the_states(case: Case) -> None:
    fast = drawn(case.build(initial_state=True))
    plain = case.build(torch.nn)
    plain.load_state_dict({name: fast.state_dict()[name] for name in plain.state_dict()})
    x = like(case.input(), case.dtype)
    got, d_got = run(fast, x, None)
    judge = Given(plain, fast).double()
    if case.dropout and case.num_layers > 1:
        judge = judge.to(case.dtype)  # masks of torch's are drawn in the dtype of what they mask
    expected, d_expected = run(judge, like(x, next(iter(judge.parameters())).dtype), None)
    assert_same([*got, *d_got], [*expected, *d_expected], case.dtype)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "keywords",
    [
        {"lengths": [5, 0, 2]},
        {"resets": torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.3},
        {"return_states": True},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_they_are_the_hx_of_every_call_that_gives_none(kind: str, keywords: Any) -> None:
    layer, x = layer_of(kind, num_layers=2, bidirectional=True), torch.randn(T, B, 3)
    for got, want in zip(
        flat(layer(x, **keywords)), flat(layer(x, as_hx(layer), **keywords)), strict=True
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_state_that_is_given_is_the_one_that_counts(kind: str) -> None:
    layer, x = layer_of(kind), torch.randn(T, B, 3)
    zeros = torch.zeros(1, B, 4)
    plain = getattr(torch.nn, kind)(3, 4)
    plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
    got = layer(x, (zeros, zeros) if kind == "LSTM" else zeros)[0]
    assert_near(got, plain(x)[0], 3 + 4, T)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_keep_the_dtypes_of_a_call_without_states(
    kind: str, dtype: torch.dtype
) -> None:
    x = torch.randn(T, B, 3)
    half, without = layer_of(kind).to(dtype), getattr(fastrnn, kind)(3, 4).to(dtype)
    assert [t.dtype for t in flat(half(x.to(dtype)))] == [
        t.dtype for t in flat(without(x.to(dtype)))
    ]
    layer, without = layer_of(kind), getattr(fastrnn, kind)(3, 4)
    with torch.autocast("cpu", dtype):
        for one in (x, x.to(dtype)):
            got = flat(layer(one))
            assert [t.dtype for t in got] == [t.dtype for t in flat(without(one))]
            expected = flat(layer(one, like(as_hx(layer), one.dtype)))
            assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_they_are_trained(kind: str) -> None:
    layer = layer_of(kind, num_layers=2, dtype=torch.float64)
    x = torch.randn(T, B, 3, dtype=torch.float64)
    names = ("h_0", "c_0")[: _of(layer)]

    def call(*states: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, states, strict=True))
        return tuple(flat(torch.func.functional_call(layer, parameters, (x,))))

    assert_gradients(call, *(getattr(layer, name) for name in names))


@pytest.mark.parametrize("kind", LAYERS)
def test_compiled_as_one_graph(kind: str) -> None:
    layer = layer_of(kind, bidirectional=True)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
        for batch in (B, 7):
            x = torch.randn(T, batch, 3)
            outputs, d_outputs = run(compiled, x, None)
            expected, d_expected = run(layer, x, None)
            assert_same([*outputs, *d_outputs], [*expected, *d_expected], torch.float32)


@pytest.mark.parametrize("kind", LAYERS)
def test_vmap_over_samples_and_over_models(kind: str) -> None:
    layer, x = layer_of(kind), torch.randn(2, T, B, 3)
    together = torch.vmap(lambda one: layer(one)[0])(x)
    models = [layer, layer_of(kind)]
    parameters, _ = torch.func.stack_module_state(models)
    each = torch.vmap(lambda p, one: torch.func.functional_call(layer, p, (one,))[0])(parameters, x)
    for sample, (model, one) in enumerate(zip(models, x, strict=True)):
        torch.testing.assert_close(together[sample], layer(one)[0])
        torch.testing.assert_close(each[sample], model(one)[0])


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
def test_one_trace_serves_every_batch(kind: str) -> None:
    layer = layer_of(kind)
    with torch.no_grad():
        traced = torch.jit.trace(layer, (torch.randn(T, B, 3),))
        x = torch.randn(T, 7, 3)
        assert torch.equal(traced(x)[0], layer(x)[0])


@pytest.mark.parametrize("kind", LAYERS)
def test_kept_by_state_dict_pickle_copy_and_repr(kind: str) -> None:
    layer, x = layer_of(kind, num_layers=2), torch.randn(T, B, 3)
    assert repr(layer).endswith("num_layers=2, initial_state=True)")
    fresh = getattr(fastrnn, kind)(3, 4, num_layers=2, initial_state=True)
    assert not fresh.h_0.any()
    assert fresh.h_0.shape == (2, 1, 4)
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x)[0], layer(x)[0])
    layer.reset_parameters()
    assert not layer.h_0.any()
    assert layer.weight_hh_l1.any()


def test_shapes_with_a_projection_and_both_directions() -> None:
    layer = fastrnn.LSTM(3, 4, 2, proj_size=2, bidirectional=True, initial_state=True)
    assert (layer.h_0.shape, layer.c_0.shape) == ((4, 1, 2), (4, 1, 4))
    skipped = torch.nn.utils.skip_init(fastrnn.GRU, 3, 4, initial_state=True)
    assert skipped.h_0.shape == (1, 1, 4)


def test_weights_are_drawn_as_without_them() -> None:
    torch.manual_seed(0)
    layer = fastrnn.LSTM(3, 4, initial_state=True)
    after = torch.rand(())
    torch.manual_seed(0)
    plain = torch.nn.LSTM(3, 4)
    assert torch.equal(layer.weight_hh_l0, plain.weight_hh_l0)
    assert torch.equal(after, torch.rand(()))


def test_an_attribute_of_a_derived_class_is_not_taken_for_the_option() -> None:
    class Own(torch.nn.GRU):
        def __init__(self) -> None:
            super().__init__(3, 4)
            self.initial_state = torch.nn.Parameter(torch.randn(1, 1, 4))

    model, x = Own(), torch.randn(T, B, 3)
    expected = model(x)[0]
    fast = fastrnn.convert(model, subclasses=True)
    assert_near(fast(x)[0], expected, 3 + 4, T)


def test_a_wrong_input_is_what_the_message_is_about() -> None:
    layer = layer_of("GRU")
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        layer(torch.randn(T, B, 2))
    with pytest.raises(ValueError, match="got 1"):
        layer(torch.randn(3))
    with pytest.raises(TypeError):
        fastrnn.GRUCell(3, 4, initial_state=True)


@pytest.mark.parametrize("parametrized", [False, True])
def test_what_torchs_layer_cannot_hold_is_not_reverted(parametrized: bool) -> None:
    layer = layer_of("LSTM")
    if parametrized:
        torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    model = torch.nn.Sequential(fastrnn.GRU(3, 3), layer)
    with pytest.raises(ValueError, match=r"(?s)'1': .*initial_state=True"):
        fastrnn.revert(model)
    assert type(model[0]) is fastrnn.GRU


def test_a_packed_batch_of_any_order_begins_with_them() -> None:
    layer = layer_of("LSTM")
    sequences = [torch.randn(n, 3) for n in (2, 5, 1)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    for got, want in zip(flat(layer(packed)), flat(layer(packed, as_hx(layer))), strict=True):
        assert torch.equal(got, want)
