"""The options that torch's layers lack: every one against the plain equations, on every ISA."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import (
    CELLS,
    LAYERS,
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
from finite_differences import assert_second_derivatives
from hypothesis import assume, given
from hypothesis import strategies as st

import fastrnn
from fastrnn import functional, reference
from fastrnn.variants import ACTIVATIONS

F32, F64 = torch.float32, torch.float64
NAMES = [
    *ACTIVATIONS,
    "hard_sigmoid(0.3, 0.4)",
    "elu(0.5)",
    "leaky_relu(0.2)",
    "scaled_tanh(2, 0.5)",
]
activations = st.sampled_from(NAMES)
TAME = (None, "sigmoid", "tanh", "hard_sigmoid", "hard_sigmoid_onnx", "softsign", "scaled_tanh")
"""As gates these are never above one: a state, and with it a rounding error, does not grow."""

ONE_OF_EACH: list[tuple[str, dict[str, Any]]] = [
    *(("LSTM", {"peephole": letters}) for letters in ("i", "f", "g", "o", "ifo", "ogfi")),
    ("LSTM", {"input_forget": True}),
    ("LSTM", {"input_forget": True, "peephole": "iof", "cell_clip": 0.4}),
    ("LSTM", {"cell_clip": 0.5}),
    ("LSTM", {"activation": "softsign", "output_activation": "softplus"}),
    ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"reverse": True}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"reset_after": False, "cell_clip": 0.5, "reverse": True}),
    ("GRU", {"reset_after": False, "activation": "elu", "recurrent_activation": "softsign"}),
    ("GRU", {"activation": "elu", "recurrent_activation": "hard_sigmoid_onnx"}),
    ("GRU", {"cell_clip": 0.5, "reverse": True}),
    ("RNN", {"cell_clip": 0.5}),
    ("RNN", {"reverse": True}),
    *(("RNN", {"activation": name}) for name in NAMES),
]
one_of_each = pytest.mark.parametrize(
    ("kind", "options"), ONE_OF_EACH, ids=lambda value: str(value).strip("{}")
)


@st.composite
def variants(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Any options of a kind of layer, but ``reverse``."""
    options: dict[str, Any] = {"cell_clip": draw(st.sampled_from((None, 0.3, 2.0)))}
    options["activation"] = draw(st.none() | activations)
    if kind != "RNN":
        options["recurrent_activation"] = draw(st.none() | activations)
    if kind == "LSTM":
        options["output_activation"] = draw(st.none() | activations)
        letters = draw(st.permutations("ifgo"))
        options["peephole"] = "".join(letters[: draw(st.integers(0, 4))])
        # With coupled gates, a peephole of f alone would be a parameter that nothing depends on.
        options["input_forget"] = options["peephole"] != "f" and draw(st.booleans())
    if kind == "GRU":
        options["reset_after"] = draw(st.booleans())
    return options


def stays_small(layer: Any, case: Case, **keywords: Any) -> bool:
    """Whether neither a state nor a gradient grows far, and the rounding of either way with it."""
    computed = run(OnReference(layer, **keywords), like(case.input(), F64), like(case.state(), F64))
    return all(tensor.abs().max() < 1e2 for part in computed for tensor in part if tensor.numel())


