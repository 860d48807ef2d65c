"""convert and revert: the same objects, another class, and nothing else."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import CELLS, LAYERS, cases, flat, run
from hypothesis import given
from torch import nn
from torch.nn.utils import parametrizations

import fastrnn

KINDS = [*LAYERS, *CELLS]
TORCH_LAYERS = [getattr(nn, kind) for kind in LAYERS]


class Model(nn.Module):
    """A layer of every kind, one of them at two places, next to things that are none."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 3)
        self.stack = nn.ModuleList([nn.LSTM(3, 3), nn.Sequential(nn.GRU(3, 3)), nn.RNN(3, 3)])
        self.cells = nn.ModuleDict({kind: getattr(nn, kind)(3, 3) for kind in CELLS})
        self.again = self.stack[0]

    def forward(self, x):
        x = self.embed(x)
        for layer in (self.stack[0], self.stack[1][0], self.stack[2], self.again):
            x, _ = layer(x)
        h, _ = self.cells["LSTMCell"](x[-1])
        return self.cells["RNNCell"](self.cells["GRUCell"](h))


class Own(nn.LSTM):
    """A subclass of torch's layer, as users write them."""


class Outputs(nn.RNNBase):
    """A base of a subclass that calls whichever layer comes after it."""

    def forward(self, x):
        return super().forward(2 * x)[0]


class DoubledGRU(Outputs, nn.GRU):
    pass


class DoubledCell(nn.LSTMCell):
    def forward(self, x):
        return super().forward(2 * x)[0]


def types_in(model):
    return {name: type(module) for name, module in model.named_modules()}


def test_a_converted_model_computes_the_same_with_fastrnns_layers():
    model, x = Model(), torch.randn(5, 2, 3)
    expected, before = model(x), types_in(model)
    converted = fastrnn.convert(model)
    assert converted is model
    for name, old in before.items():
        new = types_in(model)[name]
        assert new is getattr(fastrnn, old.__name__) if old.__name__ in KINDS else new is old
    torch.testing.assert_close(model(x), expected)
    assert fastrnn.revert(model) is model
    assert types_in(model) == before
    assert torch.equal(model(x), expected)


@given(case=cases())
def test_converting_there_and_back_changes_no_bit_of_what_torch_computes(case):
    plain = case.build(nn)
    x, hx = case.input(), case.state()
    expected = run(plain, x, hx)
    layer = fastrnn.revert(fastrnn.convert(plain))
    assert layer is plain
    assert type(layer) is getattr(nn, case.kind)
    for got, wanted in zip(run(layer, x, hx), expected, strict=True):
        assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_buffers_flags_and_attributes_stay_the_same_objects(kind):
    layer = getattr(nn, kind)(3, 4, dtype=torch.float64).eval()
    layer.register_buffer("counts", torch.zeros(2))
    layer.weight_note = "mine"
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    members = {k: v for k, v in vars(layer).items() if not k.startswith("_flat_weight")}
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    for turn in (fastrnn.convert, fastrnn.revert):
        turn(layer)
        for name, value in members.items():
            assert vars(layer)[name] is value, name
        now = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        assert now.keys() == tensors.keys()
        assert all(now[name] is tensor for name, tensor in tensors.items())
        assert ("_flat_weights" in vars(layer)) == (type(layer) in TORCH_LAYERS)
        assert not layer.training
        assert layer.weight_note == "mine"


def test_a_layer_at_two_places_stays_one_layer():
    model = fastrnn.convert(Model())
    assert model.again is model.stack[0]


def test_hooks_of_every_kind_survive_and_fire():
    layer, seen = nn.LSTM(3, 4), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    layer.register_state_dict_post_hook(lambda *_: seen.append("saved"))
    layer.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    layer.weight_hh_l0.register_hook(lambda _: seen.append("gradient"))
    fastrnn.convert(layer)
    layer(torch.randn(5, 2, 3, requires_grad=True))[0].sum().backward()
    layer.load_state_dict(layer.state_dict())
    assert sorted(seen) == ["after", "backward", "before", "gradient", "loaded", "saved"]


def test_an_optimizer_made_before_trains_the_converted_layer():
    layer, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    fastrnn.convert(layer)
    before = layer(x)[0]
    before.sum().backward()
    optimizer.step()
    assert not torch.equal(layer(x)[0], before)


