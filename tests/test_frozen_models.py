"""Models with frozen layers: what is kept, what cannot be done, and the way back."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import roads
import torch
from frozen_layers import FORMATS, LAYERS, assert_equal, inputs_of, tensors_in
from torch import Tensor
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import fastrnn
from fastrnn import _core


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 6)
        self.rnn = torch.nn.LSTM(6, 12, num_layers=2, batch_first=True)
        self.again = self.rnn
        self.cell = fastrnn.GRUCell(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.rnn(self.embed(tokens))
        h: Tensor = self.cell(y[:, -1])
        return h


TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("number_format", FORMATS)
@torch.no_grad()
def test_a_model_is_copied_and_its_layers_frozen(number_format: str) -> None:
    model = Model()
    before = copy.deepcopy(model.state_dict())
    frozen = fastrnn.freeze(model, weights=number_format)
    assert model.training
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)
    assert not frozen.training
    assert isinstance(frozen.rnn, torch.nn.LSTM)
    assert frozen.rnn is frozen.again
    assert f"weights='{number_format}'" in repr(frozen)
    assert not list(frozen.rnn.parameters())
    tolerance = {"float32": 1e-6, "bfloat16": 1e-2, "int8": 3e-2}[number_format]
    torch.testing.assert_close(frozen(TOKENS), model(TOKENS), rtol=0, atol=tolerance)


class KeepsItsMode(torch.nn.Module):
    """As stanza's language model: its ``train`` returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = fastrnn.LSTM(3, 4)

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        if not mode:
            super().train(mode)


def test_a_model_whose_eval_returns_nothing_is_frozen() -> None:
    model = KeepsItsMode()
    frozen = fastrnn.freeze(model)
    assert type(frozen) is KeepsItsMode
    assert not frozen.training
    assert frozen.rnn.number_format == "float32"
    assert type(fastrnn.thaw(frozen).rnn) is fastrnn.LSTM


def test_the_state_dict_has_the_numbers_of_the_format() -> None:
    layer = fastrnn.LSTM(6, 12)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    for number_format, dtype in dtypes.items():
        state = fastrnn.freeze(layer, weights=number_format).state_dict()
        assert state["weight_hh_l0"].dtype is dtype
        assert torch.equal(state["bias_ih_l0"], layer.bias_ih_l0)
    assert set(state) - set(layer.state_dict()) == {"weight_ih_l0_scale", "weight_hh_l0_scale"}
    weight = state["weight_ih_l0"].float() * state["weight_ih_l0_scale"][:, None]
    assert (weight - layer.weight_ih_l0).abs().max() <= state["weight_ih_l0_scale"].max() / 2 + 1e-7
    assert state["weight_ih_l0"].abs().amax(-1).eq(127).all()


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_cell_keeps_the_numbers_of_a_layer(number_format: str) -> None:
    cell, layer = fastrnn.LSTMCell(6, 12, peephole="ifo"), fastrnn.LSTM(6, 12, peephole="ifo")
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    cell.bias_hh = None
    of_cell = fastrnn.freeze(cell, weights=number_format).state_dict()
    of_layer = fastrnn.freeze(layer, weights=number_format).state_dict()
    assert len(of_cell) == len(of_layer) - 1
    for key, value in of_cell.items():
        expected = of_layer[key.replace("_scale", "") + "_l0" + "_scale" * key.endswith("_scale")]
        assert value.dtype is expected.dtype
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("number_format", FORMATS)
@torch.no_grad()
def test_every_way_to_keep_a_layer_keeps_its_bits(name: str, number_format: str) -> None:
    frozen = fastrnn.freeze(LAYERS[name](), weights=number_format)
    x, more = inputs_of(frozen, 3, 2)
    expected = frozen(x, **more)
    other = fastrnn.freeze(LAYERS[name](), weights=number_format)
    other(x, **more)
    other.load_state_dict(frozen.state_dict())
    assigned = fastrnn.freeze(LAYERS[name](), weights=number_format)
    assigned.load_state_dict(frozen.state_dict(), assign=True)
    file = io.BytesIO()
    torch.save(frozen, file)
    file.seek(0)
    kept = [other, assigned, copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))]
    for one in (*kept, torch.load(file, weights_only=False)):
        assert type(one) is type(frozen)
        assert_equal(one(x, **more), expected)


