"""What norms and masks cost a step: stages, what is kept, what is drawn."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from cases import assert_near

import fastrnn
from fastrnn._autograd import operators
from fastrnn._autograd.normed import normed
from fastrnn._call.regularised import parts_of
from fastrnn._call.spec import GATES
from fastrnn._call.weights import NAMES, Weights
from fastrnn._engine import native
from fastrnn._layers import masks
from fastrnn._layers.masked_stack import cell_of
from fastrnn._layers.masked_weights import Call, Direction, met
from fastrnn._layers.plan import spec_of
from fastrnn._program.lowering import engine_arguments
from fastrnn._program.norms import layer_norm
from fastrnn._program.program import Program
from fastrnn._program.tracing import trace

H = 6
ROOTS = ("sqrt", "reciprocal")
ACTIVATIONS = ("sigmoid", "tanh")


def instructions(program: Program, passed: str) -> list[list[str]]:
    """The names of a pass by stage."""
    return [[name for name, *_ in code] for _, _, code in engine_arguments(program, H)[passed]]


def of_layer(kind: str, centred: bool = True, **options: Any) -> Program:
    layer: Any = getattr(fastrnn, kind)(3, H, **options)
    spec = spec_of(layer)
    parts = parts_of(spec, layer.regularised, True, centred)
    assert parts is not None
    return Program.parse(cell_of(spec, parts)[0])


class Normed:
    """The recurrent shares of all gates under one norm."""

    gates = "i f g o"
    states = "h c"
    vectors: ClassVar = {"gamma": "gate"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f, g, o = layer_norm([u.i, u.f, u.g, u.o], p.gamma)
        c = torch.sigmoid(x.f + f) * s.c + torch.sigmoid(x.i + i) * torch.tanh(x.g + g)
        return {"h": torch.sigmoid(x.o + o) * torch.tanh(c), "c": c}


def test_backward_of_a_norm_takes_two_sums_and_no_root():
    backward = instructions(trace(Normed, []), "backward")
    assert [stage.count("add_to_sum") for stage in backward] == [2, 0]
    assert not [name for stage in backward for name in stage if name in ROOTS]


def test_what_units_share_is_computed_once_a_row():
    """The root of the variance forward, what two sums of it make backward."""
    own = of_layer("LSTM", layer_norm="both")
    for passed, numbers in (("forward_saving", {"div", *ROOTS, "keep"}), ("backward", {"div"})):
        last = instructions(own, passed)[-1]
        border = last.index("each_unit")
        assert numbers <= set(last[:border])
        assert not {"sum", "div", *ROOTS} & set(last[border:])


def test_gradients_of_vectors_add_up_row_by_row():
    """The sums do not depend on which rows and units a thread has, nor on other rows."""
    torch.manual_seed(0)
    layer: Any = fastrnn.LSTM(3, 40, layer_norm="recurrent")
    x = torch.randn(150, 9, 3)

    def found(rows: slice) -> torch.Tensor:
        y = layer(x[:, rows])[0]
        return torch.autograd.grad(y.sum(), layer.norm_hh_weight_l0)[0]

    before, whole = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            whole.append(found(slice(0, 9)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*whole)
    apart = torch.stack([found(slice(r, r + 1)) for r in range(9)]).sum(0)
    assert_near(whole[0], apart, 9 * 40, 150)


def test_activations_of_normalised_gates_are_kept():
    backward = instructions(trace(Normed, []), "backward")
    again = [name for stage in backward for name in stage if name in ACTIVATIONS]
    assert again == ["tanh"]  # that of the new cell state, which is there


@pytest.mark.parametrize(("centred", "sums"), [(True, [2, 0]), (False, [2, 2, 0])])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_centred_weights_spare_the_stage_of_the_mean(kind, centred, sums):
    forward = instructions(of_layer(kind, centred, layer_norm="both"), "forward_saving")
    assert [stage.count("add_to_sum") for stage in forward] == sums


def test_norms_of_single_gates_share_their_stages():
    own = of_layer("LSTM", layer_norm="recurrent", layer_norm_over="gate")
    assert [s.count("add_to_sum") for s in instructions(own, "forward_saving")] == [4, 0]
    assert [s.count("add_to_sum") for s in instructions(own, "backward")] == [4, 0]


@pytest.mark.parametrize("over", ["all", "gate"])
def test_centred_weights_give_shares_whose_mean_is_zero(over):
    layer: Any = fastrnn.LSTM(3, H, layer_norm="recurrent", layer_norm_over=over)
    call = Call(spec_of(layer), layer.regularised, True)
    weights = (layer.weight_ih_l0, layer.weight_hh_l0 + 1, layer.bias_ih_l0, layer.bias_hh_l0)
    norms = {f"norm_hh_{n}": getattr(layer, f"norm_hh_{n}_l0") for n in ("weight", "bias")}
    own = Direction(Weights(*weights), norms)
    found = met(call, call.parts(True), own, masks.OfDirection(), torch.rand(5, 2, 3), 0, ())
    share = (torch.rand(9, H) @ found.weights[1].t()).unflatten(-1, (4, H))
    mean = share.mean((-2, -1) if over == "all" else -1)
    assert_near(mean, torch.zeros_like(mean), 4 * H + H, 1)


@pytest.mark.parametrize("over", ["all", "gate"])
@pytest.mark.parametrize("norm", ["input", "recurrent", "both"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"peephole": "ifo"}),
        ("LSTM", {"bias": False, "layer_norm_cell": "inside"}),
        ("LSTM", {"layer_norm_beta": False}),
        ("GRU", {}),
        ("GRU", {"bias": False, "layer_norm_beta": False}),
        ("GRU", {"layer_norm_gamma": False}),
    ],
)
def test_the_node_of_norms_computes_what_torchs_operations_do(
    kind, options, norm, over, monkeypatch
):
    """Values, gradients and second derivatives."""
    options = {"layer_norm": norm, "layer_norm_over": over, **options}
    layer: Any = getattr(fastrnn, kind)(3, H, dtype=torch.float64, **options)
    parts = parts_of(spec_of(layer), layer.regularised, True, True)
    assert parts is not None
    given = {
        name.removesuffix("_l0"): torch.randn_like(parameter).requires_grad_()
        for name, parameter in layer.named_parameters()
    }
    own = Weights(*(given.get(name) for name in NAMES))
    norms = {name: one for name, one in given.items() if name.startswith("norm")}
    factors: list[torch.Tensor] = []
    found = []
    for watched in (True, False):
        monkeypatch.setattr(operators, "is_watched", lambda watched=watched: watched)
        made = [one for one in normed(parts, len(GATES[kind]), own, norms) if one is not None]
        factors = factors or [torch.randn_like(one).requires_grad_() for one in made]
        loss = sum((one * factor).sum() for one, factor in zip(made, factors, strict=True))
        first = torch.autograd.grad(loss, [*given.values()], retain_graph=True)
        again = torch.autograd.grad(loss, [*given.values()], create_graph=True)
        penalty = sum(g.square().sum() for g in again)
        second = torch.autograd.grad(penalty, factors, allow_unused=True)
        found.append([*made, *first, *again, *(g for g in second if g is not None)])
    for of_torch, of_node in zip(*found, strict=True):
        torch.testing.assert_close(of_node, of_torch, rtol=0, atol=1e-12)


def test_the_node_of_norms_asks_for_no_gradient_that_nobody_wants():
    layer: Any = fastrnn.LSTM(3, H, layer_norm="both")
    layer.weight_ih_l0.requires_grad_(False)
    y, _ = layer(torch.randn(4, 2, 3))
    asked = [next_one is not None for next_one, _ in y.grad_fn.next_functions]
    y.sum().backward()
    assert layer.weight_ih_l0.grad is None
    assert layer.weight_hh_l0.grad.abs().sum() > 0
    layer.weight_ih_l0.requires_grad_(True)
    y, _ = layer(torch.randn(4, 2, 3))
    assert sum(asked) + 1 == sum(next_one is not None for next_one, _ in y.grad_fn.next_functions)


@pytest.mark.skipif(native.tensors() is None, reason="this torch has no short way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (6, 5), (48, 17), (51, 64), (768, 133)])
def test_the_engine_takes_off_the_means_of_columns(dtype, rows, columns, each_isa):
    tensors = native.tensors()
    matrix = torch.randn(rows, columns, dtype=dtype) + 3
    for groups in (1, 3):
        if rows % groups:
            assert tensors.centred([matrix], groups, 1) is None
            continue
        exact = matrix.double().unflatten(0, (groups, -1))
        exact = (exact - exact.mean(1, keepdim=True)).flatten(0, 1)
        first, again = tensors.centred([matrix, matrix.clone()], groups, 1)
        alone = tensors.centred([matrix], groups, 3)
        assert (first - exact).abs().max() <= 8 * torch.finfo(dtype).eps * matrix.abs().max()
        assert torch.equal(first, again)
        assert torch.equal(first, alone[0])


@pytest.mark.parametrize("over", ["all", "gate"])
def test_threads_change_nothing_where_weights_are_not_contiguous(over, restore_threads):
    layer = fastrnn.LSTM(5, 100, layer_norm="recurrent", layer_norm_over=over)
    for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
        weight.data = torch.stack([weight.detach(), weight.detach()], -1)[..., 0]
    x, results = torch.randn(7, 3, 5), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        y, _ = layer(x)
        results.append([y, *torch.autograd.grad(y.sum(), list(layer.parameters()))])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(native.tensors() is None, reason="this torch has no short way")
def test_the_engine_centres_plain_matrices_alone():
    matrix = torch.randn(6, 4)
    others = [matrix.t(), matrix.bfloat16(), matrix[0], matrix.to("meta"), matrix[:0], None]
    assert [native.tensors().centred([matrix, other], 1, 1) for other in others] == [None] * 6


@pytest.mark.parametrize(
    "options", [{"layer_norm": "recurrent"}, {"recurrent_dropout": 0.3}], ids=["norm", "mask"]
)
def test_the_stage_that_needs_the_input_has_its_product(options):
    """No stage before keeps it, and added to the recurrent product it is one instruction."""
    first, second = instructions(of_layer("LSTM", **options), "forward_saving")
    assert not {"input", "pre"} & set(first)
    assert second.count("input" if "layer_norm" in options else "pre") == 4


def test_zoneout_chooses_by_its_mask_as_it_is():
    own = of_layer("GRU", zoneout=0.2)
    for passed in ("forward_saving", "backward"):
        names = [name for stage in instructions(own, passed) for name in stage]
        assert "where" in names
        assert not {"lt", "le", "eq", "one_minus"} & set(names)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_masks_of_zoneout_have_their_rate_and_are_those_of_every_dtype(rate):
    layer: Any = fastrnn.LSTM(3, 128, zoneout=(0.0, rate))
    rows, drawn = masks.Rows((32,), (50, 32)), []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(3)
        like = torch.empty(0, dtype=dtype)
        (of,) = masks.draw(spec_of(layer), layer.regularised, rows, like, True)
        mask = of.directions[0].zoneout_c
        assert mask is not None
        assert mask.dtype is dtype
        drawn.append(mask.double())
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert set(drawn[0].unique().tolist()) == {0.0, 1.0}
    deviation = (rate * (1 - rate) / drawn[0].numel()) ** 0.5
    assert abs(float(drawn[0].mean()) - rate) < 5 * deviation


@pytest.mark.parametrize("rate", [1e-3, 1e-4, 1e-9])
def test_the_largest_number_that_is_drawn_drops_nothing(rate, monkeypatch):
    def largest(shape, **options):
        return torch.full(shape, 1 - 2.0**-24, **options)

    monkeypatch.setattr(torch, "rand", largest)
    drawn = masks._scaled(rate, (3,), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(drawn, torch.full((3,), 1 / (1 - rate), dtype=torch.float64))


def test_gates_of_both_shares_have_one_gradient_behind_a_mask():
    """The product that multiplies the masked state is laid out as that of the state itself."""
    masked = engine_arguments(of_layer("GRU", recurrent_dropout=0.3), H)
    assert masked["slots"] == 4
    assert masked["products"] == [(0, 0), (0, 3)]
    assert masked["input_slots"] == (1, 3)