def test_subclasses_are_left_alone_both_ways():
    class OwnFast(fastrnn.GRU):
        pass

    model = nn.ModuleList([Own(3, 4), OwnFast(3, 4)])
    with pytest.warns(UserWarning, match="subclasses=True"):
        fastrnn.convert(model)
    assert type(model[0]) is Own
    fastrnn.revert(model)
    assert type(model[1]) is OwnFast


@pytest.mark.parametrize("kind", KINDS)
def test_a_parametrized_layer_is_converted_and_stays_parametrized(kind):
    layer, x = getattr(nn, kind)(3, 4), torch.randn(2, 3)
    name = "weight_hh_l0" if kind in LAYERS else "weight_hh"
    parametrizations.weight_norm(layer, name)
    twin = copy.deepcopy(layer)  # shares the class that parametrization made
    expected = flat(layer(x))
    fastrnn.convert(layer)
    assert isinstance(layer, getattr(fastrnn, kind))
    assert type(layer).__name__ == f"Parametrized{kind}"
    assert not isinstance(twin, getattr(fastrnn, kind))
    for got, wanted in zip(flat(layer(x)), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    assert all(torch.equal(a, b) for a, b in zip(flat(twin(x)), expected, strict=True))
    sum(y.sum() for y in flat(layer(x))).backward()
    assert layer.parametrizations[name].original0.grad is not None
    fastrnn.revert(layer)
    assert not isinstance(layer, getattr(fastrnn, kind))
    fastrnn.convert(layer)
    nn.utils.parametrize.remove_parametrizations(layer, name)
    assert type(layer) is getattr(fastrnn, kind)


@pytest.mark.parametrize(
    ("kind", "fast", "sizes"),
    [(DoubledGRU, fastrnn.GRU, (5, 2, 3)), (DoubledCell, fastrnn.LSTMCell, (5, 3))],
)
def test_subclasses_are_turned_when_asked_and_stay_what_they_are(kind, fast, sizes):
    layer, x = kind(3, 3), torch.randn(sizes)
    expected = layer(x)
    assert fastrnn.convert(layer, subclasses=True) is layer
    assert isinstance(layer, kind)
    assert isinstance(layer, fast)
    assert repr(layer) == repr(kind(3, 3))
    torch.testing.assert_close(layer(x), expected)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(copied) is type(layer)
        assert torch.equal(copied(x), layer(x))
    assert type(fastrnn.revert(layer)) is kind
    assert torch.equal(layer(x), expected)


def test_a_parametrized_subclass_is_left_alone():
    layer = Own(3, 4)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    own = type(layer)
    with pytest.warns(UserWarning, match="the model itself"):
        assert type(fastrnn.convert(layer)) is own


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_layer_under_the_old_weight_norm_is_converted():
    layer, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    nn.utils.weight_norm(layer, "weight_hh_l0")
    expected = layer(x)[0]
    torch.testing.assert_close(fastrnn.convert(layer)(x)[0], expected)
    layer.weight_hh_l0_g.data.mul_(2)
    assert not torch.equal(layer(x)[0], expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_reverted_layer_has_torchs_own_list_of_weights(kind):
    layer = fastrnn.convert(getattr(nn, kind)(3, 4))
    layer.weight_hh_l0 = nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
    fastrnn.revert(layer)
    kept = vars(layer)["_flat_weights"]
    assert all(a is b for a, b in zip(kept, layer.parameters(), strict=True))
    copy.deepcopy(layer).double()(torch.randn(5, 2, 3).double())


def test_layers_without_kernels_are_converted_and_compute_once_they_are_moved():
    layer = fastrnn.convert(nn.LSTM(3, 4, device="meta", dtype=torch.bfloat16))
    assert type(layer) is fastrnn.LSTM
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in layer.parameters())
    layer.to_empty(device="cpu").float().reset_parameters()
    assert layer(torch.randn(5, 2, 3))[0].shape == (5, 2, 4)


def test_a_model_without_recurrent_layers_passes_through():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    assert fastrnn.convert(model) is model


@pytest.mark.parametrize(
    "function",
    [fastrnn.convert, fastrnn.revert, fastrnn.freeze, fastrnn.thaw],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize(
    ("model", "got"),
    [(None, "NoneType"), ([nn.LSTM(3, 4)], "a list of length 1"), (nn.LSTM, "type")],
    ids=["None", "list", "class"],
)
def test_what_is_no_module_is_refused_by_name(function, model, got):
    with pytest.raises(TypeError, match=f"^model: expected a torch.nn.Module, got {got}$"):
        function(model)