@pytest.mark.skipif("short" not in roads.ROADS, reason="this torch has no short way")
@torch.no_grad()
def test_calls_after_the_first_take_the_short_way() -> None:
    for make, x in (
        (lambda: fastrnn.LSTM(3, 4), torch.randn(5, 2, 3)),
        (lambda: fastrnn.GRUCell(3, 4), torch.randn(2, 3)),
        (lambda: fastrnn.LSTM(3, 4, 2, layer_norm="both"), torch.randn(5, 2, 3)),
        (lambda: fastrnn.GRUCell(3, 4, layer_norm="input", zoneout=0.1), torch.randn(2, 3)),
        (lambda: fastrnn.Recurrent(fastrnn.cells.MGU, 3, 4), torch.randn(5, 2, 3)),
    ):
        frozen = fastrnn.freeze(make(), weights="bfloat16")
        expected = frozen(x)
        with roads.road("short"):
            assert_equal(frozen(x), expected)


@pytest.mark.parametrize("name", ["lstm", "late", "cell normed", "cell", "step"])
def test_what_a_layer_has_packed_goes_with_the_layer_at_once(name: str) -> None:
    made = {
        "cell": lambda: fastrnn.GRUCell(3, 4),
        "step": lambda: fastrnn.RecurrentCell(fastrnn.cells.MGU, 3, 4),
    }
    frozen = fastrnn.freeze({**LAYERS, **made}[name]())
    x = torch.randn(1, 2, frozen.input_size)
    gc.disable()  # no cycles, which hold memory until somebody looks for them
    try:
        with torch.no_grad():
            frozen(x[0] if name in made else x)
            if name not in made:
                frozen(x, lengths=[1, 1])
        gone = weakref.ref(frozen)
        del frozen
        assert gone() is None
    finally:
        gc.enable()


def test_the_engine_packs_what_it_has_room_and_formats_for() -> None:
    spec = {"I": 3, "H": 4, "P": 0, "layers": 1, "directions": 1, "bias": True}
    own = {"cell": _core.Cell.lstm, "reverse": False, "program": None}
    isa = fastrnn.isa.active()
    weights = [
        torch.zeros(*shape, dtype=torch.float64) for shape in ((16, 3), (16, 4), (16,), (16,))
    ]

    def pack(number_format: _core.Format, count: int) -> _core.Packed:
        addresses = [weight.data_ptr() for weight in weights[:count]]
        return _core.Packed(
            dtype=_core.DType.float64,
            format=number_format,
            weights=addresses,
            isa=isa,
            **spec,
            **own,
        )

    assert pack(_core.Format.float32, 4).bytes >= 16 * 8 * 8  # the two biases are one
    with pytest.raises(ValueError, match="weights: expected 4 addresses, got 3"):
        pack(_core.Format.float32, 3)
    for number_format in (_core.Format.bfloat16, _core.Format.int8):
        with pytest.raises(ValueError, match="format: expected that of the dtype"):
            pack(number_format, 4)


@torch.no_grad()
def test_each_instruction_set_has_its_own_panels() -> None:
    layer = fastrnn.GRU(9, 40)
    frozen = fastrnn.freeze(layer)
    x = torch.randn(4, 3, 9)
    for name in (*fastrnn.isa.available(), *fastrnn.isa.available()):
        with fastrnn.isa.force(name):
            assert_equal(frozen(x), layer(x))
            assert_equal(frozen(x), layer(x))


@pytest.mark.parametrize("number_format", FORMATS)
@torch.no_grad()
def test_thawed_layers_are_what_they_were_with_the_rounded_weights(number_format: str) -> None:
    model = Model().bfloat16() if number_format == "bfloat16" else Model()
    frozen = fastrnn.freeze(model, weights=number_format)
    frozen(TOKENS)
    thawed = fastrnn.thaw(frozen)
    assert isinstance(frozen.rnn, fastrnn.LSTM)
    assert type(thawed.rnn) is torch.nn.LSTM
    assert type(thawed.cell) is fastrnn.GRUCell
    assert list(thawed.state_dict()) == list(model.state_dict())
    assert [name for name, _ in thawed.named_parameters()] == [
        n for n, _ in model.named_parameters()
    ]
    for key, value in thawed.state_dict().items():
        own = model.state_dict()[key]
        assert value.dtype is own.dtype
        if number_format == "int8":
            torch.testing.assert_close(value, own, rtol=0, atol=5e-3)
        else:
            assert torch.equal(value, own)
    thawed.train()
    thawed(TOKENS)
    again = fastrnn.freeze(thawed, weights=number_format)
    assert_equal(tensors_in(list(again.buffers())), tensors_in(list(frozen.buffers())))


def test_a_thawed_layer_trains_what_it_trained_before() -> None:
    layer = fastrnn.LSTM(3, 4)
    layer.weight_ih_l0.requires_grad_(False)
    thawed = fastrnn.thaw(copy.deepcopy(fastrnn.freeze(layer, weights="int8")))
    assert [p.requires_grad for p in thawed.parameters()] == [False, True, True, True]