def assert_computes_the_equations(layer: Any, case: Case, **keywords: Any) -> None:
    x, hx = case.input(), case.state()
    got = run(Called(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    expected = run(OnReference(layer, **keywords), like(x, case.dtype), like(hx, case.dtype))
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)
    with torch.no_grad():
        torch.manual_seed(1)
        outputs = flat(layer(x, hx, **keywords))
    assert_same(outputs, got[0], case)


@pytest.mark.usefixtures("each_isa")
@given(case=cases(), data=st.data())
def test_every_option_with_every_other_is_what_the_equations_say(case, data):
    options = data.draw(variants(case.kind))
    options["reverse"] = not case.bidirectional and data.draw(st.booleans())
    tame = options.get("recurrent_activation") in TAME
    if not tame:
        case = replace(case, dtype=F64)
    keywords: dict[str, Any] = {"return_states": data.draw(st.booleans())}
    if case.form == "dense":
        if data.draw(st.booleans()):
            keywords["lengths"] = data.draw(lengths_of(case))
        if data.draw(st.booleans()):
            x = case.input()
            keywords["resets"] = torch.rand(x.shape[:-1]) < 0.3
    layer = case.build(**options)
    assume(tame or stays_small(layer, case, **keywords))
    assert_computes_the_equations(layer, case, **keywords)


@pytest.mark.usefixtures("each_road")
@pytest.mark.usefixtures("each_isa")
@one_of_each
def test_an_option_alone_is_what_the_equations_say(kind, options):
    case = Case(kind, hidden_size=37, num_layers=2, dtype=F64, lengths=(6,) * 9)
    assert_computes_the_equations(case.build(**options), case)


@pytest.mark.usefixtures("each_road")
@one_of_each
def test_a_frozen_layer_has_the_gradient_of_the_equations_for_its_input_alone(kind, options):
    case = Case(kind, dtype=F64)
    layer, hx = case.build(**options).requires_grad_(False), case.state()
    x = like(case.input(), F64)
    _, got = run(layer, x, hx)
    _, expected = run(OnReference(layer), x, hx)
    assert_same(got, expected, case)


@one_of_each
def test_gradients_are_those_of_finite_differences(kind, options):
    case = Case(kind, hidden_size=3, dtype=F64, lengths=(3, 3))
    assert_gradients_of_finite_differences(case.build(**options), case)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {"peephole": "ifo", "cell_clip": 2.0}), ("GRU", {"reset_after": False})],
)
def test_derivatives_of_derivatives(kind, options):
    case = Case(kind, hidden_size=2, dtype=F64, lengths=(2,))
    layer = case.build(**options)
    x, hx = like(case.input(), F64), like(case.state(), F64)
    assert_second_derivatives(
        lambda x, *hx: tuple(flat(layer(x, hx if kind == "LSTM" else hx[0]))), x, *flat(hx)
    )


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 40])
@pytest.mark.parametrize("steps", [1, 11])
@pytest.mark.parametrize("hidden", [1, 16, 130])
def test_the_two_stages_of_a_reset_before_meet_at_every_size(threads, batch, steps, hidden):
    case = Case("GRU", hidden_size=hidden, dtype=F64, lengths=(steps,) * batch)
    torch.set_num_threads(threads)
    assert_computes_the_equations(case.build(reset_after=False), case)


@pytest.mark.parametrize(
    ("kind", "options"), [(k, o) for k, o in ONE_OF_EACH if "reverse" not in o], ids=str
)
@pytest.mark.parametrize("rank", [1, 2])
def test_a_cell_is_one_step_of_the_layer(kind, options, rank):
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64, **options)
    cell = getattr(fastrnn, f"{kind}Cell")(3, 4, dtype=F64, **options)
    cell.load_state_dict({name.replace("_l0", ""): w for name, w in layer.state_dict().items()})
    sizes = (2,) if rank == 2 else ()
    x, h, c = (torch.randn(*sizes, n, dtype=F64) for n in (3, 4, 4))
    with_layers = [s[None] for s in (h, c)]
    _, expected = layer(x[None], tuple(with_layers) if kind == "LSTM" else with_layers[0])
    got = cell(x, (h, c) if kind == "LSTM" else h)
    assert_same(flat(got), [s[0] for s in flat(expected)], F64)


