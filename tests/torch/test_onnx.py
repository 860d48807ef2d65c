"""Export to ONNX: nodes of ONNX's own, and in ONNX Runtime the layer's results for any size."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, assert_near, flat
from program_cells import LSTM
from torch import Tensor
from torch.export import Dim

import fastrnn

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter and what it imports

T, B = 5, 3
TERMS, IN_A_ROW = 2 * 4 + 4, 2 * 9
"""At most: a layer's sums over both directions below and its own state; two layers of 9 steps."""


class Exported:
    """A model in ONNX Runtime."""

    def __init__(self, model: Any, *args: Any, sizes: Any = None, **keywords: Any) -> None:
        self.program = torch.onnx.export(
            model,
            args,
            kwargs=keywords,
            dynamo=True,
            verbose=False,
            dynamic_shapes=sizes,
            custom_translation_table=fastrnn.onnx.translations(),
        )
        content = self.program.model_proto.SerializeToString()
        self.runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    @property
    def nodes(self) -> Counter[str]:
        return Counter(node.op_type for node in self.program.model.graph)

    def __call__(self, *args: Any, **keywords: Any) -> list[Tensor]:
        given = flat(*args, *keywords.values())
        names = [put.name for put in self.runtime.get_inputs()]
        feeds = {name: t.numpy() for name, t in zip(names, given, strict=True)}
        return [torch.from_numpy(output) for output in self.runtime.run(None, feeds)]


def assert_agrees(exported: Exported, model: Any, *args: Any, **keywords: Any) -> None:
    with torch.no_grad():
        expected = flat(model(*args, **keywords))
    for got, want in zip(exported(*args, **keywords), expected, strict=True):
        assert_near(got, want, TERMS, IN_A_ROW)


def layer_of(kind: str, **options: Any) -> Any:
    return getattr(fastrnn, kind)(3, 4, **options).eval()


def state_of(layer: Any, *batch: int) -> Any:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h, c = torch.randn(2, count, *batch, 4)
    return (h, c) if isinstance(layer, torch.nn.LSTM) else h


@pytest.mark.parametrize("kind", LAYERS)
def test_a_stack_is_a_node_a_layer_with_states_in_and_out(kind: str) -> None:
    layer = layer_of(kind, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5)
    x, hx = torch.randn(B, T, 3), state_of(layer, B)
    exported = Exported(layer, x, hx)
    assert exported.nodes[kind] == 2
    assert not {"Loop", "Scan"} & set(exported.nodes)
    assert_agrees(exported, layer, x, hx)


@pytest.mark.parametrize("kind", LAYERS)
def test_batch_and_time_may_be_dynamic(kind: str) -> None:
    layer = layer_of(kind, bias=False)
    exported = Exported(layer, torch.randn(T, B, 3), sizes=({0: Dim("steps"), 1: Dim("batch")},))
    assert exported.nodes[kind] == 1
    for steps, batch in ((T, B), (1, 1), (9, 4)):
        assert_agrees(exported, layer, torch.randn(steps, batch, 3))


@pytest.mark.parametrize("kind", LAYERS)
def test_lengths_become_those_of_the_node_even_0(kind: str) -> None:
    layer = layer_of(kind, bidirectional=True)
    x, hx, lengths = torch.randn(T, B, 3), state_of(layer, B), torch.tensor([2, 5, 0])
    exported = Exported(layer, x, hx, lengths=lengths)
    assert_agrees(exported, layer, x, hx, lengths=lengths)
    assert_agrees(exported, layer, x, hx, lengths=torch.tensor([0, 1, 4]))


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_states_of_the_layers_own_are_those_of_the_nodes(kind: str) -> None:
    layer = layer_of(kind, num_layers=2, bidirectional=True, initial_state=True)
    for name in ("h_0", "c_0")[: 2 if kind == "LSTM" else 1]:
        torch.nn.init.normal_(getattr(layer, name))
    exported = Exported(layer, torch.randn(T, B, 3), sizes=({0: Dim("steps"), 1: Dim("batch")},))
    assert "h_0" in exported.program.model.graph.initializers
    for node in exported.program.model.graph:
        if node.op_type == kind:
            assert all(node.inputs[5 : 7 if kind == "LSTM" else 6])
    for steps, batch in ((T, B), (1, 1), (9, 4)):
        assert_agrees(exported, layer, torch.randn(steps, batch, 3))