def test_parametrized_weights_are_computed_for_the_last_time() -> None:
    layer = weight_norm(fastrnn.GRU(3, 4), "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        frozen = fastrnn.freeze(layer)
        assert_equal(frozen(x), layer(x))
    assert "parametrizations" in dict(layer.named_children())


def test_what_would_change_a_frozen_layer_is_an_error_that_says_what_to_do() -> None:
    frozen = fastrnn.freeze(fastrnn.LSTM(3, 4))
    with pytest.raises(RuntimeError, match=r"does not train.*fastrnn\.thaw"):
        torch.nn.Sequential(frozen).train()
    with pytest.raises(RuntimeError, match=r"weight_ih_l0.*do not change.*fastrnn\.thaw"):
        frozen.weight_ih_l0 = torch.zeros(16, 3)
    with pytest.raises(RuntimeError, match=r"weight_ih_l0.*do not change"):
        del frozen.weight_ih_l0
    with pytest.raises(RuntimeError, match=r"bias_ih_l0.*do not change"):
        frozen.register_buffer("bias_ih_l0", torch.zeros(16))
    frozen.register_buffer("mean", torch.zeros(3))
    with pytest.raises(RuntimeError, match="stay on the CPU"):
        frozen.to("meta")
    with pytest.raises(TypeError, match=r"fastrnn\.freeze"):
        type(frozen)(3, 4)
    assert frozen.half().double().eval().weight_ih_l0.dtype is torch.float32


@torch.no_grad()
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRUCell"])
def test_a_functional_call_computes_with_the_weights_that_it_is_given(
    kind: str, is_first: bool
) -> None:
    frozen = fastrnn.freeze(getattr(fastrnn, kind)(3, 4), weights="int8")
    other = fastrnn.freeze(getattr(fastrnn, kind)(3, 4), weights="int8")
    x = torch.randn(2, 3) if kind == "GRUCell" else torch.randn(5, 2, 3)
    expected = copy.deepcopy(frozen)(x)
    if not is_first:
        frozen(x)
    for _ in range(2):
        assert_equal(torch.func.functional_call(frozen, other.state_dict(), (x,)), other(x))
        assert_equal(frozen(x), expected)


@pytest.mark.parametrize("state", [False, True])
def test_gradients_are_refused(state: bool) -> None:
    frozen = fastrnn.freeze(fastrnn.GRU(3, 4))
    x, h = torch.randn(5, 2, 3), torch.randn(1, 2, 4)
    (h if state else x).requires_grad_()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"no gradients.*no_grad\(\).*fastrnn\.thaw"):
            frozen(x, h)
        with torch.no_grad():
            frozen(x, h)
    frozen(x.detach(), h.detach())
    with pytest.raises(RuntimeError, match=r"no gradients"):
        fastrnn.freeze(fastrnn.GRUCell(3, 4))(x[0], h[0])


def test_weights_that_no_format_has_are_refused_by_name() -> None:
    layer = fastrnn.LSTM(3, 4)
    with pytest.raises(ValueError, match=r"weights: expected one of 'float32'.*got 'int4'"):
        fastrnn.freeze(layer, weights="int4")
    for value in (torch.nan, torch.inf):
        with torch.no_grad():
            layer.bias_hh_l0[2] = value
        with pytest.raises(ValueError, match="rnn: bias_hh_l0: expected finite numbers"):
            fastrnn.freeze(torch.nn.ModuleDict({"rnn": layer}))
    large = fastrnn.GRU(3, 4)
    with torch.no_grad():
        large.weight_ih_l0[2] = torch.finfo(torch.float32).max
    for number_format in ("bfloat16", "int8"):
        with pytest.raises(ValueError, match=r"weight_ih_l0: expected numbers .*infinity"):
            fastrnn.freeze(large, weights=number_format)
    fastrnn.freeze(large)
    with pytest.raises(ValueError, match=r"weight_ih_l0.*got torch.float64"):
        fastrnn.freeze(fastrnn.LSTM(3, 4).double())
    with pytest.raises(ValueError, match=r"weight_ih_l0.*on the CPU, got meta"):
        fastrnn.freeze(fastrnn.LSTM(3, 4, device="meta"))
    with pytest.raises(ValueError, match=r"input_size: expected at least 1"):
        fastrnn.freeze(fastrnn.GRUCell(0, 4))
    with pytest.raises(ValueError, match=r"frozen with weights='int8' already"):
        fastrnn.freeze(fastrnn.freeze(fastrnn.LSTM(3, 4), weights="int8"))
    wide = fastrnn.RNN(140_000, 1)
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected rows of at most 133144"):
        fastrnn.freeze(wide, weights="int8")


