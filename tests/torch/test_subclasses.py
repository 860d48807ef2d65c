"""Classes derived from Tensor, and modes: what they compute, and what they see of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from cases import CELLS, LAYERS, OLD_TORCH
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.utils import _pytree as pytree

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:DTensor random operators")  # of torch 2.6

PLACES = ("input", "hx", "weight_ih", "weight_hh", "bias_hh")


class Twice(Tensor):
    """Two values for one, computed side by side: a class with a ``__torch_dispatch__`` of its own.

    What has no address has to go through torch's operations.
    """

    a: Tensor
    b: Tensor

    @staticmethod
    def __new__(cls, a: Tensor, b: Tensor) -> Twice:
        made = Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype, strides=a.stride())
        made.a, made.b = a, b
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def compute(side: str) -> Any:
            one: Callable[[Any], Any] = lambda value: (  # noqa: E731
                getattr(value, side) if isinstance(value, Twice) else value
            )
            return func(*pytree.tree_map(one, args), **pytree.tree_map(one, kwargs or {}))

        a, b = compute("a"), compute("b")
        return pytree.tree_map(lambda x, y: cls(x, y) if isinstance(x, Tensor) else x, a, b)


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Callable[[Tensor], Tensor]]:
    """Makes a DTensor of a Tensor, on a mesh of this process alone."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    yield lambda tensor: distribute_tensor(tensor.detach(), mesh, [Replicate()])
    dist.destroy_process_group()


def values_of(kind: str) -> tuple[Any, dict[str, Tensor]]:
    """A layer or cell, and its arguments and weights by name."""
    layer = getattr(fastrnn, kind)(3, 4)
    one_step = kind in CELLS
    values = {
        "input": torch.randn((2, 3) if one_step else (5, 2, 3)),
        "hx": torch.randn((2, 4) if one_step else (1, 2, 4)),
    }
    return layer, values | {name: weight.detach() for name, weight in layer.named_parameters()}


def run(layer: Any, values: dict[str, Tensor]) -> Tensor:
    """y of a call with these arguments and weights."""
    hx: Any = values["hx"]
    if "LSTM" in type(layer).__name__:
        hx = (hx, hx)
    weights = {name: values[name] for name in values if name not in ("input", "hx")}
    with torch.no_grad():
        y = torch.func.functional_call(layer, weights, (values["input"], hx))
    return y if isinstance(y, Tensor) else y[0]


def changed(values: dict[str, Tensor], place: str, change: Any) -> dict[str, Tensor]:
    return {
        name: change(value) if name.startswith(place) else value for name, value in values.items()
    }


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 has fewer operations of DTensors")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_one_dtensor_among_tensors_is_torchs_error(kind: str, place: str, replicated: Any) -> None:
    layer, values = values_of(kind)
    with pytest.raises(RuntimeError, match=r"got mixed torch\.Tensor and DTensor"):
        run(layer, changed(values, place, replicated))


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 has fewer operations of DTensors")
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_layer_of_dtensors_computes(kind: str, replicated: Any) -> None:
    layer, values = values_of(kind)
    got: Any = run(layer, {name: replicated(value) for name, value in values.items()})
    torch.testing.assert_close(got.full_tensor(), run(layer, values))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_class_that_computes_by_itself_does_so_wherever_it_stands(kind: str, place: str) -> None:
    layer, values = values_of(kind)
    got: Any = run(layer, changed(values, place, lambda value: Twice(value, value / 2)))
    assert type(got) is Twice
    torch.testing.assert_close(got.a, run(layer, values))
    want = run(layer, changed(values, place, lambda value: value / 2))
    torch.testing.assert_close(got.b, want)


# ---- __torch_function__ ----

TORCHS = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN": torch.rnn_tanh,
    "LSTMCell": torch.lstm_cell,
    "GRUCell": torch.gru_cell,
    "RNNCell": torch.rnn_tanh_cell,
}


class Tenfold(Tensor):
    """Holds its value times ten, as the class alone knows."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TORCHS.values():
            return func(args[0].as_subclass(Tensor) / 10, *args[1:], **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})


class Plain(Tensor):
    """Answers for nothing."""


class Seen(torch.overrides.TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_class_that_answers_for_torchs_function_is_asked(kind: str) -> None:
    layer, values = values_of(kind)
    tenfold = (values["input"] * 10).as_subclass(Tenfold)
    with torch.no_grad():
        y, want = layer(tenfold), layer(values["input"])
    y, want = (out if isinstance(out, Tensor) else out[0] for out in (y, want))
    torch.testing.assert_close(y.as_subclass(Tensor), want)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_class_that_answers_for_nothing_gets_the_engines_bits(kind: str, place: str) -> None:
    layer, values = values_of(kind)
    y = run(layer, changed(values, place, lambda value: value.as_subclass(Plain)))
    assert type(y) is Plain
    assert torch.equal(y.as_subclass(Tensor), run(layer, values))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 0.5},
    {"activation": "relu", "cell_clip": 3.0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_mode_sees_a_layers_call_as_one_function_and_changes_nothing(
    kind: str, options: dict[str, Any]
) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4, **options), torch.randn(5, 2, 3)
    extras = {"lengths": [2, 1], "return_states": True, "resets": torch.zeros(5, 2) > 0}
    if layer.batch_first:
        extras = {"lengths": [2, 1, 2, 2, 0], "return_states": True}
    for keywords in ({}, extras):
        torch.manual_seed(1)
        want = layer(x, **keywords)[0]
        torch.manual_seed(1)
        with Seen() as seen:
            y = layer(x, **keywords)[0]
        assert torch.equal(y, want)
        assert seen.functions == [getattr(fastrnn.functional, kind.lower())]


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"bias": False}])
@pytest.mark.parametrize("kind", CELLS)
def test_a_mode_sees_a_cells_call_as_one_function(kind: str, options: dict[str, Any]) -> None:
    cell, x = getattr(fastrnn, kind)(3, 4, **options), torch.randn(2, 3)
    want = cell(x)
    with Seen() as seen:
        y = cell(x)
    for got, wanted in zip(y, want, strict=True):
        assert torch.equal(got, wanted)
    assert seen.functions == [getattr(fastrnn.functional, f"{kind[:-4].lower()}_cell")]


def test_a_mode_sees_a_packed_batch_too() -> None:
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(3, 3), torch.randn(2, 3)])
    layer = fastrnn.LSTM(3, 4, proj_size=2)
    want = layer(packed)[0].data
    with Seen() as seen:
        y, _ = layer(packed)
    assert torch.equal(y.data, want)
    assert seen.functions == [fastrnn.functional.lstm]