def test_parameters_of_peepholes_are_named_shaped_and_ordered_as_promised():
    layer = fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2, peephole="of")
    shapes = {n: tuple(p.shape) for n, p in layer.named_parameters() if n.startswith("weight_ch")}
    assert shapes == {f"weight_ch_l{k}{r}": (8,) for k in (0, 1) for r in ("", "_reverse")}
    assert [names[-1] for names in layer._all_weights] == list(shapes)
    assert layer.all_weights[0][-1] is layer.weight_ch_l0
    assert layer._flat_weights[5] is layer.weight_ch_l0

    x = torch.randn(2, 1, 3)
    for place, gate in enumerate("of"):  # each block reaches the gate of its own letter alone
        single = fastrnn.LSTM(3, 4, peephole=gate)
        both = fastrnn.LSTM(3, 4, peephole="of")
        state = single.state_dict()
        blocks = torch.zeros(2, 4)
        blocks[place] = state["weight_ch_l0"]
        both.load_state_dict({**state, "weight_ch_l0": blocks.flatten()})
        assert torch.equal(both(x)[0], single(x)[0])


def test_output_sees_the_new_cell_state_and_the_others_the_old():
    for letters in ("ifg", "o"):
        layer = fastrnn.LSTM(1, 1, peephole=letters, dtype=F64)
        h, c = (torch.zeros(1, 1, 1, dtype=F64) for _ in range(2))
        x = torch.ones(1, 1, 1, dtype=F64)
        before = layer(x, (h, c))[0]
        with torch.no_grad():
            layer.weight_ch_l0 += 1
        changed = not torch.equal(layer(x, (h, c))[0], before)
        assert changed == (letters == "o")  # c is zero before the step, and is not after it


def test_reverse_is_the_second_direction_of_a_bidirectional_layer():
    both = fastrnn.GRU(3, 4, bidirectional=True)
    single = fastrnn.GRU(3, 4, reverse=True)
    single.load_state_dict(
        {n.replace("_reverse", ""): w for n, w in both.state_dict().items() if "reverse" in n}
    )
    x, lengths = torch.randn(6, 3, 3), [6, 2, 4]
    y, h = both(x, lengths=lengths)
    y_single, h_single = single(x, lengths=lengths)
    assert torch.equal(y_single, y[..., 4:])
    assert torch.equal(h_single[0], h[1])


@pytest.mark.parametrize("kind", LAYERS)
def test_the_default_values_make_torchs_layer(kind):
    options: dict[str, Any] = {"activation": "tanh", "cell_clip": None, "reverse": False}
    if kind != "RNN":
        options["recurrent_activation"] = "sigmoid"
    fast, plain = getattr(fastrnn, kind)(3, 4, **options), getattr(torch.nn, kind)(3, 4)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(fast(x)[0], plain(x)[0])


def test_options_draw_nothing_from_the_generator_that_torch_does_not():
    torch.manual_seed(5)
    plain = torch.nn.LSTM(3, 4, num_layers=2)
    torch.manual_seed(5)
    fast = fastrnn.LSTM(3, 4, num_layers=2, peephole="ifo", forget_bias=1.0, cell_clip=3.0)
    for name, weight in plain.named_parameters():
        if "bias" not in name:
            assert torch.equal(weight, fast.get_parameter(name))


@pytest.mark.parametrize(
    ("kind", "suffixes"), [("LSTM", ("_l0", "_l0_reverse", "_l1")), ("LSTMCell", ("",))]
)
def test_forget_bias_is_what_the_two_biases_add_up_to(kind, suffixes):
    options = {"num_layers": 2, "bidirectional": True} if kind == "LSTM" else {}
    module = getattr(fastrnn, kind)(3, 4, forget_bias=1.5, **options)
    for _ in range(2):
        for suffix in suffixes:
            b_ih, b_hh = (getattr(module, f"bias_{i}{suffix}") for i in ("ih", "hh"))
            assert torch.equal((b_ih + b_hh)[4:8], torch.full((4,), 1.5))
            assert torch.equal(b_hh[4:8], torch.zeros(4))
            assert b_ih[:4].abs().min() > 0
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        module.reset_parameters()


@one_of_each
def test_a_layer_survives_copies_and_files(kind, options):
    layer = getattr(fastrnn, kind)(3, 4, **options)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    x = torch.randn(4, 2, 3)
    for twin in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x)[0], layer(x)[0])