@pytest.mark.parametrize("made", [fastrnn.LSTM, fastrnn.LSTMCell])
def test_weights_that_are_dropped_in_eval_are_refused(made: Any) -> None:
    dropped = made(3, 4, weight_dropout=0.5, weight_dropout_in_eval=True, zoneout=0.1)
    with pytest.raises(ValueError, match=r"the model itself: .*weight_dropout_in_eval cannot be"):
        fastrnn.freeze(dropped)


def test_what_is_dropped_in_training_alone_is_no_matter_of_frozen_layers() -> None:
    options = {"input_dropout": 0.2, "recurrent_dropout": 0.3, "weight_dropout": 0.5}
    layer, x = fastrnn.LSTM(3, 4, **options).eval(), torch.randn(5, 2, 3)
    with torch.no_grad():
        assert_equal(fastrnn.freeze(layer)(x)[0], layer(x)[0])


@pytest.mark.parametrize("package", [fastrnn, torch.nn])
@pytest.mark.parametrize("kind", ["GRU", "GRUCell"])
def test_a_weight_that_a_hook_makes_is_refused(kind: str, package: Any) -> None:
    module = getattr(package, kind)(3, 4)
    name = "weight_hh_l0" if kind == "GRU" else "weight_hh"
    prune.l1_unstructured(module, name, 0.5)
    with pytest.raises(ValueError, match=f"{name} is no parameter, but made by a hook"):
        fastrnn.freeze(module)
    with torch.no_grad():
        module(torch.randn(2, 3))
    with pytest.raises(ValueError, match=f"{name} is no parameter, but made by a hook"):
        fastrnn.freeze(module)


def test_numbers_of_another_format_are_not_loaded() -> None:
    layer = fastrnn.LSTM(3, 4)
    frozen = fastrnn.freeze(layer, weights="int8")
    before = copy.deepcopy(frozen.state_dict())
    with pytest.raises(RuntimeError, match=r"weight_ih_l0: expected torch.int8, got torch.float32"):
        frozen.load_state_dict(layer.state_dict(), strict=False)
    assert all(torch.equal(frozen.state_dict()[key], before[key]) for key in before)
    broken = {
        key: value * torch.inf if value.is_floating_point() else value
        for key, value in before.items()
    }
    with pytest.raises(RuntimeError, match="expected finite numbers"):
        frozen.load_state_dict(broken)


def test_layers_of_derived_classes_are_left_with_a_warning() -> None:
    class Own(torch.nn.LSTM):
        pass

    model = torch.nn.ModuleDict({"own": Own(3, 4), "rnn": torch.nn.GRU(3, 4)})
    with pytest.warns(UserWarning, match=r"own \(.*Own\)"):
        frozen = fastrnn.freeze(model)
    assert type(frozen["own"]) is Own


def test_conversion_leaves_frozen_layers_alone() -> None:
    frozen = fastrnn.freeze(Model(), weights="int8")
    kind = type(frozen.rnn)
    for change in (fastrnn.convert, fastrnn.revert):
        change(frozen)
        assert type(frozen.rnn) is kind


@pytest.mark.filterwarnings("ignore:`torch.jit")
@torch.no_grad()
def test_compilers_go_round_a_frozen_layer_and_exporters_refuse_it() -> None:
    frozen = fastrnn.freeze(fastrnn.GRU(3, 4), weights="int8")
    x = torch.randn(5, 2, 3)
    expected = frozen(x)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), frozen).eval()
    compiled = torch.compile(model, backend="eager")
    assert_equal(compiled(x), model(x))
    assert_equal(frozen(x), expected)
    with pytest.raises(RuntimeError, match=r"cannot be traced.*fastrnn\.thaw"):
        torch.export.export(frozen, (x,), strict=False)
    with pytest.raises(RuntimeError, match=r"cannot be traced.*fastrnn\.thaw"):
        torch.jit.trace(frozen, (x,))
    with pytest.raises(RuntimeError, match=r"cannot be traced"):
        torch.func.vmap(lambda one: frozen(one)[0])(x[None])
    torch._dynamo.reset()


def test_a_symbolic_trace_has_one_node_for_a_frozen_layer() -> None:
    model = torch.nn.Sequential(fastrnn.freeze(fastrnn.GRU(3, 4)))
    traced = torch.fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
    with torch.no_grad():
        x = torch.randn(5, 2, 3)
        assert_equal(traced(x), model(x))
