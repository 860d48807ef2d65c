"""torch's facilities with a layer of any cell: compilers, transformations, copies, precision."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from cases import OLD_TORCH, Case, assert_same, flat, like, same_outputs
from program_cells import ZOO, Loop, inputs_of, layer_of, results, states_of
from torch import Tensor
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

T, B = 4, 3
CELLS = ("LSTM", "sLSTM", "output of two states", "inputs and vectors", "none")
STACK = Case(dtype=torch.float64, num_layers=2, bidirectional=True)
LENGTHS = torch.tensor([3, 0, 4])


def call_of(layer: Any, **keywords: Any) -> dict[str, Any]:
    """Keywords with which a layer is called: random inputs of its cell, states, lengths, resets."""
    resets = torch.rand(T, B) < 0.4
    hx = states_of(layer, B)
    return {"hx": hx, "lengths": LENGTHS, "resets": resets, **inputs_of(layer, T, B), **keywords}


def data(*more: int) -> Tensor:
    return torch.randn(*more, T, B, 3, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_compiled_in_one_graph_it_computes_and_trains_the_same(name: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    torch.compiler.reset()  # forget those of other cells
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled.cell, compiled.hidden_size = layer.cell, 4  # for `results`
    x = data().requires_grad_()
    for keywords in ({"hx": None, **inputs_of(layer, T, B)}, call_of(layer, return_states=True)):
        got, expected = (results(way, x, **keywords) for way in (compiled, layer))
        for g, e in zip(got, expected, strict=True):
            assert same_outputs(g, e)


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 cannot compile a PackedSequence")
def test_compiled_in_one_graph_it_takes_packed_inputs_of_every_step() -> None:
    layer = layer_of("inputs and vectors", num_layers=2)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def packed(padded: Tensor) -> Any:
        return pack_padded_sequence(padded, [2, 4, 3], enforce_sorted=False)

    x = packed(data())
    keywords = {name: packed(each) for name, each in inputs_of(layer, T, B).items()}
    (y, h), (expected, h_expected) = (way(x, **keywords) for way in (compiled, layer))
    assert torch.equal(y.data, expected.data)
    assert torch.equal(h, h_expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_an_exported_program_has_one_operator_and_any_batch(name: str) -> None:
    layer = layer_of(name, num_layers=2)

    class WithInputs(torch.nn.Module):
        """torch's exporter has no dynamic sizes for what a ``**`` takes."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, input: Tensor, dt: Tensor, mask: Tensor) -> Any:
            return self.layer(input, dt=dt, mask=mask)

    inputs = inputs_of(layer, T, B)
    model = WithInputs() if inputs else layer
    sizes = {0: torch.export.Dim("T", min=2), 1: torch.export.Dim("B", min=2)}
    shapes = dict.fromkeys(["input", *inputs], sizes)
    exported = torch.export.export(model, (data(),), inputs, dynamic_shapes=shapes)
    called = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    assert called.count(torch.ops.fastrnn.recurrence.default) == 1
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    x, inputs = torch.randn(7, 2, 3, dtype=torch.float64), inputs_of(layer, 7, 2)
    assert same_outputs(loaded(x, **inputs), layer(x, **inputs))


