"""Classes derived from Tensor, and modes: what they compute, and what they see of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from cases import CELLS, LAYERS
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.utils import _pytree as pytree

import fastrnn

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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_one_dtensor_among_tensors_is_torchs_error(kind: str, place: str, replicated: Any) -> None:
    layer, values = values_of(kind)
    with pytest.raises(RuntimeError, match=r"got mixed torch\.Tensor and DTensor"):
        run(layer, changed(values, place, replicated))


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
