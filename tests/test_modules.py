"""The layers as modules: torch's values and gradients, and all that client code does to them."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from cases import CELLS, LAYERS, Case, assert_same, cases, flat, like, run
from hypothesis import given
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import fastrnn

F32, F64 = torch.float32, torch.float64


def same_outputs(a, b):
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def cell_pair(kind, **options):
    fast = getattr(fastrnn, kind)(3, 4, **options)
    plain = getattr(nn, kind)(3, 4, **options)
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def cell_state(kind, *batch, dtype=F32):
    h, c = torch.randn(*batch, 4, dtype=dtype), torch.randn(*batch, 4, dtype=dtype)
    return (h, c) if kind == "LSTMCell" else h


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
    fast, plain = cell_pair(kind, dtype=dtype, **options)
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


# ---- weights are read by name at every call ----


def expect_same_after(change, kind="LSTM", **options):
    """``change`` done to fastrnn's layer and to torch's; both must compute the same afterwards."""
    fast, plain = Case(kind, **options).pair()
    x = torch.randn(5, 2, 3)
    before = fast(x)
    for layer in (fast, plain):
        torch.manual_seed(6)
        change(layer)
    assert not same_outputs(fast(x), before)
    assert_same(flat(fast(x)), flat(plain(x)), F32)
    return fast, plain


def test_edits_of_data_are_seen():
    expect_same_after(lambda layer: layer.weight_hh_l0.data.mul_(2))
    expect_same_after(lambda layer: setattr(layer.bias_ih_l0, "data", torch.ones(16)))


def test_a_replaced_parameter_is_seen():
    expect_same_after(lambda layer: setattr(layer, "weight_hh_l0", nn.Parameter(torch.ones(16, 4))))


def test_an_optimizer_step_is_seen():
    def step(layer):
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        layer(torch.randn(5, 2, 3))[0].sum().backward()
        optimizer.step()

    expect_same_after(step)


def test_old_weight_norm_is_seen_and_stays_differentiable():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        fast, plain = Case().pair()
        for layer in (fast, plain):
            nn.utils.weight_norm(layer, "weight_hh_l0")
            layer.weight_hh_l0_g.data.mul_(2)
    x = torch.randn(5, 2, 3)
    for g, e in zip(run(fast, x, None), run(plain, x, None), strict=True):
        assert_same(g, e, F32)
    nn.utils.remove_weight_norm(fast, "weight_hh_l0")
    assert_same(flat(fast(x)), flat(plain(x)), F32)


def test_new_weight_norm_is_seen_and_stays_differentiable():
    def change(layer):
        parametrizations.weight_norm(layer, "weight_hh_l0")
        layer.parametrizations.weight_hh_l0.original0.data.mul_(2)

    fast, plain = Case().pair()
    x = torch.randn(5, 2, 3)
    change(fast)
    change(plain)
    # torch's layer caches what the parametrization made of the weight, so it gets it by hand.
    expected = Case().build(nn)
    expected.load_state_dict({name: getattr(fast, name) for name in expected.state_dict()})
    assert_same(flat(fast(x)), flat(expected(x)), F32)
    run(fast, x, None)
    fast.zero_grad()
    fast(x)[0].sum().backward()
    assert fast.parametrizations.weight_hh_l0.original0.grad.any()


@pytest.mark.parametrize("kind", CELLS)
def test_a_parametrized_cell_computes_with_the_parametrized_weight(kind):
    fast, plain = cell_pair(kind)
    x = torch.randn(2, 3)
    for cell in (fast, plain):
        parametrizations.weight_norm(cell, "weight_hh")
        cell.parametrizations.weight_hh.original0.data.mul_(2)
    hx = cell_state(kind, 2)
    assert_same(flat(fast(x, hx)), flat(plain(x, hx)), F32)


def test_a_parametrization_is_seen_and_its_removal_too():
    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = fastrnn.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    before = layer(x)
    parametrize.register_parametrization(layer, "weight_hh_l0", Double())
    doubled = layer(x)
    assert not same_outputs(doubled, before)
    with parametrize.cached():
        assert same_outputs(layer(x), doubled)
    assert same_outputs(copy.deepcopy(layer)(x), doubled)
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=False)
    assert type(layer) is fastrnn.GRU
    assert same_outputs(layer(x), before)


def test_spectral_norm_is_seen():
    fast, _ = Case().pair()
    x = torch.randn(5, 2, 3)
    before = fast(x)
    nn.utils.spectral_norm(fast, "weight_hh_l0")
    assert not same_outputs(fast(x), before)


def test_pruning_is_seen():
    mask = torch.zeros(16, 4)
    layer = fastrnn.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    pruned = copy.deepcopy(layer)
    prune.custom_from_mask(pruned, "weight_hh_l0", mask)
    layer.weight_hh_l0.data.zero_()
    assert same_outputs(pruned(x), layer(x))
    prune.remove(pruned, "weight_hh_l0")
    assert same_outputs(pruned(x), layer(x))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_functional_call_computes_with_the_weights_that_it_is_given(kind):
    layer, other = (getattr(fastrnn, kind)(3, 4) for _ in range(2))
    x = torch.randn(2, 3)
    weights = {n: p.detach().requires_grad_() for n, p in other.named_parameters()}
    got = torch.func.functional_call(layer, weights, (x,))
    assert same_outputs(got, other(x))
    assert not same_outputs(got, layer(x))
    sum(y.sum() for y in flat(got)).backward()
    assert all(w.grad is not None for w in weights.values())


def test_weights_dropped_by_hand_in_the_way_of_awd_lstm_are_seen():
    class WeightDrop(nn.Module):
        def __init__(self, rnn):
            super().__init__()
            self.rnn = rnn
            raw = rnn.weight_hh_l0
            del rnn.weight_hh_l0
            self.raw = nn.Parameter(raw.detach().clone())
            rnn.weight_hh_l0 = self.raw.clone()

        def forward(self, x):
            self.rnn.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training)
            return self.rnn(x)

    model = WeightDrop(fastrnn.LSTM(3, 4))
    x = torch.randn(5, 2, 3)
    model(x)[0].sum().backward()
    assert model.raw.grad.any()
    first, second = model(x), model(x)
    assert not same_outputs(first, second)


def test_a_deleted_weight_is_an_error_and_not_a_stale_weight():
    layer = fastrnn.LSTM(3, 4)
    del layer.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        layer(torch.randn(5, 2, 3))


# ---- torch's machinery around the weights ----


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
