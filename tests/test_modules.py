"""The layers as modules: torch's values and gradients, and all that client code does to them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import (
    CELLS,
    LAYERS,
    Case,
    assert_same,
    cases,
    cell_state,
    flat,
    like,
    run,
    same_outputs,
    twins,
)
from hypothesis import given
from torch import nn

import fastrnn

F32, F64 = torch.float32, torch.float64


def assert_torchs(case):
    fast, plain = case.pair()
    x, hx = case.input(), case.state()
    got = run(fast, like(x, case.dtype), like(hx, case.dtype))
    expected = run(plain, like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)


@pytest.mark.usefixtures("each_isa")
@given(case=cases())
def test_layers_give_torchs_outputs_and_gradients_for_every_option(case):
    assert_torchs(case)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_give_torchs_outputs_and_gradients_for_every_width(kind, dtype):
    for width in (*range(1, 36), 47, 48, 49, 63, 64, 65, 97, 129):
        for lengths in ((1,) * 3, (4,) * 7):
            assert_torchs(Case(kind, hidden_size=width, lengths=lengths, dtype=dtype))


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_layers_give_torchs_outputs_and_gradients_for_few_steps_of_any_rows(kind, steps, dtype):
    """Backward reads the weights where they lie until there are too many tiles of rows."""
    for width in (5, 33, 64, 100):
        for rows in (1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 18, 19, 40):
            sizes = {"input_size": width + 1, "hidden_size": width}
            assert_torchs(Case(kind, lengths=(steps,) * rows, dtype=dtype, **sizes))


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("batch", [(), (1,), (5,)])
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(k, {"bias": b}) for k in CELLS for b in (True, False)]
    + [("RNNCell", {"nonlinearity": "relu"})],
)
def test_cells_give_torchs_outputs_and_gradients(kind, options, with_state, batch, dtype):
    fast, plain = twins(kind, dtype=dtype, **options)
    x = torch.randn(*batch, 3, dtype=dtype)
    hx = cell_state(kind, *batch, dtype=dtype) if with_state else None
    got = run(fast, like(x, dtype), like(hx, dtype))
    expected = run(plain, like(x, dtype), like(hx, dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, dtype)


@pytest.mark.parametrize("kind", LAYERS)
def test_positional_constructor_arguments_mean_what_they_mean_in_torch(kind):
    arguments = (3, 4, 2, "relu") if kind == "RNN" else (3, 4, 2)
    arguments += (False, True, 0.5, True)
    fast, plain = getattr(fastrnn, kind)(*arguments), getattr(nn, kind)(*arguments)
    assert repr(fast) == repr(plain)
    ignored = {"_flat_weights", "_flat_weight_refs", "_parameters"}
    for name in vars(plain).keys() - ignored:
        assert getattr(fast, name) == getattr(plain, name), name


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_constructor_takes_device_and_dtype(kind):
    layer = getattr(fastrnn, kind)(3, 4, device="meta", dtype=F64)
    assert all(p.is_meta and p.dtype == F64 for p in layer.parameters())


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_equal_seeds_give_torchs_initial_weights(kind):
    torch.manual_seed(5)
    fast = getattr(fastrnn, kind)(3, 4)
    torch.manual_seed(5)
    plain = getattr(nn, kind)(3, 4)
    assert same_outputs(fast.parameters(), plain.parameters())


@given(case=cases())
def test_state_dicts_load_strictly_both_ways(case):
    fast, plain = case.build(), case.build(nn)
    assert list(fast.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(fast.state_dict(), strict=True)
    fresh = case.build()
    fresh.load_state_dict(plain.state_dict(), strict=True)
    assert same_outputs(fresh.parameters(), fast.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_input_and_hx_may_be_given_by_keyword(kind):
    case = Case(kind)
    layer, x, hx = case.build(), case.input(), case.state()
    assert same_outputs(layer(input=x, hx=hx), layer(x, hx))
    cell = getattr(fastrnn, f"{kind}Cell")(3, 4)
    x, hx = torch.randn(2, 3), cell_state(f"{kind}Cell", 2)
    assert same_outputs(cell(input=x, hx=hx), cell(x, hx))


def test_a_list_or_for_one_sequence_a_stacked_tensor_serves_as_lstm_state():
    fast, plain = Case(form="unbatched").pair()
    x, h, c = torch.randn(5, 3), torch.randn(1, 4), torch.randn(1, 4)
    assert_same(flat(fast(x, torch.stack([h, c]))), flat(plain(x, torch.stack([h, c]))), F32)
    assert same_outputs(fast(x, [h, c]), fast(x, (h, c)))
    cell = fastrnn.LSTMCell(3, 4)
    assert same_outputs(cell(x[0], torch.cat([h, c])), cell(x[0], (h[0], c[0])))


@pytest.mark.parametrize("kind", LAYERS)
def test_results_keep_torchs_memory_format_enough_to_be_viewed(kind):
    case = Case(kind, bidirectional=True)
    output, hx = case.build()(case.input())
    assert output.is_contiguous()
    assert output.view(5, 2, 2, 4).shape == (5, 2, 2, 4)
    assert all(h.is_contiguous() for h in flat(hx))


@pytest.mark.parametrize("kind", LAYERS)
def test_flat_weights_are_the_parameters_of_this_moment(kind):
    layer = getattr(fastrnn, kind)(3, 4, 2)
    layer.weight_ih_l0 = nn.Parameter(torch.zeros_like(layer.weight_ih_l0))
    layer.double()
    expected = list(layer.parameters())
    assert all(a is b for a, b in zip(layer._flat_weights, expected, strict=True))
    nested = [w for weights in layer.all_weights for w in weights]
    assert all(a is b for a, b in zip(nested, expected, strict=True))
    assert "_flat_weights" not in vars(layer)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same_and_share_nothing(kind, clone):
    layer = getattr(fastrnn, kind)(3, 4)
    x = torch.randn(2, 3)
    twin = clone(layer)
    assert type(twin) is type(layer)
    assert same_outputs(twin(x), layer(x))
    for p in twin.parameters():
        p.data.zero_()
    assert not same_outputs(twin(x), layer(x))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_layer_changes_dtype_and_comes_back(kind):
    layer = getattr(fastrnn, kind)(3, 4)
    x = torch.randn(2, 3)
    assert all(y.dtype == F64 for y in flat(layer.double()(x.double())))
    assert all(y.dtype == F32 for y in flat(layer.float()(x)))


def test_a_layer_built_on_meta_computes_once_it_has_memory():
    layer = fastrnn.LSTM(3, 4, device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(torch.randn(5, 2, 3))[0].isfinite().all()


def test_helpers_that_subclasses_call_still_work():
    layer = fastrnn.LSTM(3, 4)
    x, hx = torch.randn(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    layer.flatten_parameters()
    layer.check_forward_args(x, hx, None)
    assert layer.get_expected_hidden_size(x, None) == (1, 2, 4)
    permuted = layer.permute_hidden(hx, torch.tensor([1, 0]))
    assert permuted[0].shape == (1, 2, 4)
    with pytest.raises(ValueError, match="type"):
        layer.check_input(x.double(), None)
    replica = layer._replicate_for_data_parallel()
    assert replica._flat_weights_names == layer._flat_weights_names


def test_a_data_parallel_replica_computes_with_its_own_weights():
    layer = fastrnn.GRU(3, 4)
    replica = layer._replicate_for_data_parallel()
    replica._former_parameters = {}
    for name, parameter in layer.named_parameters():
        setattr(replica, name, 2 * parameter)
    doubled = copy.deepcopy(layer)
    for parameter in doubled.parameters():
        parameter.data.mul_(2)
    x = torch.randn(5, 2, 3)
    assert same_outputs(replica(x), doubled(x))


class OrthogonalLSTM(fastrnn.LSTM):
    """The idiom of many models: other initial weights, checks, an output of one's own."""

    def reset_parameters(self):
        for name, parameter in self.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, input, hx=None):
        self.flatten_parameters()
        self.check_input(input, None)
        output, (h, c) = super().forward(input, hx)
        return output * 2, (h, c)


