"""Export to ONNX: nodes of ONNX's own, and in ONNX Runtime the layer's results for any size."""

from __future__ import annotations

import copy
from typing import Any

import numpy
import pytest
import torch
from cases import CELLS, LAYERS
from program_cells import LSTM
from torch import Tensor
from torch.export import Dim

import fastrnn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from exported import B, Exported, T, Together, assert_agrees

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter and what it imports


def layer_of(kind: str, **options: Any) -> Any:
    return getattr(fastrnn, kind)(3, 4, **options).eval()


def state_of(layer: Any, *batch: int) -> Any:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h, c = torch.randn(2, count, *batch, 4)
    return (h, c) if isinstance(layer, torch.nn.LSTM) else h


def test_a_stack_is_a_node_a_layer_with_states_in_and_out() -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5}
    model = Together([layer_of(kind, **options) for kind in LAYERS])
    calls = [{"input": torch.randn(B, T, 3), "hx": state_of(layer, B)} for layer in model.layers]
    exported = Exported(model, calls)
    assert [exported.nodes[kind] for kind in LAYERS] == [2, 2, 2]
    assert not {"Loop", "Scan"} & set(exported.nodes)
    assert_agrees(exported, model, calls)


def assert_agrees_in_any_size(model: Together) -> Exported:
    """Batch and time are dynamic; the layers begin with no states of the caller's."""

    def calls(*sizes: int) -> Any:
        return [{"input": torch.randn(*sizes, 3)} for _ in model.layers]

    dims = [{"input": {0: Dim("steps"), 1: Dim("batch")}} for _ in model.layers]
    exported = Exported(model, calls(T, B), sizes=(dims,))
    for sizes in ((T, B), (1, 1), (9, 4)):
        assert_agrees(exported, model, calls(*sizes))
    return exported


def test_batch_and_time_may_be_dynamic() -> None:
    exported = assert_agrees_in_any_size(Together([layer_of(kind, bias=False) for kind in LAYERS]))
    assert [exported.nodes[kind] for kind in LAYERS] == [1, 1, 1]


def test_lengths_become_those_of_the_node_even_0() -> None:
    model = Together([layer_of(kind, bidirectional=True) for kind in LAYERS])
    calls = [{"input": torch.randn(T, B, 3), "hx": state_of(layer, B)} for layer in model.layers]

    def ragged(*lengths: int) -> Any:
        return [call | {"lengths": torch.tensor(lengths)} for call in calls]

    exported = Exported(model, ragged(2, 5, 0))
    assert_agrees(exported, model, ragged(2, 5, 0))
    assert_agrees(exported, model, ragged(0, 1, 4))


def test_initial_states_of_the_layers_own_are_those_of_the_nodes() -> None:
    options = {"num_layers": 2, "bidirectional": True, "initial_state": True}
    model = Together([layer_of(kind, **options) for kind in LAYERS])
    for name, parameter in model.named_parameters():
        if name.endswith("_0"):
            torch.nn.init.normal_(parameter)
    exported = assert_agrees_in_any_size(model)
    kept = [one.const_value for one in exported.program.model.graph.initializers.values()]
    arrays = [one.numpy() for one in kept if one is not None]
    for state in (model.layers[0].h_0, model.layers[0].c_0):
        assert any(numpy.array_equal(array, state.detach().numpy()) for array in arrays)
    states = {"LSTM": slice(5, 7), "GRU": slice(5, 6), "RNN": slice(5, 6)}
    nodes = [node for node in exported.program.model.graph if node.op_type in states]
    assert len(nodes) == 2 * len(LAYERS)
    for node in nodes:
        assert all(node.inputs[states[node.op_type]])


def test_one_sequence_is_exported_without_a_batch_and_relu_is_the_activation_of_a_node() -> None:
    model = Together(
        [layer_of("LSTM", num_layers=2), layer_of("RNN", nonlinearity="relu", bidirectional=True)]
    )
    single = {"input": torch.randn(T, 3), "hx": state_of(model.layers[0])}
    calls = [single, {"input": torch.randn(T, B, 3)}]
    assert_agrees(Exported(model, calls), model, calls)


def test_states_of_every_step_are_the_outputs_of_each_layer() -> None:
    model = Together([layer_of(k, num_layers=2, bidirectional=True) for k in ("GRU", "RNN")])
    calls = [{"input": torch.randn(T, B, 3), "return_states": True} for _ in model.layers]
    assert_agrees(Exported(model, calls), model, calls)


def test_a_cell_is_a_node_of_one_step() -> None:
    model = Together([layer_of(kind) for kind in CELLS])
    calls = []
    for kind in CELLS:
        h, c = torch.randn(2, B, 4)
        calls.append({"input": torch.randn(B, 3), "hx": (h, c) if kind == "LSTMCell" else h})
    exported = Exported(model, calls)
    assert [exported.nodes[kind.removesuffix("Cell")] for kind in CELLS] == [1, 1, 1]
    assert_agrees(exported, model, calls)


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
    "ONNX's Scan has nothing like dropout": (
        fastrnn.Recurrent(LSTM, 3, 4, num_layers=2, dropout=0.5),
        {},
    ),
    "activation 'gelu'": (fastrnn.GRU(3, 4, activation="gelu"), {}),
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
