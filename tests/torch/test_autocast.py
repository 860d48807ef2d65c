"""Autocast: float32's results in the dtypes that torch.nn's layers return, and its gradients.

The dtypes are written down in `TABLE`. Where torch's layers can compute they must agree with it;
on some processors torch's LSTM cannot, since oneDNN has no kernel for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, Called, Case, cases, flat, lengths_of, like, run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn import _torch

pytestmark = [
    pytest.mark.usefixtures("float32_products"),
    # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
FLOATS = (F32, BF16, F16)
some_weights = st.sampled_from(FLOATS)
some_tensor = st.sampled_from(
    (F32, BF16)
)  # with float16 torch's layers fail where they join states


class UnderAutocast(Called):
    """A layer that is called under autocast to ``low``."""

    def __init__(self, layer: Any, low: torch.dtype = BF16, **keywords: Any) -> None:
        super().__init__(layer, **keywords)
        self.low = low

    def __call__(self, x: Any, hx: Any = None) -> Any:
        with torch.autocast("cpu", self.low):
            return super().__call__(x, hx)


class OfRoundedInput(UnderAutocast):
    """The same, of what autocast makes of the input: torch has a way for that on any processor."""

    def __call__(self, x: Any, hx: Any = None) -> Any:
        return super().__call__(x.to(self.low), hx)


class InFloat32(Called):
    """A layer that computes in float32 what its weights and arguments say, then casts."""

    def __init__(self, layer: Any, dtypes: list[torch.dtype], **keywords: Any) -> None:
        super().__init__(layer, **keywords)
        self.dtypes = dtypes

    def __call__(self, x: Any, hx: Any = None) -> Any:
        wide = {name: p.float() for name, p in self.layer.named_parameters()}
        outputs = functional_call(self.layer, wide, (in_float32(x), in_float32(hx)), self.keywords)
        return [y.to(dtype) for y, dtype in zip(flat(outputs), self.dtypes, strict=True)]


def in_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.float(), *value[1:])
    return None if value is None else tuple(in_float32(part) for part in value)


def dtypes_of(outputs: Any) -> list[torch.dtype]:
    return [y.dtype for y in flat(outputs)]


LOW, PROMOTED = "autocast's", "autocast's, promoted with that of the last state, or else the input"
TABLE: dict[str, tuple[str, str]] = {  # the dtypes of every h and of every c
    "RNN, RNNCell": (LOW, LOW),
    "GRU, GRUCell, LSTMCell": (PROMOTED, PROMOTED),
    "LSTM": (PROMOTED, PROMOTED),
    "LSTM, projected": (LOW, PROMOTED),
    "LSTM, one operation of oneDNN's": (LOW, LOW),
}
NO_KERNEL = "could not create a primitive"


def row_of(layer: Any, x: Any) -> str:
    """The row of `TABLE` for a call."""
    if not isinstance(layer, torch.nn.LSTM):
        return next(row for row in TABLE if type(layer).__name__ in row.split(", "))
    if layer.proj_size:
        return "LSTM, projected"
    packed = isinstance(x, PackedSequence)
    dtype = x.data.dtype if packed else x.dtype
    if dtype is F32 or (dtype is BF16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        of_equal_lengths = packed and len(set(x.batch_sizes.tolist())) == 1
        if not packed or (of_equal_lengths and _torch.casts_packed_lstm):
            return "LSTM, one operation of oneDNN's"
    return "LSTM"


def expected_dtypes(plain: Any, x: Any, hx: Any, low: torch.dtype = BF16) -> list[torch.dtype]:
    """Those of y, h_n and c_n, or of h and c, by `TABLE`; torch's layer agrees or has no kernel."""
    row = row_of(plain, x)
    promoted = torch.promote_types(low, flat(x if hx is None else hx)[-1].dtype)
    h, c = (low if entry is LOW else promoted for entry in TABLE[row])
    counts = {torch.nn.LSTM: [h, h, c], torch.nn.LSTMCell: [h, c]}
    one_state = [h] if isinstance(plain, torch.nn.RNNCellBase) else [h, h]
    expected = counts.get(type(plain), one_state)
    try:
        outputs = UnderAutocast(plain, low)(x, hx)
    except RuntimeError as error:
        if NO_KERNEL not in str(error) or "oneDNN" not in row:
            raise
    else:
        assert dtypes_of(outputs) == expected
    return expected


