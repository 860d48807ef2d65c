"""Regularised layers and cells, called in every way that a layer can be called."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace
from typing import Any

import pytest
import regularised_loops as loops
import torch
from cases import (
    Called,
    Case,
    OnReference,
    assert_gradients_of_finite_differences,
    assert_same,
    cases,
    flat,
    lengths_of,
    like,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from regularised_options import one_of_each, options_of
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn._call.weights import by_direction
from fastrnn._layers import masks
from fastrnn._layers.masked_stack import run_stack
from fastrnn._layers.masked_weights import Call, Direction
from fastrnn._layers.plan import spec_of

F64 = torch.float64
T, B, H = 6, 4, 5


def assert_computes_the_equations(layer: Any, case: Case, **keywords: Any) -> None:
    x, hx = case.input(), case.state()
    ways = Called(layer, **keywords), OnReference(layer, **keywords)
    got, expected = (run(way, like(x, case.dtype), like(hx, case.dtype)) for way in ways)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)
    with torch.no_grad():
        torch.manual_seed(1)
        assert_same(flat(layer(x, hx, **keywords)), got[0], case)


@pytest.mark.usefixtures("each_isa")
@settings(deadline=None)
@given(case=cases(dtype=F64), data=st.data())
def test_every_option_with_every_other_is_what_the_equations_say(case, data):
    options = data.draw(options_of(case.kind, case.proj_size > 0))
    options["reverse"] = not case.bidirectional and data.draw(st.booleans())
    keywords: dict[str, Any] = {"return_states": data.draw(st.booleans())}
    if case.form == "dense":
        if data.draw(st.booleans()):
            keywords["lengths"] = data.draw(lengths_of(case))
        if data.draw(st.booleans()):
            keywords["resets"] = torch.rand(case.input().shape[:-1]) < 0.3
    layer = case.build(**options).train(data.draw(st.booleans()))
    assert_computes_the_equations(layer, case, **keywords)


@pytest.mark.usefixtures("each_road")
@one_of_each
def test_equal_seeds_give_equal_results_by_every_road(kind, options):
    case = Case(kind, hidden_size=9, num_layers=2, bidirectional=True, dtype=F64, lengths=(6,) * 5)
    layer, x = case.build(**options), case.input()
    got = run(layer, like(x, F64), None)
    for g, e in zip(got, run(OnReference(layer), like(x, F64), None), strict=True):
        assert_same(g, e, case)


@pytest.mark.usefixtures("each_isa")
@one_of_each
def test_gradients_are_those_of_finite_differences(kind, options):
    case = Case(kind, hidden_size=3, dtype=F64, lengths=(3, 3))
    assert_gradients_of_finite_differences(case.build(**options), case)


def split(layer: Any) -> tuple[Any, list[Direction]]:
    """What a layer computes, and what its directions have learned."""
    spec = spec_of(layer)
    flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
    norms = [n for n, _ in layer.named_parameters() if n.startswith("norm")]
    per = len(norms) // (spec.num_layers * spec.directions)
    found, at = [], 0
    for of_layer in by_direction(spec, flat_weights):
        for own in of_layer:
            names = norms[at : at + per]
            own_norms = {n.split("_l")[0]: getattr(layer, n) for n in names}
            found.append(Direction(own, own_norms))
            at += per
    return spec, found


def of_one(drawn: Any, b: int, steps: int, rows: Tensor | None) -> Any:
    """The masks of a sequence, of ``steps`` steps or of those ``rows`` of a packed batch."""

    def of_steps(mask: Any) -> Any:
        if mask is None:
            return None
        return mask[:steps, b : b + 1] if rows is None else mask[rows].unsqueeze(1)

    def either(mask: Any) -> Any:
        return mask[b : b + 1] if mask.dim() == 2 and len(mask) == B else of_steps(mask)

    return [
        masks.OfLayer(
            [either(mask) for mask in of_layer.input],
            [
                masks.OfDirection(
                    own.weight,
                    [either(mask) for mask in own.recurrent],
                    of_steps(own.zoneout_h),
                    of_steps(own.zoneout_c),
                )
                for own in of_layer.directions
            ],
            of_steps(of_layer.output),
        )
        for of_layer in drawn
    ]


@pytest.mark.parametrize("form", ["lengths", "packed", "sorted"])
@pytest.mark.parametrize("per", ["call", "step"])
def test_every_sequence_of_a_ragged_batch_has_its_own_masks(form, per):
    options = {"input_dropout": 0.3, "recurrent_dropout": 0.3, "zoneout": (0.2, 0.3)}
    options |= {"input_dropout_per": per, "recurrent_dropout_per": per, "weight_dropout": 0.2}
    layer: Any = fastrnn.LSTM(
        3, H, num_layers=2, bidirectional=True, dropout=0.4, layer_norm="both", dtype=F64, **options
    )
    lengths = [6, 5, 3, 1] if form == "sorted" else [3, 6, 1, 5]
    x = torch.randn(T, B, 3, dtype=F64)
    hx = torch.randn(4, B, H, dtype=F64), torch.randn(4, B, H, dtype=F64)
    spec, directions = split(layer)
    call = Call(replace(spec, dropout=0.4), layer.regularised, True)
    given_x: Any = x
    if form == "lengths":
        call = call._replace(lengths=torch.tensor(lengths))
        rows = masks.Rows((B,), (T, B))
    else:
        given_x = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=form == "sorted")
        rows = masks.Rows((B,), (sum(lengths),))
    drawn = masks.draw(call.spec, layer.regularised, rows, x, True)
    y, (h, c) = run_stack(call, given_x, hx, directions, drawn)
    if form != "lengths":
        place = pack_padded_sequence(
            torch.arange(T * B).reshape(T, B, 1),
            torch.tensor(lengths),
            enforce_sorted=form == "sorted",
        ).data.flatten()
        y, _ = pad_packed_sequence(y)
    for b, n in enumerate(lengths):
        own_rows = None if form == "lengths" else (place % B == b).nonzero().flatten()
        of_b = of_one(drawn, b, n, own_rows)
        alone = call._replace(lengths=None)
        own_hx = tuple(state[:, b : b + 1] for state in hx)
        y_b, (h_b, c_b) = run_stack(alone, x[:n, b : b + 1], own_hx, directions, of_b)
        torch.testing.assert_close(y[:n, b], y_b[:, 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(h[:, b], h_b[:, 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(c[:, b], c_b[:, 0], rtol=0, atol=1e-12)


def test_stacks_in_both_directions_are_their_layers_one_after_the_other():
    options = {"input_dropout": 0.3, "input_dropout_gates": "separate"}
    options |= {"recurrent_dropout": 0.3, "recurrent_dropout_gates": "separate"}
    layer: Any = fastrnn.LSTM(3, H, num_layers=2, bidirectional=True, dtype=F64, **options)
    spec, directions = split(layer)
    x = torch.randn(T, B, 3, dtype=F64)
    hx = torch.randn(4, B, H, dtype=F64), torch.randn(4, B, H, dtype=F64)
    torch.manual_seed(7)
    drawn = masks.draw(spec, layer.regularised, masks.Rows((B,), (T, B)), x, True)
    torch.manual_seed(7)
    y, (h, c) = layer(x, hx)
    data, finals = x, []
    for number, of_layer in enumerate(drawn):
        outputs = []
        for d, own in enumerate(of_layer.directions):
            at = 2 * number + d
            given_x = data.flip(0) if d else data
            given_hx = hx[0][at], hx[1][at]
            weights = directions[at].weights
            out, *final = loops.keras_lstm(
                given_x, *given_hx, weights, of_layer.input, own.recurrent
            )
            outputs.append(out.flip(0) if d else out)
            finals.append(final)
        data = torch.cat(outputs, -1)
    torch.testing.assert_close(y, data, rtol=0, atol=1e-12)
    for got, expected in zip((h, c), zip(*finals, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-12)


def powers_of_the_mask(per: str, packed: bool) -> Tensor:
    """[T, B, H] from an RNN that multiplies its state by the mask of each step, and ones."""
    options = {"recurrent_dropout": 0.5, "recurrent_dropout_per": per, "activation": "identity"}
    layer: Any = fastrnn.RNN(3, H, bias=False, dtype=F64, **options)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.copy_(torch.eye(H))
    x, hx = torch.randn(T, B, 3, dtype=F64), torch.ones(1, B, H, dtype=F64)
    if not packed:
        return layer(x, hx)[0]
    lengths = torch.tensor([6, 6, 6, 6])
    y, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), hx)
    return pad_packed_sequence(y)[0]


@pytest.mark.parametrize("packed", [False, True])
def test_one_mask_a_call_is_one_mask_of_all_steps(packed):
    torch.manual_seed(3)
    there = powers_of_the_mask("call", packed) != 0
    assert (there == there[0]).all()
    assert there[0].any()
    assert not there[0].all()
    there = powers_of_the_mask("step", packed) != 0
    assert there[0].any()
    assert not there[-1].any()


@one_of_each
@pytest.mark.parametrize("form", ["batch_first", "one sequence"])
def test_the_form_of_a_batch_changes_no_mask(kind, options, form):
    many = B if form == "batch_first" else 1
    layer = getattr(fastrnn, kind)(3, H, num_layers=2, dropout=0.3, dtype=F64, **options)
    x, states = torch.randn(T, many, 3, dtype=F64), torch.randn(2, many, H, dtype=F64)
    resets = torch.rand(T, many) < 0.3
    given_x, hx, keywords = x, states, {"resets": resets}
    results = []
    for again in (False, True):
        if again and form == "batch_first":
            layer.batch_first = True
            given_x, keywords = x.transpose(0, 1), {"resets": resets.t()}
        elif again:
            given_x, hx, keywords = x[:, 0], states[:, 0], {"resets": resets[:, 0]}
        torch.manual_seed(2)
        own = layer(given_x, (hx, hx) if kind == "LSTM" else hx, return_states=True, **keywords)
        results.append(flat(own))
    (y, *others), (y_again, *others_again) = results
    torch.testing.assert_close(y_again if many == 1 else y_again.transpose(0, 1), y.squeeze(1))
    for one, other in zip(others, others_again, strict=True):
        torch.testing.assert_close(other, one.squeeze(-2) if many == 1 else one)


@one_of_each
def test_eval_and_training_are_what_they_should_be(kind, options):
    layer = getattr(fastrnn, kind)(3, H, num_layers=2, **options).eval()
    x = torch.randn(T, B, 3)
    state = torch.get_rng_state()
    same = torch.equal(layer(x)[0], layer(x)[0])
    drawn = not torch.equal(state, torch.get_rng_state())
    assert drawn == (not same) == ("weight_dropout_in_eval" in options)
    draws = "layer_norm" not in options or "recurrent_dropout" in options or "zoneout" in options
    layer.train()
    assert torch.equal(layer(x)[0], layer(x)[0]) != draws


@one_of_each
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_a_cell_is_one_step_of_the_layer(kind, options, rank, training):
    layer = getattr(fastrnn, kind)(3, H, dtype=F64, **options).train(training)
    cell = getattr(fastrnn, f"{kind}Cell")(3, H, dtype=F64, **options).train(training)
    cell.load_state_dict({name.replace("_l0", ""): w for name, w in layer.state_dict().items()})
    sizes = (2,) if rank == 2 else ()
    x, h, c = (torch.randn(*sizes, n, dtype=F64) for n in (3, H, H))
    with_layers = [s[None] for s in (h, c)]
    torch.manual_seed(5)
    _, expected = layer(x[None], tuple(with_layers) if kind == "LSTM" else with_layers[0])
    torch.manual_seed(5)
    got = cell(x, (h, c) if kind == "LSTM" else h)
    assert_same(flat(got), [s[0] for s in flat(expected)], F64)


@one_of_each
def test_a_layer_survives_copies_and_files(kind, options):
    layer = getattr(fastrnn, kind)(3, H, **options)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    x = torch.randn(T, B, 3)
    twins = copy.deepcopy(layer), torch.load(file, weights_only=False)
    for twin in (*twins, pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert twin.regularised == layer.regularised
        results = []
        for one in (twin, layer):
            torch.manual_seed(2)
            results.append(one(x)[0])
        assert torch.equal(*results)
    other = getattr(fastrnn, kind)(3, H, **options)
    other.load_state_dict(layer.state_dict())


def test_rates_that_are_zero_make_torchs_layer():
    options: dict[str, Any] = {"input_dropout": 0, "recurrent_dropout": 0.0, "zoneout": (0, 0)}
    layer = fastrnn.LSTM(3, H, weight_dropout=0.0, **options)
    assert layer.regularised is None
    assert isinstance(fastrnn.revert(layer), torch.nn.LSTM)


def test_what_says_how_an_idle_option_works_makes_no_difference():
    how = {"input_dropout_gates": "separate", "recurrent_dropout_per": "step"}
    rates = {"input_dropout": 0, "recurrent_dropout": 0.0, "weight_dropout": 0}
    layer = fastrnn.GRU(3, H, **rates, **how, weight_dropout_by="row", layer_norm="")
    assert layer.regularised is None
    layer = fastrnn.LSTM(3, H, layer_norm="", layer_norm_cell="none", layer_norm_eps=0.1)
    assert isinstance(fastrnn.revert(layer), torch.nn.LSTM)
    options = {"layer_norm": "", "layer_norm_over": "gate", "layer_norm_cell": "inside"}
    layer = fastrnn.LSTM(3, H, recurrent_dropout=0.0, recurrent_dropout_per="step", **options)
    assert repr(layer) == f"LSTM(3, {H}, layer_norm_cell='inside')"
