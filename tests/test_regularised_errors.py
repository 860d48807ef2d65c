"""What regularised layers refuse, and what else of torch's they live with."""

from __future__ import annotations

import copy
from typing import Any

import numpy
import pytest
import torch
from cases import OLD_TORCH, flat
from regularised_options import ONE_OF_EACH, one_of_each
from torch import Tensor
from torch.func import functional_call, grad, vmap

import fastrnn

F64 = torch.float64

MISTAKES = [
    ("LSTM", {"recurrent_dropout": 1.0}, "recurrent_dropout: expected a rate of at least 0 and"),
    ("GRU", {"input_dropout": -0.1}, "input_dropout: expected a rate of at least 0 and less than"),
    ("RNN", {"weight_dropout": "0.5"}, "weight_dropout: expected a rate .* got '0.5'"),
    ("LSTM", {"zoneout": (0.1, 1.5)}, "zoneout: expected a rate of at least 0 .* got 1.5"),
    ("LSTM", {"zoneout": (0.1,)}, "zoneout: expected a rate of h, or rates of h and c"),
    ("GRU", {"zoneout": (0.1, 0.1)}, "zoneout: expected a rate of h alone in GRU, which has no c"),
    ("RNNCell", {"zoneout": (0.1, 0.1)}, "zoneout: expected a rate of h alone in RNNCell"),
    (
        "LSTM",
        {"recurrent_dropout": 0.1, "recurrent_dropout_on": "c"},
        "recurrent_dropout_on: expected one of 'h', 'candidate', got 'c'",
    ),
    (
        "RNN",
        {"recurrent_dropout": 0.1, "recurrent_dropout_on": "candidate"},
        "recurrent_dropout_on: expected 'h' in RNN, whose candidate is its state",
    ),
    (
        "LSTM",
        {
            "recurrent_dropout": 0.1,
            "recurrent_dropout_on": "candidate",
            "recurrent_dropout_gates": "separate",
        },
        "recurrent_dropout_gates: expected 'tied' with recurrent_dropout_on='candidate'",
    ),
    ("LSTM", {"weight_dropout_by": "row"}, "weight_dropout_by: expected weight_dropout with it"),
    ("LSTM", {"input_dropout_per": "step"}, "input_dropout_per: expected input_dropout with it"),
    ("LSTM", {"layer_norm": "output"}, "layer_norm: expected one of '', 'input', 'recurrent'"),
    ("LSTM", {"layer_norm_eps": 1e-3}, "layer_norm_eps: expected layer_norm or layer_norm_cell"),
    ("LSTM", {"layer_norm": "both", "layer_norm_eps": 0}, "layer_norm_eps: expected a positive"),
    (
        "LSTM",
        {"layer_norm_cell": "inside", "layer_norm_over": "gate"},
        "layer_norm_over: expected layer_norm with it",
    ),
    ("GRU", {"layer_norm_cell": "inside"}, "layer_norm_cell: expected 'none' in GRU, which has no"),
    (
        "GRU",
        {"layer_norm": "both", "reset_after": False},
        "layer_norm_over: expected 'gate' with reset_after=False",
    ),
    (
        "LSTM",
        {"recurrent_dropout": 0.1, "proj_size": 2},
        "recurrent_dropout_on: expected 'candidate' with proj_size",
    ),
    (
        "LSTM",
        {"zoneout": 0.1, "proj_size": 2},
        r"zoneout: expected \(0, p\), of c alone, with proj",
    ),
]


@pytest.mark.parametrize(("kind", "options", "part"), MISTAKES)
def test_bad_options_are_refused_by_name(kind, options, part):
    with pytest.raises(ValueError, match=part):
        getattr(fastrnn, kind)(3, 4, **options)


