"""Cells that are programs in ONNX: their steps in a Scan, for any size, as the engine computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import test_cells
import torch
from cases import assert_near, flat, tolerance
from program_cells import ZOO, Normed
from torch import Tensor
from torch.export import Dim

import fastrnn
from fastrnn._program.operations import OPERATIONS

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from exported import IN_A_ROW, TERMS, B, Exported, T, Together, assert_agrees

from fastrnn._interop import onnx_steps

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter and what it imports

Calls = Sequence[dict[str, Any]]
Results = dict[str, list[tuple[Tensor, Tensor]]]
"""By the name of a layer: its outputs in ONNX Runtime, and its own."""


def results(exported: Exported, model: Together, names: Sequence[str], calls: Calls) -> Results:
    with torch.no_grad():
        expected = [flat(of_layer) for of_layer in model(calls)]
    got = iter(exported(calls))
    return {
        name: [(next(got), tensor) for tensor in of_layer]
        for name, of_layer in zip(names, expected, strict=True)
    }


def assert_all_near(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    assert pairs
    for got, expected in pairs:
        assert_near(got, expected, TERMS, IN_A_ROW)


def inputs_of(cell: fastrnn.Cell, *sizes: int) -> dict[str, Tensor]:
    """The per-step inputs of a cell of `program_cells`: the first for a row, others for units."""
    widths = zip(cell.inputs.split(), ((), (4,)), strict=False)
    return {name: torch.rand(*sizes, *width) for name, width in widths}


def state_of(layer: Any, *sizes: int) -> Any:
    states = [torch.rand(*sizes, 4) + 0.1 for _ in layer.program.states]
    return tuple(states) if len(states) > 1 else states[0]


def assert_names_differ(exported: Exported) -> None:
    """In the graph and all bodies, from which optimizers take constants out."""
    nodes = list(exported.program.model.graph)
    bodies = [node.attributes["body"].value for node in nodes if node.op_type == "Scan"]
    inner = [node for body in bodies for node in body]
    names = [value.name for node in (*nodes, *inner) for value in node.outputs]
    names += [value.name for body in bodies for value in body.inputs]
    assert len(set(names)) == len(names)


# ---- published cells ----


@pytest.fixture(scope="module")
def published() -> Results:
    torch.manual_seed(0)
    model = Together([test_cells.make(name) for name in test_cells.ZOO])
    calls = []
    for layer in model.layers:
        x, states, inputs = test_cells.draw(layer)
        calls.append({"input": x, "hx": states if len(states) > 1 else states[0], **inputs})
    exported = Exported(model, calls, optimize=False)
    assert exported.nodes["Scan"] == len(model.layers)
    assert_names_differ(exported)
    return results(exported, model, list(test_cells.ZOO), calls)


@pytest.mark.parametrize("name", test_cells.ZOO)
def test_a_published_cell_is_the_body_of_a_scan(published: Results, name: str) -> None:
    for got, expected in published[name]:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# ---- whatever a layer has ----


class Everything(torch.nn.Module):
    """A layer that returns the states after every step."""

    def __init__(self, layer: fastrnn.Recurrent) -> None:
        super().__init__()
        self.layer, self.program = layer, layer.program

    def forward(self, **call: Any) -> Any:
        return self.layer(call.pop("input"), call.pop("hx"), return_states=True, **call)


STACKS = ("LSTM", "output", "inputs and vectors")


def ragged_call(layer: Any, lengths: list[int]) -> dict[str, Any]:
    return {
        "input": torch.randn(B, T, 3),
        "hx": state_of(layer, 2 * layer.layer.num_layers, B),
        "lengths": torch.tensor(lengths),
        "resets": torch.rand(B, T) < 0.4,
        **inputs_of(layer.layer.cell, B, T),
    }


@pytest.fixture(scope="module")
def ragged() -> Results:
    torch.manual_seed(0)
    layers = []
    for name, (cell, own) in ZOO.items():
        options = {"num_layers": 1 + (name in STACKS), "bidirectional": True, "batch_first": True}
        layers.append(fastrnn.Recurrent(cell, 3, 4, **options, **own))
    model = Together([Everything(layer) for layer in layers])
    first, second = (
        [ragged_call(layer, lengths) for layer in model.layers]
        for lengths in ([2, 5, 0], [4, 1, 3])
    )
    exported = Exported(model, first, optimize=False)
    assert exported.nodes["Scan"] == 2 * (len(ZOO) + len(STACKS))
    found = [results(exported, model, list(ZOO), calls) for calls in (first, second)]
    return {name: found[0][name] + found[1][name] for name in ZOO}


@pytest.mark.parametrize("name", ZOO)
def test_a_ragged_layer_has_states_resets_and_every_step_s_states(
    ragged: Results, name: str
) -> None:
    assert_all_near(ragged[name])


@pytest.fixture(scope="module")
def from_the_start() -> Results:
    torch.manual_seed(0)
    model = Together([fastrnn.Recurrent(cell, 3, 4, **own) for cell, own in ZOO.values()])

    def calls(*sizes: int) -> Calls:
        return [
            {
                "input": torch.randn(*sizes, 3),
                **inputs_of(one.cell, *sizes),
            }
            for one in model.layers
        ]

    dims = {0: Dim("steps"), 1: Dim("batch")}
    sizes = [dict.fromkeys(call, dims) for call in calls(T, B)]
    exported = Exported(model, calls(T, B), sizes=(sizes,))
    found = [results(exported, model, list(ZOO), calls(*own)) for own in ((T, B), (1, 1), (9, 4))]
    return {name: [pair for one in found for pair in one[name]] for name in ZOO}


@pytest.mark.parametrize("name", ZOO)
def test_without_states_a_layer_of_any_size_begins_as_its_cell_says(
    from_the_start: Results, name: str
) -> None:
    assert_all_near(from_the_start[name])


@pytest.fixture(scope="module")
def single_steps() -> Results:
    torch.manual_seed(0)
    names = [f"{name}{given}" for name in ZOO for given in ("", ", given")]
    cells = [fastrnn.RecurrentCell(cell, 3, 4, **own) for cell, own in ZOO.values()]
    model = Together([cell for cell in cells for _ in range(2)])
    calls: list[dict[str, Any]] = []
    for cell in cells:
        call = {"input": torch.randn(B, 3), **inputs_of(cell.cell, B)}
        calls += [call, call | {"hx": state_of(cell, B)}]
    exported = Exported(model, calls, optimize=False)
    assert not {"Loop", "Scan"} & set(exported.nodes)
    return results(exported, model, names, calls)


@pytest.mark.parametrize("given", ["", ", given"], ids=["zeros", "hx"])
@pytest.mark.parametrize("name", ZOO)
def test_a_single_step_has_its_nodes_and_no_loop(
    single_steps: Results, name: str, given: str
) -> None:
    assert_all_near(single_steps[f"{name}{given}"])


def test_one_sequence_without_a_batch_is_exported_beside_other_layers() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.norm = fastrnn.Recurrent(Normed, 3, 4)
    model.lstm = fastrnn.LSTM(4, 4)
    model.forward = lambda x: model.lstm(model.norm(x)[0])[0]  # type: ignore[method-assign]
    x = torch.randn(T, 3)
    exported = Exported(model, x)
    assert (exported.nodes["Scan"], exported.nodes["LSTM"]) == (1, 1)
    assert_agrees(exported, model, x)


class HandsOn(fastrnn.Cell):
    """Nothing is computed: new states are old ones, the input, one value twice, and a number."""

    gates, states, recurrent = "a", "h c d e", "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": s.c, "c": x.a, "d": x.a, "e": torch.ones_like(s.e)}


def test_states_may_be_what_there_was() -> None:
    model, x = fastrnn.Recurrent(HandsOn, 3, 4, bias=False), torch.randn(T, B, 3)
    assert_agrees(Exported(model, x), model, x)


# ---- every operation ----

SPECIAL = [0.0, 1.0, -1.0, 1e-30, -1e-5, 0.3, -0.7, 20.5, -80.0, 1000.0, -1000.0]
SPECIAL += [float("inf"), float("-inf"), float("nan")]

ONE_OPERAND = ("neg", "exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh", "sin", "cos")
ONE_OPERAND += ("erf", "abs", "sign", "relu", "reciprocal", "rsqrt")
TWO_OPERANDS = ("add", "sub", "mul", "div", "minimum", "maximum")

COMPUTES: dict[str, Callable[[Any, Any], Any]] = {
    **{name: lambda a, b, name=name: getattr(torch, name)(a) for name in ONE_OPERAND},
    **{name: lambda a, b, name=name: getattr(torch, name)(a, b) for name in TWO_OPERANDS},
    "softplus": lambda a, b: torch.nn.functional.softplus(a),
    "one_minus": lambda a, b: 1 - a,
    "lt": lambda a, b: (a < b) * 0.5,
    "le": lambda a, b: (a <= b) * 0.5,
    "eq": lambda a, b: (a == b) * 0.5,
    "where": lambda a, b: torch.where(a < b, a, -b),
    "elu": lambda a, b: torch.nn.functional.elu(a, alpha=0.7),
    "leaky_relu": lambda a, b: torch.nn.functional.leaky_relu(a, 0.2),
    "clamp": lambda a, b: torch.clamp(a, -0.5, 0.5),
    "clamp_min": lambda a, b: torch.clamp(a, min=b),
    "clamp_max": lambda a, b: torch.clamp(a, max=b),
    "stationary": lambda a, b: fastrnn.layer_norm(a, eps=0.1),
    "detach": lambda a, b: a.detach() * 0.5,
}


class Computes(fastrnn.Cell):
    """A function of an input and a per-step input."""

    gates, recurrent, inputs = "a", "none", "b"

    def __init__(self, name: str) -> None:
        self.name = name

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": COMPUTES[self.name](x.a, p.b)}


def test_every_operation_that_a_step_may_have_is_compared() -> None:
    derivatives = {name for name in OPERATIONS if name.startswith("d_")}
    assert set(onnx_steps.OPERATIONS) == set(OPERATIONS) - derivatives - {"row_sum"}
    assert set(COMPUTES) == set(onnx_steps.OPERATIONS)
    for name in COMPUTES:
        nodes = fastrnn.RecurrentCell(Computes(name), 1, 1).program.nodes
        assert name in [node.operation for node in nodes]


IN_ONNX_RUNTIME = {
    torch.float32: list(COMPUTES),
    torch.float64: [name for name in COMPUTES if name != "erf"],
}


@cache
def computed(dtype: torch.dtype) -> Results:
    names = IN_ONNX_RUNTIME[dtype]
    options: dict[str, Any] = {"bias": False, "dtype": dtype}
    model = Together([fastrnn.RecurrentCell(Computes(n), 1, 1, **options) for n in names])
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1)
    special = torch.tensor(SPECIAL, dtype=dtype)
    a, b = (one.reshape(-1, 1) for one in torch.meshgrid(special, special, indexing="ij"))
    calls = [{"input": a, "b": b}] * len(names)
    exported = Exported(model, calls, optimize=False)
    return results(exported, model, names, calls)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(dtype, name) for dtype in IN_ONNX_RUNTIME for name in IN_ONNX_RUNTIME[dtype]],
)
def test_an_operation_has_torch_s_limits_ties_and_nan(dtype: torch.dtype, name: str) -> None:
    [(got, expected)] = computed(dtype)[name]
    own = tolerance(got.dtype, 1, 1)
    # ONNX Runtime's sigmoid is exact to a share of one, not of the result.
    atol = own if name == "sigmoid" else 0.0
    torch.testing.assert_close(got, expected, rtol=own, atol=atol, equal_nan=True)