def assert_float32_is_cast(
    layer: Any, x: Any, hx: Any, low: torch.dtype, dtypes: list[torch.dtype], **keywords: Any
) -> None:
    got = run(UnderAutocast(layer, low, **keywords), x, hx)
    expected = run(InFloat32(layer, dtypes, **keywords), x, hx)
    for of_got, of_expected in zip(got, expected, strict=True):
        for g, e in zip(of_got, of_expected, strict=True):
            assert g.dtype == e.dtype
            assert torch.equal(g, e)


@given(data=st.data())
def test_a_layer_gives_float32s_results_in_torchs_dtypes(data: st.DataObject) -> None:
    case = data.draw(cases(dtype=F32))
    fast, plain = (layer.to(data.draw(some_weights)) for layer in case.pair())
    x = like(case.input(), data.draw(some_tensor))
    hx = like(case.state(), data.draw(some_tensor))
    assert_float32_is_cast(fast, x, hx, BF16, expected_dtypes(plain, x, hx))


@pytest.mark.parametrize("of_c", FLOATS, ids=str)
@pytest.mark.parametrize("of_h", FLOATS, ids=str)
@pytest.mark.parametrize("of_x", [F32, BF16], ids=str)
@pytest.mark.parametrize("form", ["dense", "packed", "projected", "cell"])
def test_the_cell_states_dtype_decides_as_in_torch(
    form: str, of_x: torch.dtype, of_h: torch.dtype, of_c: torch.dtype
) -> None:
    if form == "cell":
        fast, plain = fastrnn.LSTMCell(3, 4), torch.nn.LSTMCell(3, 4)
        x, (h, c) = torch.randn(2, 3), torch.randn(2, 2, 4)
    else:
        proj_size = 2 if form == "projected" else 0
        case = Case("LSTM", proj_size=proj_size, form="packed" if form == "packed" else "dense")
        fast, plain = case.pair()
        x, (h, c) = case.input(), case.state()
    x, hx = like(x, of_x), (h.to(of_h), c.to(of_c))
    assert dtypes_of(UnderAutocast(fast)(x, hx)) == expected_dtypes(plain, x, hx)