@one_of_each
def test_a_call_with_a_mistake_raises_what_the_plain_layer_raises(kind, options):
    x, state = torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    hx = (state, state) if kind == "LSTM" else state
    wrong: list[tuple[Any, ...]] = [
        (torch.randn(5, 2, 4),),
        (torch.randn(5, 2, 3, 1),),
        (x.double(),),
        (x, tuple(s[:, :1] for s in hx) if kind == "LSTM" else hx[:, :1]),
        (x, hx[0] if kind == "LSTM" else (hx, hx)),
        (x, tuple(s.double() for s in hx) if kind == "LSTM" else hx.double()),
        (torch.randn(0, 2, 3),),
    ]
    plain, own = (getattr(fastrnn, kind)(3, 4, **more) for more in ({}, options))
    for given in wrong:
        with pytest.raises(Exception) as expected:  # noqa: PT011
            plain(*given)
        with pytest.raises(expected.type) as caught:
            own(*given)
        assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("keyword", ["lengths", "resets"])
def test_lengths_and_resets_are_checked(keyword):
    layer = fastrnn.LSTM(3, 4, recurrent_dropout=0.3, layer_norm="both")
    with pytest.raises(ValueError, match=f"{keyword}: expected"):
        layer(torch.randn(5, 2, 3), **{keyword: torch.ones(7)})
    with pytest.raises(ValueError, match=f"{keyword}: expected"):
        layer(torch.randn(5, 3), **{keyword: torch.ones(7)})


def test_torchs_layer_does_not_take_the_place_of_one_with_options():
    with pytest.raises(ValueError, match="expected layers that torch has too"):
        fastrnn.revert(torch.nn.Sequential(fastrnn.GRU(3, 4, zoneout=0.1)))


def test_norms_have_the_names_and_shapes_and_beginnings_that_are_promised():
    options = {"layer_norm": "both", "layer_norm_cell": "inside", "layer_norm_beta": "cell"}
    layer = fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, **options)
    shapes = {n: tuple(p.shape) for n, p in layer.named_parameters() if n.startswith("norm")}
    ends = [f"_l{k}{r}" for k in (0, 1) for r in ("", "_reverse")]
    assert shapes == {
        f"norm_{name}{end}": (size,)
        for end in ends
        for name, size in (
            *(("ih_weight", 16), ("hh_weight", 16)),
            *(("cell_weight", 4), ("cell_bias", 4)),
        )
    }
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7)
    layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        if name.startswith("norm"):
            assert (parameter == float("weight" in name)).all()
        else:
            assert parameter.abs().max() <= 0.5


def test_options_draw_nothing_from_the_generator_that_torch_does_not():
    torch.manual_seed(5)
    plain = torch.nn.LSTM(3, 4, num_layers=2)
    torch.manual_seed(5)
    own = fastrnn.LSTM(3, 4, num_layers=2, layer_norm="both", zoneout=0.1, weight_dropout=0.2)
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, own.get_parameter(name))


def test_rates_may_be_numbers_of_numpy_as_torchs_dropout_may():
    half = numpy.float32(0.5)
    options = {"recurrent_dropout": half, "zoneout": (half, numpy.int64(0)), "cell_clip": half}
    layer = fastrnn.LSTM(3, 4, layer_norm="both", layer_norm_eps=half, **options)
    plain = {"recurrent_dropout": 0.5, "zoneout": 0.5, "cell_clip": 0.5}
    assert repr(layer) == repr(fastrnn.LSTM(3, 4, layer_norm="both", layer_norm_eps=0.5, **plain))
    with pytest.raises(ValueError, match="zoneout: expected a rate of at least 0 and less than 1"):
        fastrnn.LSTM(3, 4, zoneout=numpy.float32(1))


def test_repr_says_the_options_and_only_those():
    layer = fastrnn.LSTM(3, 4, zoneout=0.1, layer_norm="both", peephole="o")
    assert repr(layer) == "LSTM(3, 4, peephole='o', zoneout=(0.1, 0.0), layer_norm='both')"


# ---- what else sees the call ----


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize(("kind", "options"), ONE_OF_EACH[3::3], ids=str)
def test_equal_seeds_give_equal_results_of_a_compiled_layer(kind, options, dynamic):
    torch._dynamo.reset()
    layer = getattr(fastrnn, kind)(3, 4, num_layers=2, dtype=F64, **options)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    assert_as_compiled(layer, compiled)


@pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 has no constant of what it took for a variable")
def test_a_compiled_block_sees_another_number_in_another_layer():
    class Block(torch.nn.Module):
        def __init__(self, eps):
            super().__init__()
            options = {"layer_norm": "both", "layer_norm_eps": eps, "recurrent_dropout": eps}
            self.rnn = fastrnn.LSTM(3, 4, dtype=F64, **options)

        def forward(self, x):
            return self.rnn(x)

    torch._dynamo.reset()
    for eps in (0.1, 0.2, 0.3):
        block = Block(eps)
        block.compile(fullgraph=True, backend="aot_eager")  # one code for all of them
        assert_as_compiled(block.rnn, block)


def assert_as_compiled(layer, compiled):
    x = torch.randn(5, 2, 3, dtype=F64)
    results = []
    for one in (layer, compiled):
        torch.manual_seed(4)
        with torch._dynamo.config.patch(allow_rnn=True):
            outputs = flat(one(x))
        gradients = torch.autograd.grad(sum(y.sum() for y in outputs), list(layer.parameters()))
        results.append([*outputs, *gradients])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@one_of_each
def test_gradients_of_each_sample_under_vmap(kind, options):
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64, **options)
    x = torch.randn(3, 5, 2, 3, dtype=F64)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, one):
        return sum(y.square().sum() for y in flat(functional_call(layer, parameters, (one,))))

    torch.manual_seed(5)
    got = vmap(grad(loss), in_dims=(None, 0), randomness="same")(parameters, x)
    for v, one in enumerate(x):
        torch.manual_seed(5)
        for name, expected in grad(loss)(parameters, one).items():
            torch.testing.assert_close(got[name][v], expected)


@one_of_each
def test_many_gradients_at_once_are_those_one_after_the_other(kind, options):
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64, **options)
    y = layer(torch.randn(5, 2, 3, dtype=F64))[0]
    d_y, parameters = torch.randn(3, *y.shape, dtype=F64), list(layer.parameters())
    got = torch.autograd.grad(y, parameters, d_y, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(y, parameters, one, retain_graph=True) for one in d_y]
    for own, expected in zip(got, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(own, torch.stack(expected))


def test_masks_under_vmap_are_drawn_for_each_sample_when_asked():
    layer = fastrnn.GRU(3, 4, recurrent_dropout=0.5, zoneout=0.3)
    x = torch.randn(5, 2, 3).expand(4, -1, -1, -1)
    different = vmap(lambda one: layer(one)[0], randomness="different")(x)
    assert not torch.equal(different[0], different[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    options = {"recurrent_dropout": 0.3, "zoneout": (0.1, 0.1), "layer_norm": "both"}
    layer = fastrnn.LSTM(3, 4, **options)
    x = torch.randn(5, 2, 3)
    torch.manual_seed(1)
    expected = layer(x)[0]
    with torch.autocast("cpu", dtype):
        torch.manual_seed(1)
        got = layer(x)[0]
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=0.05)
    torch.manual_seed(1)
    got = layer.to(dtype)(x.to(dtype))[0]
    assert got.dtype is dtype
    assert got.isfinite().all()


@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize(
    ("dtype", "low"), [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)], ids=str
)
@one_of_each
def test_autocast_takes_layers_of_the_other_half_precision(kind, options, dtype, low):
    layer = getattr(fastrnn, kind)(3, 4, bidirectional=True, dtype=dtype, **options)
    wide = copy.deepcopy(layer).float()
    x, h = torch.randn(5, 2, 3, dtype=dtype), torch.rand(2, 2, 4, dtype=dtype)
    hx = (h, h) if kind == "LSTM" else h
    torch.manual_seed(1)
    expected = flat(wide(x.float(), torch.utils._pytree.tree_map(Tensor.float, hx)))
    torch.manual_seed(1)
    with torch.autocast("cpu", low):
        got = flat(layer(x, hx))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g.float(), e, rtol=0.03, atol=0.03)
    got[0].float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {dtype}


def test_shapes_are_known_without_memory():
    options = {"recurrent_dropout": 0.3, "zoneout": (0.1, 0.1), "layer_norm": "both"}
    layer = fastrnn.LSTM(3, 4, bidirectional=True, device="meta", **options)
    y, (h, c) = layer(torch.randn(5, 2, 3, device="meta"))
    assert (y.shape, h.shape, c.shape) == ((5, 2, 8), (2, 2, 4), (2, 2, 4))