def test_repr_says_the_options_and_only_those():
    assert repr(fastrnn.LSTM(3, 4)) == "LSTM(3, 4)"
    layer = fastrnn.LSTM(3, 4, peephole="ifo", activation="elu(0.5)", cell_clip=3, forget_bias=1)
    for text in ("peephole='ifo'", "activation='elu(0.5)'", "cell_clip=3.0", "forget_bias=1.0"):
        assert text in repr(layer)
    assert repr(fastrnn.GRUCell(3, 4, reset_after=False)) == "GRUCell(3, 4, reset_after=False)"


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        ("GRU", {"peephole": "i"}, "peephole: expected an option of GRU"),
        ("RNN", {"recurrent_activation": "tanh"}, "it is one of LSTM and GRU"),
        ("LSTM", {"reset_after": False}, "it is one of GRU"),
        ("GRU", {"forget_bias": 1.0}, "forget_bias: expected an option of GRU"),
        ("GRUCell", {"reverse": True}, "reverse: expected an option of GRUCell"),
        ("LSTM", {"peephole": "ifi"}, "each at most once, got 'ifi'"),
        ("LSTM", {"peephole": "x"}, "expected letters of 'ifgo'"),
        ("LSTM", {"activation": "swish"}, "expected one of affine, elu, .*, got 'swish'"),
        ("LSTM", {"activation": torch.tanh}, "activation: expected one of"),
        ("LSTM", {"recurrent_activation": "elu(a)"}, "expected 1 numbers as parameters of elu"),
        ("LSTM", {"activation": "tanh(1)"}, "expected 0 numbers"),
        ("GRU", {"activation": "leaky_relu(-1)"}, "expected a parameter of at least 0"),
        ("RNN", {"cell_clip": 0}, "cell_clip: expected a positive number or None, got 0"),
        ("RNN", {"cell_clip": float("nan")}, "cell_clip: expected a positive number"),
        ("LSTM", {"reverse": True, "bidirectional": True}, "reverse: expected False"),
        ("LSTM", {"forget_bias": 1.0, "bias": False}, "forget_bias: expected None"),
    ],
)
def test_bad_options_are_refused_by_name(kind, options, part):
    with pytest.raises(ValueError, match=part):
        getattr(fastrnn, kind)(3, 4, **options)


def test_functions_take_the_options_too():
    layer = fastrnn.LSTM(3, 4, peephole="o", activation="relu")
    x = torch.randn(5, 2, 3)
    y, _ = functional.lstm(x, None, layer._flat_weights, peephole="o", activation="relu")
    assert torch.equal(y, layer(x)[0])
    with pytest.raises(ValueError, match="reset_after: expected an option of LSTM"):
        functional.lstm(x, None, layer._flat_weights, reset_after=False)
    with pytest.raises(RuntimeError, match="weights: expected 5 Tensors"):
        functional.lstm(x, None, layer._flat_weights[:4], peephole="o")
    cell = fastrnn.LSTMCell(3, 4, peephole="o")
    weights = [p for n, p in cell.named_parameters()]
    h, _ = functional.lstm_cell(x[0], None, *weights, peephole="o")
    assert torch.equal(h, cell(x[0])[0])
    with pytest.raises(TypeError, match="w_ch: expected a Tensor, got NoneType"):
        functional.lstm_cell(x[0], None, *weights[:4], peephole="o")


def test_layers_that_torch_lacks_cannot_be_reverted():
    model = torch.nn.ModuleList([fastrnn.GRU(3, 4), fastrnn.GRU(3, 4, reset_after=False)])
    with pytest.raises(ValueError, match="model: expected layers that torch has too, got '1'"):
        fastrnn.revert(model)
    assert type(model[0]) is fastrnn.GRU


@pytest.mark.parametrize("kind", CELLS)
def test_torchs_own_cells_take_no_notice(kind):
    assert getattr(fastrnn, kind)(3, 4).variant is None


@pytest.mark.parametrize("name", NAMES)
def test_activations_of_the_reference_are_smooth_where_they_should_be(name):
    x = torch.linspace(-4, 4, 41, dtype=F64).add(0.0123).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: reference.activation(name, x), (x,))