def test_a_subclass_may_override_reset_parameters_and_forward():
    layer = OrthogonalLSTM(3, 4, num_layers=2)
    assert not layer.bias_ih_l0.any()
    plain = nn.LSTM(3, 4, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3)
    assert_same([layer(x)[0]], [plain(x)[0] * 2], F32)
    assert isinstance(copy.deepcopy(layer), OrthogonalLSTM)


def test_layers_are_instances_of_torchs():
    for kind in (*LAYERS, *CELLS):
        assert isinstance(getattr(fastrnn, kind)(3, 4), getattr(nn, kind))
    assert isinstance(fastrnn.GRU(3, 4), nn.RNNBase)


@pytest.mark.usefixtures("each_road")
def test_hooks_of_every_kind_fire():
    layer, seen = fastrnn.LSTM(3, 4), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"), with_kwargs=True)
    layer.register_full_backward_pre_hook(lambda *_: seen.append("backward"))
    layer.register_full_backward_hook(lambda *_: seen.append("done"))
    layer.weight_hh_l0.register_hook(lambda grad: seen.append("gradient"))
    output, _ = layer(torch.randn(5, 2, 3, requires_grad=True), hx=None)
    output.sum().backward()
    assert seen[:2] == ["before", "after"]
    assert set(seen[2:]) == {"backward", "gradient", "done"}


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_a_tied_weight_collects_the_gradients_of_both_its_places(kind):
    fast, plain = Case(kind, input_size=4, num_layers=2, dtype=F64).pair()
    x = torch.randn(5, 2, 4, dtype=F64)
    for layer in (fast, plain):
        layer.weight_hh_l1 = layer.weight_hh_l0
        layer(x)[0].square().sum().backward()
    assert_same([fast.weight_hh_l0.grad], [plain.weight_hh_l0.grad], F64)