@pytest.mark.parametrize("low", [BF16, F16], ids=str)
@pytest.mark.parametrize("given", FLOATS, ids=str)
@pytest.mark.parametrize("weights", FLOATS, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_gives_float32s_results_in_torchs_dtypes(
    kind: str, weights: torch.dtype, given: torch.dtype, low: torch.dtype
) -> None:
    fast, plain = (getattr(module, kind)(3, 4, dtype=weights) for module in (fastrnn, torch.nn))
    x = like(torch.randn(2, 3), given)
    for state in (None, *FLOATS):
        hx = None
        if state is not None:
            h, c = torch.randn(2, 2, 4)
            hx = like((h, c) if kind == "LSTMCell" else h, state)
        assert_float32_is_cast(fast, x, hx, low, expected_dtypes(plain, x, hx, low))


@pytest.mark.parametrize("given", FLOATS, ids=str)
@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_float16_is_served_as_bfloat16_is(kind: str, given: torch.dtype) -> None:
    case = Case(kind)
    fast, plain = case.pair()
    x, hx = like(case.input(), given), like(case.state(), F32)
    assert_float32_is_cast(fast, x, hx, F16, expected_dtypes(plain, x, hx, F16))


@pytest.mark.parametrize("low", [BF16, F16], ids=str)
@pytest.mark.parametrize("given", [F32, BF16], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_batch_of_no_rows_has_torchs_dtypes(
    kind: str, given: torch.dtype, low: torch.dtype
) -> None:
    x = torch.randn(5, 0, 3, dtype=given)
    got, expected = (
        dtypes_of(UnderAutocast(getattr(module, kind)(3, 4), low)(x))
        for module in (fastrnn, torch.nn)
    )
    assert got == expected


@pytest.mark.parametrize("strict", [False, True])
def test_a_number_of_rows_that_an_exporter_does_not_know_is_none_of_0(strict: bool) -> None:
    class Chosen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = fastrnn.LSTM(3, 4)

        def forward(self, x: Tensor, rows: Tensor) -> Any:
            return self.rnn(x[:, rows])

    x, rows = torch.randn(5, 4, 3), torch.tensor([True, False, True, True])
    model = Chosen()
    with (
        torch.autocast("cpu", BF16),
        torch._dynamo.config.patch(allow_rnn=True, capture_dynamic_output_shape_ops=True),
    ):
        exported = torch.export.export(model, (x, rows), strict=strict).module()
    with torch.autocast("cpu", BF16):
        expected = model(x, rows)
    assert dtypes_of(exported(x, rows)) == dtypes_of(expected) == [BF16] * 3


def test_the_default_dtype_does_not_decide_what_is_known_of_torchs_packed_lstm() -> None:
    expected = _torch._casts_packed_lstm()
    torch.set_default_dtype(F64)
    try:
        assert _torch._casts_packed_lstm() == expected
    finally:
        torch.set_default_dtype(F32)


def test_an_export_that_fails_does_not_decide_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = fastrnn.LSTM(3, 4)

        def forward(self, data: Tensor, batch_sizes: Tensor) -> Tensor:
            with torch.autocast("cpu", BF16):
                return self.rnn(PackedSequence(data, batch_sizes))[0].data

    model, call = Packed(), (torch.randn(4, 3), torch.tensor([2, 2]))
    expected = model(*call).dtype
    monkeypatch.delitem(vars(_torch), "casts_packed_lstm")
    with pytest.raises(Exception, match="data-dependent"):
        torch.export.export(model, call, strict=False)
    assert model(*call).dtype is expected


@pytest.mark.parametrize("form", ["dense", "unbatched"])
@pytest.mark.parametrize("low", [BF16, F16], ids=str)
def test_an_lstm_computes_even_where_torch_has_no_kernel_for_it(
    low: torch.dtype, form: str
) -> None:
    case = Case("LSTM", form=form)
    x, hx = like(case.input(), F32), like(case.state(), F32)
    assert_float32_is_cast(case.build(), x, hx, low, [low] * 3)


@given(data=st.data())
def test_lengths_resets_and_states_are_served_too(data: st.DataObject) -> None:
    case = data.draw(cases(dtype=F32, form="dense"))
    fast, plain = case.pair()
    x, hx = like(case.input(), F32), like(case.state(), F32)
    y, *finals = expected_dtypes(plain, x, hx)
    keywords = {
        "lengths": torch.tensor(data.draw(lengths_of(case))),
        "resets": torch.rand(x.shape[:-1]) < 0.3,
        "return_states": True,
    }
    assert_float32_is_cast(fast, x, hx, BF16, [y, *finals, *finals], **keywords)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_result_is_further_from_float64_than_torchs(kind: str) -> None:
    case = Case(kind, input_size=8, hidden_size=16, num_layers=2, bidirectional=True)
    fast, plain = case.pair()
    exact = case.build(torch.nn, dtype=F64)
    exact.load_state_dict(fast.state_dict())
    x, hx = case.input(), case.state()
    factors = [torch.randn_like(y).bfloat16() for y in flat(plain(x, hx))]
    found = []
    for layer, dtype in ((exact, F64), (UnderAutocast(fast), F32), (OfRoundedInput(plain), F32)):
        own_x, own_hx = like(x, dtype), like(hx, dtype)
        outputs = flat(layer(own_x, own_hx))
        wanted = [*flat(own_x, own_hx), *layer.parameters()]
        d_outputs = [f.to(y.dtype) for y, f in zip(outputs, factors, strict=True)]
        found.append([*outputs, *torch.autograd.grad(outputs, wanted, d_outputs)])
    for e, of_fast, of_plain in zip(*found, strict=True):
        fast_error, plain_error = ((y.double() - e).abs().max() for y in (of_fast, of_plain))
        assert fast_error <= max(plain_error, torch.finfo(of_fast.dtype).eps * e.abs().max())


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_float64_is_left_alone(kind: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4, dtype=F64)
    x = torch.randn(2, 3, dtype=F64)
    for got, expected in zip(flat(UnderAutocast(layer)(x)), flat(layer(x)), strict=True):
        assert torch.equal(got, expected)


def first_error(call: Callable[[], Any]) -> Exception:
    with pytest.raises((RuntimeError, ValueError)) as raised:
        call()
    return raised.value


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_float64_and_less_do_not_mix_as_in_torch(kind: str) -> None:
    x = torch.randn(2, 3)
    for of_weights, of_input in ((F32, F64), (F64, F32), (F64, BF16)):
        fast, plain = (
            getattr(module, kind)(3, 4, dtype=of_weights) for module in (fastrnn, torch.nn)
        )
        expected = first_error(lambda: UnderAutocast(plain)(x.to(of_input)))  # noqa: B023
        got = first_error(lambda: UnderAutocast(fast)(x.to(of_input)))  # noqa: B023
        assert type(got) is type(expected)
        assert f"; input: expected {of_weights} " in str(got)


def test_autocast_of_another_device_changes_nothing() -> None:
    layer, x = fastrnn.GRU(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    with torch.autocast("cpu", BF16), torch.autocast("cpu", enabled=False):
        assert torch.equal(layer(x)[0], expected)
    layer, x = layer.to("meta"), x.to("meta")
    with torch.autocast("cpu", BF16):
        assert layer(x)[0].dtype == torch.nn.GRU(3, 4, device="meta")(x)[0].dtype


@pytest.mark.parametrize("kind", LAYERS)
def test_second_derivatives_are_float32s(kind: str) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    wanted = [x, *layer.parameters()]

    def penalty() -> Tensor:
        y = layer(x)[0]
        (first,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        return first.square().sum()

    expected = torch.autograd.grad(penalty(), wanted, allow_unused=True)
    with torch.autocast("cpu", BF16):
        loss = penalty()
    got = torch.autograd.grad(loss, wanted, allow_unused=True)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e)


def input_of(kind: str) -> Tensor:
    return torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_compiled_layer_gives_what_it_gives_eagerly(kind: str, where: str) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4), input_of(kind).requires_grad_()
    expected = run(UnderAutocast(layer), x, None)
    torch._dynamo.reset()
    if where == "inside":
        compiled = Called(layer)
        compiled.layer = torch.compile(UnderAutocast(layer), backend="aot_eager", fullgraph=True)
    else:
        compiled = UnderAutocast(layer)
        compiled.layer = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(allow_rnn=True):
        got = run(compiled, x, None)
    for of_got, of_expected in zip(got, expected, strict=True):
        for g, e in zip(of_got, of_expected, strict=True):
            assert g.dtype == e.dtype
            torch.testing.assert_close(g, e)


def test_a_compiled_layer_sees_that_autocast_is_over() -> None:
    layer, x = fastrnn.LSTM(3, 4), torch.randn(5, 2, 3)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(allow_rnn=True):
        assert dtypes_of(UnderAutocast(compiled)(x)) == [BF16] * 3
        assert dtypes_of(compiled(x)) == [F32] * 3


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_samples_and_tangents_are_those_of_each_call(kind: str) -> None:
    layer = getattr(fastrnn, kind)(3, 4)
    x = torch.stack([input_of(kind) for _ in range(4)])
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def output(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return flat(functional_call(layer, parameters, (x,)))[0]

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return output(parameters, x).float().square().sum()

    direction = torch.randn_like(x[0])
    tangent_alone = jvp(lambda one: output(parameters, one), (x[0],), (direction,))[1]
    with torch.autocast("cpu", BF16):
        y = vmap(output, in_dims=(None, 0))(parameters, x)
        assert torch.equal(y, torch.stack([output(parameters, one) for one in x]))
        of_samples = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
        for v, one in enumerate(x):
            for name, gradient in grad(loss)(parameters, one).items():
                assert gradient.dtype == F32
                torch.testing.assert_close(of_samples[name][v], gradient)
        _, tangent = jvp(lambda one: output(parameters, one), (x[0],), (direction,))
    torch.testing.assert_close(tangent, tangent_alone.to(y.dtype))