def test_one_sequence_is_exported_without_a_batch() -> None:
    layer = layer_of("LSTM", num_layers=2)
    x, hx = torch.randn(T, 3), state_of(layer)
    assert_agrees(Exported(layer, x, hx), layer, x, hx)


def test_relu_is_the_activation_of_the_node() -> None:
    layer, x = layer_of("RNN", nonlinearity="relu", bidirectional=True), torch.randn(T, B, 3)
    assert_agrees(Exported(layer, x), layer, x)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_states_of_every_step_are_the_outputs_of_each_layer(kind: str) -> None:
    layer, x = layer_of(kind, num_layers=2, bidirectional=True), torch.randn(T, B, 3)

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Any:
            return self.layer(x, return_states=True)

    assert_agrees(Exported(States(), x), States(), x)


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_a_node_of_one_step(kind: str) -> None:
    cell, x = layer_of(kind), torch.randn(B, 3)
    h, c = torch.randn(2, B, 4)
    hx = (h, c) if kind == "LSTMCell" else h
    exported = Exported(cell, x, hx)
    assert exported.nodes[kind.removesuffix("Cell")] == 1
    assert_agrees(exported, cell, x, hx)


def test_a_model_is_exported_around_layers_with_computed_weights() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = fastrnn.LSTM(3, 4, batch_first=True)
            self.gru = torch.nn.utils.parametrizations.weight_norm(
                fastrnn.GRU(4, 5, batch_first=True), "weight_hh_l0"
            )
            self.head = torch.nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.gru(self.lstm(x)[0])[0].mean(1))
            return y

    model = Model()
    exported = Exported(model, torch.randn(B, T, 3), sizes=({0: Dim("batch"), 1: Dim("steps")},))
    assert (exported.nodes["LSTM"], exported.nodes["GRU"]) == (1, 1)
    assert_agrees(exported, model, torch.randn(2, 7, 3))


REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "proj_size": (fastrnn.LSTM(3, 4, proj_size=2), {}),
    "resets": (fastrnn.GRU(3, 4), {"resets": torch.zeros(T, B, dtype=torch.bool)}),
    "return_states": (fastrnn.LSTM(3, 4), {"return_states": True}),
    "dropout": (fastrnn.GRU(3, 4, num_layers=2, dropout=0.5), {}),
    "activation 'gelu'": (fastrnn.GRU(3, 4, activation="gelu"), {}),
    "fastrnn.Recurrent": (fastrnn.Recurrent(LSTM, 3, 4), {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_onnx_lacks_is_refused_by_name(what: str) -> None:
    layer, keywords = REFUSED[what]
    with pytest.raises(torch.onnx.errors.OnnxExporterError) as caught:
        Exported(copy.deepcopy(layer), torch.randn(T, B, 3), **keywords)
    causes: list[BaseException] = [caught.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    refusal = next(cause for cause in causes if isinstance(cause, NotImplementedError))
    assert what in str(refusal)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn_tanh", 1)])
def test_layout_of_onnx_is_converted_there_and_back(cell: str, gates: int) -> None:
    weight, b_ih, b_hh = torch.randn(gates * 4, 3), *torch.randn(2, gates * 4)
    convert = fastrnn.onnx
    there = convert.gates_to_onnx(cell, weight)
    assert torch.equal(convert.gates_from_onnx(cell, there), weight)
    both = convert.biases_to_onnx(cell, b_ih, b_hh)
    assert both.shape == (2 * gates * 4,)
    for back, bias in zip(convert.biases_from_onnx(cell, both), (b_ih, b_hh), strict=True):
        assert torch.equal(back, bias)


def test_gates_stand_where_onnx_has_them() -> None:
    lstm = torch.tensor([1, 2, 3, 4])  # i f g o
    assert fastrnn.onnx.gates_to_onnx("lstm", lstm).tolist() == [1, 4, 2, 3]  # i o f c
    gru = torch.tensor([1, 2, 3])  # r z n
    assert fastrnn.onnx.gates_to_onnx("gru", gru).tolist() == [2, 1, 3]  # z r h