@pytest.mark.parametrize("name", ZOO)
def test_vmap_is_a_call_for_each_sample(name: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    x, keywords = data(5), call_of(layer, return_states=True)
    got = flat(vmap(lambda one: layer(one, **keywords))(x))
    expected = [flat(layer(one, **keywords)) for one in x]
    assert_same(got, [torch.stack(each) for each in zip(*expected, strict=True)], STACK)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("form", ["plain", "lengths"])
def test_gradients_of_each_sample_are_those_of_its_own_call(name: str, form: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    keywords = call_of(layer) if form == "lengths" else inputs_of(layer, T, B)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs = flat(functional_call(layer, parameters, x, keywords))
        return sum(y.square().sum() for y in outputs)  # type: ignore[return-value]

    x = data(3)
    got = vmap(grad(loss), in_dims=(None, 0))({k: p.detach() for k, p in parameters.items()}, x)
    for sample, one in enumerate(x):
        own = torch.autograd.grad(loss(parameters, one), list(parameters.values()))
        assert_same([got[name][sample] for name in parameters], own, STACK)


@pytest.mark.parametrize("name", CELLS)
def test_ensembles_have_weights_of_their_own(name: str) -> None:
    layers = [layer_of(name) for _ in range(3)]
    x, inputs = data(), inputs_of(layers[0], T, B)
    stacked, _ = torch.func.stack_module_state(layers)
    got = vmap(lambda own: functional_call(layers[0], own, (x,), inputs)[0])(stacked)
    expected = torch.stack([layer(x, **inputs)[0] for layer in layers])
    assert_same([got], [expected], torch.float64)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own forward mode
@pytest.mark.parametrize("name", CELLS)
def test_forward_mode_and_hessians_are_those_of_the_loop(name: str) -> None:
    layer = layer_of(name)
    x, inputs = data()[:2], inputs_of(layer, 2, B)
    tangent = torch.randn_like(x)
    ways = [lambda x, way=way: way(x, **inputs)[0].square().sum() for way in (layer, Loop(layer))]
    got, expected = (jvp(way, (x,), (tangent,)) for way in ways)
    assert_same(got, expected, torch.float64)
    got, expected = (hessian(way)(x) for way in ways)
    assert_same([got], [expected], torch.float64)


@pytest.mark.parametrize("name", ZOO)
def test_copies_and_pickles_compute_the_same(name: str) -> None:
    layer = layer_of(name, bidirectional=True)
    x, keywords = data(), call_of(layer)
    expected = layer(x, **keywords)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same_outputs(twin(x, **keywords), expected)
        assert repr(twin) == repr(layer)
        assert twin.program == layer.program
    other = layer_of(name, bidirectional=True)
    other.load_state_dict(layer.state_dict())
    assert same_outputs(other(x, **keywords), expected)


@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CELLS)
def test_half_precision_is_computed_in_float32_and_rounded_once(
    name: str, dtype: torch.dtype
) -> None:
    layer = layer_of(name, dtype=dtype)
    wide = layer_of(name, dtype=torch.float32)
    wide.load_state_dict(layer.state_dict())
    x, inputs = data().to(dtype), inputs_of(layer, T, B, dtype=dtype)
    hx = states_of(layer, B, dtype=dtype)
    got = flat(layer(x, hx, **inputs))
    raised = {name: value.float() for name, value in inputs.items()}
    expected = flat(wide(x.float(), like(hx, torch.float32), **raised))
    assert same_outputs(got, [one.to(dtype) for one in expected])


@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize("name", CELLS)
def test_autocast_computes_in_float32_and_promotes_with_the_states(name: str) -> None:
    layer = layer_of(name, dtype=torch.float32)
    x, inputs = torch.randn(T, B, 3), inputs_of(layer, T, B, dtype=torch.float32)
    hx = states_of(layer, B, dtype=torch.float32)
    expected = flat(layer(x, hx, **inputs))
    with torch.autocast("cpu", torch.bfloat16):
        assert same_outputs(flat(layer(x, hx, **inputs)), expected)
        half = x.bfloat16()
        y, _ = layer(half, **{name: value.bfloat16() for name, value in inputs.items()})
        assert y.dtype is torch.bfloat16
        low = {name: value.bfloat16().float() for name, value in inputs.items()}
        assert_same([y.float()], [layer(half.float(), **low)[0].bfloat16().float()], torch.float32)


@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize("name", CELLS)
def test_autocast_takes_the_other_half_precision(name: str) -> None:
    layer = layer_of(name, dtype=torch.float16)
    wide = copy.deepcopy(layer).float()
    x, inputs = data().half(), inputs_of(layer, T, B, dtype=torch.float16)
    hx = states_of(layer, B, dtype=torch.float16)
    raised = {name: value.float() for name, value in inputs.items()}
    expected = flat(wide(x.float(), like(hx, torch.float32), **raised))
    with torch.autocast("cpu", torch.bfloat16):
        got = flat(layer(x, hx, **inputs))
    assert_same(got, expected, torch.float32)


@pytest.mark.parametrize("name", ZOO)
def test_on_the_meta_device_there_are_shapes(name: str) -> None:
    layer = layer_of(name, num_layers=2, bidirectional=True)
    keywords = call_of(layer, return_states=True)
    expected = [one.shape for one in flat(layer(data(), **keywords))]
    del keywords["lengths"]  # whose values there would be none of
    keywords = torch.utils._pytree.tree_map_only(Tensor, lambda one: one.to("meta"), keywords)
    got = flat(layer.to("meta")(data().to("meta"), **keywords))
    assert [one.shape for one in got] == expected


def test_classes_and_modes_see_one_function() -> None:
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(getattr(function, "__name__", ""))
            return function(*args, **kwargs or {})

    class Own(Tensor):
        pass

    layer, cell = layer_of("sLSTM"), fastrnn.RecurrentCell(ZOO["LSTM"][0], 3, 4).double()
    x = data()
    expected, step = layer(x, resets=torch.zeros(T, B) > 0), cell(x[0])
    with Mode():
        assert same_outputs(layer(x, resets=torch.zeros(T, B) > 0), expected)
        assert same_outputs(cell(x[0]), step)
    assert seen.count("recurrent") == 1
    assert seen.count("recurrent_cell") == 1
    y, _ = layer(x.as_subclass(Own))
    assert type(y) is Own
    assert torch.equal(y.as_subclass(Tensor), expected[0])


def test_a_symbolic_trace_has_one_node() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = layer_of("inputs and vectors")
            self.step = fastrnn.RecurrentCell(ZOO["LSTM"][0], 4, 4, dtype=torch.float64)

        def forward(self, x: Tensor, dt: Tensor, mask: Tensor) -> Any:
            y, h = self.rnn(x, dt=dt, mask=mask)
            return self.step(y[-1])[0] + h[0]

    model = Model()
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["rnn", "step"]
    inputs = inputs_of(model.rnn, T, B)
    x = data()
    assert same_outputs(traced(x, **inputs), model(x, **inputs))


@pytest.mark.parametrize("name", ["module", "method"])
def test_a_symbolic_trace_takes_inputs_of_any_name(name: str) -> None:
    class Named(fastrnn.Cell):
        gates = "a"
        inputs = name

        def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
            return {"h": torch.tanh(x.a + u.a) * getattr(p, name)}

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = fastrnn.Recurrent(Named, 3, 4, dtype=torch.float64)

        def forward(self, x: Tensor, given: Tensor) -> Any:
            return self.rnn(x, **{name: given})

    model, x, given = Model(), data(), torch.rand(T, B, dtype=torch.float64)
    assert same_outputs(torch.fx.symbolic_trace(model)(x, given), model(x, given))


def test_the_profiler_has_the_cells_name() -> None:
    layer = layer_of("MGU")
    with torch.profiler.profile() as profile:
        layer(data())[0].sum().backward()
    assert "fastrnn::MGU_forward" in {event.key for event in profile.key_averages()}


def test_counted_operations_are_those_of_the_matrices() -> None:
    for name, expected in {"LSTM": 16 * (3 + 4), "sLSTM": 16 * (3 + 2), "none": 8 * 3}.items():
        layer = layer_of(name)
        with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            layer(data())
        assert counter.get_total_flops() == 2 * T * B * expected
