"""Layers that are made without memory, copied, pickled and saved compute what they did before."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat, input_of, twins
from program_cells import MGU
from torch.nn.utils import parametrizations, skip_init

import fastrnn

KINDS = [*LAYERS, *CELLS]
STACK = {"num_layers": 2, "bidirectional": True}


def layer_of(kind: str, **options: Any) -> Any:
    return getattr(fastrnn, kind)(3, 4, **(STACK if kind in LAYERS else {}), **options)


def assert_equal(layer: Any, other: Any, x: torch.Tensor) -> None:
    for y, of_other in zip(flat(layer(x)), flat(other(x)), strict=True):
        assert torch.equal(y, of_other)


@pytest.mark.parametrize("kind", KINDS)
def test_skip_init_leaves_a_layer_that_only_needs_weights(kind: str) -> None:
    layer = layer_of(kind)
    bare = skip_init(type(layer), 3, 4, **(STACK if kind in LAYERS else {}))
    bare.load_state_dict(layer.state_dict())
    assert_equal(bare, layer, input_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_from_the_meta_device_takes_memory_or_weights(kind: str) -> None:
    layer = layer_of(kind)
    with torch.device("meta"):
        empty, assigned = layer_of(kind), layer_of(kind)
    assert flat(empty(input_of(kind).to("meta")))[0].is_meta
    empty.to_empty(device="cpu").load_state_dict(layer.state_dict())
    assert_equal(empty, layer, input_of(kind))
    assigned.load_state_dict(layer.state_dict(), assign=True)
    assert_equal(assigned, layer, input_of(kind))


def by_file(layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(layer), file)
    file.seek(0)
    return torch.load(file, weights_only=False)[0]


def by_safe_file(layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with torch.serialization.safe_globals([type(layer)]):
        return torch.load(file, weights_only=True)


def by_pickle(layer: Any) -> Any:
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("way", [copy.deepcopy, by_pickle, by_file, by_safe_file])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_computes_the_same_and_shares_nothing(kind: str, way: Callable[..., Any]) -> None:
    layer, x = layer_of(kind), input_of(kind)
    flat(layer(x))[0].sum().backward()
    other = way(layer)
    assert type(other) is type(layer)
    assert_equal(other, layer, x)
    before = flat(layer(x))[0].clone()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(flat(layer(x))[0], before)
    assert not flat(other(x))[0].any()


@pytest.mark.parametrize("kind", [fastrnn.Recurrent, fastrnn.RecurrentCell])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_layer_of_a_cell_that_somebody_writes_is_read_from_a_safe_file(
    kind: Any, frozen: bool
) -> None:
    layer, x = kind(MGU, 3, 4), torch.randn(5, 3)
    trusted = [kind, MGU, type(layer.program)]
    if frozen:
        layer = fastrnn.freeze(layer)
        trusted.append(type(layer))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with torch.serialization.safe_globals(trusted):
        other = torch.load(file, weights_only=True)
    assert_equal(other, layer, x)
    assert other.program == layer.program


def test_earlier_pickles_of_programs_load() -> None:
    program = fastrnn.Recurrent(MGU, 3, 4).program
    earlier = b"c__builtin__\ngetattr\n(cfastrnn._program.program\nProgram\nVparse\ntR"
    earlier += b"(" + pickle.dumps(program.text, protocol=0)[:-1] + b"tR."
    assert pickle.loads(earlier) == program


def test_a_converted_model_is_saved_and_read_as_one() -> None:
    model = fastrnn.convert(torch.nn.Sequential(torch.nn.LSTM(3, 4)))
    other = by_pickle(model)
    assert type(other[0]) is fastrnn.LSTM
    assert_equal(other, model, input_of("LSTM"))


def test_a_parametrized_layer_is_copied_and_saved_as_torch_s_is() -> None:
    fast, plain = twins("LSTM")
    for layer in (fast, plain):
        parametrizations.weight_norm(layer, "weight_hh_l0")
        assert_equal(copy.deepcopy(layer), layer, input_of("LSTM"))
        with pytest.raises(RuntimeError, match="only supported through state_dict"):
            pickle.dumps(layer)
    assert list(fast.state_dict()) == list(plain.state_dict())


def test_pickles_name_the_package_and_earlier_ones_load() -> None:
    layer = fastrnn.LSTM(3, 4, peephole="ifo")
    pickled = pickle.dumps(layer, protocol=0)
    assert b"cfastrnn\nLSTM\n" in pickled
    assert b"cfastrnn.variants\nVariant\n" in pickled
    assert b"cfastrnn._" not in pickled
    earlier = pickled.replace(b"cfastrnn\nLSTM\n", b"cfastrnn.modules\nLSTM\n")
    earlier = earlier.replace(b"cfastrnn.variants\nVariant\n", b"cfastrnn.spec\nVariant\n")
    again = pickle.loads(earlier)
    assert type(again) is fastrnn.LSTM
    assert again.variant == layer.variant
    x = torch.randn(5, 2, 3)
    assert torch.equal(again(x)[0], layer(x)[0])
