"""Ragged batches and single sequences by the short way: bits and errors of the long one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import roads
import torch
from cases import flat
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn
from fastrnn import cells
from fastrnn._layers import short_way

T, B, FEATURES, H = 6, 5, 4, 19
LENGTHS = torch.tensor([2, 6, 0, 6, 3])
PACKED = LENGTHS.clamp(min=1)
RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(1)) < 0.3

pytestmark = pytest.mark.skipif("short" not in roads.ROADS, reason="this torch has no short way")

LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": fastrnn.LSTM,
    "projected": lambda *sizes, **form: fastrnn.LSTM(*sizes, proj_size=3, **form),
    "gru": fastrnn.GRU,
    "rnn": fastrnn.RNN,
    "normed": lambda *sizes, **form: fastrnn.GRU(*sizes, layer_norm="both", **form),
    "program": lambda *sizes, **form: fastrnn.Recurrent(cells.LayerNormGRU, *sizes, **form),
}
FORMS = ("packed", "packed sorted", "lengths", "list", "resets", "lengths and resets", "single")


def given(form: str, x: Tensor, batch_first: bool) -> tuple[Any, dict[str, Any]]:
    """A padded batch in another form, and the keywords that belong to it."""
    resets = RESETS.t() if batch_first else RESETS
    if form == "dense":
        return x, {}
    if form == "packed":
        return pack_padded_sequence(x, PACKED, batch_first, enforce_sorted=False), {}
    if form == "packed sorted":
        return pack_padded_sequence(x, PACKED.sort(descending=True).values, batch_first), {}
    if form == "single":
        return x[0] if batch_first else x[:, 0], {}
    of_form = {
        "lengths": {"lengths": LENGTHS},
        "list": {"lengths": LENGTHS.tolist()},
        "resets": {"resets": resets},
        "lengths and resets": {"lengths": LENGTHS, "resets": resets},
    }
    return x, of_form[form]


def tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, tuple):
        return [tensor for one in value for tensor in tensors_of(one)]
    return flat(value)


def results_of(layer: Any, form: str, *, second: bool) -> list[Tensor | None]:
    """Outputs and gradients of the input and the parameters, or gradients of those, too."""
    torch.manual_seed(3)
    shape = (B, T) if layer.batch_first else (T, B)
    x = torch.randn(*shape, FEATURES, dtype=torch.float64, requires_grad=True)
    input, keywords = given(form, x, layer.batch_first)
    outputs = tensors_of(layer(input, **keywords))
    loss = sum((one * torch.randn_like(one)).sum() for one in outputs)
    wanted = [x, *layer.parameters()]
    gradients = torch.autograd.grad(loss, wanted, create_graph=second)
    if second:
        gradients += torch.autograd.grad(
            sum((g * g).sum() for g in gradients), wanted, materialize_grads=True
        )
    with torch.no_grad():
        alone = tensors_of(layer(input, **keywords))
    return [*outputs, *gradients, *alone]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_short_way_has_the_bits_of_the_long_one(
    kind: str, form: str, batch_first: bool, second: bool
) -> None:
    torch.manual_seed(1)
    layer = LAYERS[kind](FEATURES, H, bidirectional=True, batch_first=batch_first).double()
    served = []

    def spied(*arguments: Any) -> Any:
        served.append(short(*arguments))
        return served[-1]

    short = short_way.layer_directly
    with mock.patch.object(short_way, "layer_directly", spied):
        got = results_of(layer, form, second=second)
    assert len(served) == 2
    assert all(one is not None for one in served)
    with mock.patch.object(short_way, "layer_directly", return_value=None):
        expected = results_of(layer, form, second=second)
    for g, e in zip(got, expected, strict=True):
        assert g is not None
        assert e is not None
        assert torch.equal(g, e)
        assert g.stride() == e.stride()


@pytest.mark.parametrize("form", ["lengths", "resets"])
def test_what_becomes_of_lengths_and_resets_afterwards_is_no_matter(form: str) -> None:
    """A rollout buffer is filled anew before backward."""
    layer = fastrnn.GRU(FEATURES, H)
    gradients = []
    for spoilt in (False, True):
        values = {"lengths": LENGTHS, "resets": RESETS}[form].clone()
        x = torch.ones(T, B, FEATURES, requires_grad=True)
        y, _ = layer(x, **{form: values})
        if spoilt:
            values.fill_(1)
        gradients.append(torch.autograd.grad(y.square().sum(), x, create_graph=spoilt)[0])
    torch.testing.assert_close(*gradients)


def apart(tensor: Tensor) -> Tensor:
    """The same numbers, features of a row far from one another."""
    return tensor.mT.contiguous().mT


def negative(tensor: Tensor) -> Tensor:
    """The same numbers, by a view that changes the sign of what it reads."""
    view = torch.complex(tensor, -tensor).conj().imag
    assert view.is_neg()
    return view


@pytest.mark.parametrize("change", [apart, negative])
@pytest.mark.parametrize("what", ["input", "hx"])
@pytest.mark.parametrize("form", ["layer", "packed", "one sequence", "cell", "one row"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_lies_apart_is_brought_together(
    kind: str, form: str, what: str, change: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(1)
    is_cell = form in ("cell", "one row")
    module = getattr(fastrnn, f"{kind}Cell" if is_cell else kind)(FEATURES, H)
    x, h = torch.randn(T, B, FEATURES), torch.randn(1, B, H)
    if is_cell:
        x, h = x[0], h[0]

    def results() -> list[Tensor]:
        leaves = [x.clone().requires_grad_(), h.clone().requires_grad_()]
        given = [
            change(one) if name == what else one
            for name, one in zip(("input", "hx"), leaves, strict=True)
        ]
        input, state = given
        if form in ("one sequence", "one row"):
            input, state = input[..., 0, :], state[..., 0, :]
        if form == "packed":
            input = pack_padded_sequence(input, PACKED, enforce_sorted=False)
        outputs = tensors_of(module(input, (state, state) if kind == "LSTM" else state))
        loss = sum(one.square().sum() for one in outputs)
        return [*outputs, *torch.autograd.grad(loss, [*leaves, *module.parameters()])]

    ways = roads.SHORT[:2]
    served = []

    def spied(short: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            served.append(short(*arguments))
            return served[-1]

        return call

    with mock.patch.multiple(short_way, **{way: spied(getattr(short_way, way)) for way in ways}):
        got = results()
    assert len(served) == 1
    assert served[0] is not None
    with mock.patch.multiple(short_way, **dict.fromkeys(ways, lambda *_: None)):
        expected = results()
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("form", ["dense", *FORMS])
@pytest.mark.parametrize("kind", ["lstm", "gru", "program"])
def test_dropout_between_layers_too(kind: str, form: str, second: bool, p: float) -> None:
    """The same masks, and the generator is left where it was."""
    torch.manual_seed(1)
    layer = LAYERS[kind](FEATURES, H, num_layers=3, bidirectional=True, dropout=p).double()
    served, short = [], short_way.layer_directly

    def spied(*arguments: Any) -> Any:
        served.append(short(*arguments))
        return served[-1]

    with mock.patch.object(short_way, "layer_directly", spied):
        got = results_of(layer, form, second=second)
    state = torch.get_rng_state()
    assert len(served) == 2
    assert all(one is not None for one in served)
    with mock.patch.object(short_way, "layer_directly", return_value=None):
        expected = results_of(layer, form, second=second)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["module", "autocast"])
@pytest.mark.parametrize("form", ["packed", "lengths", "resets", "single"])
@pytest.mark.parametrize("kind", ["lstm", "projected", "gru", "rnn"])
def test_half_precision_too(kind: str, form: str, autocast: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layer = LAYERS[kind](FEATURES, H)
    x = torch.randn(T, B, FEATURES)
    if not autocast:
        layer, x = layer.to(dtype), x.to(dtype)

    def results() -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        input, keywords = given(form, leaf, False)
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            outputs = tensors_of(layer(input, **keywords))
        loss = sum(one.float().square().sum() for one in outputs)
        return [*outputs, *torch.autograd.grad(loss, [leaf, *layer.parameters()])]

    served, short = [], short_way.layer_raised

    def spied(*arguments: Any) -> Any:
        served.append(short(*arguments))
        return served[-1]

    with mock.patch.object(short_way, "layer_raised", spied):
        got = results()
    assert len(served) == 1
    assert served[0] is not None
    with mock.patch.object(short_way, "layer_raised", return_value=None):
        expected = results()
    for g, e in zip(got, expected, strict=True):
        assert g.dtype is e.dtype
        assert torch.equal(g, e)


def test_saved_tensors_that_hooks_have_moved_go_the_long_way() -> None:
    layer = fastrnn.LSTM(FEATURES, H)
    x = torch.randn(T, B, FEATURES, requires_grad=True)
    y, _ = layer(pack_padded_sequence(x, PACKED, enforce_sorted=False))
    expected = torch.autograd.grad(y.data.sum(), x)[0]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(force=True), torch.tensor):
        y, _ = layer(pack_padded_sequence(x, PACKED, enforce_sorted=False))
    assert torch.equal(torch.autograd.grad(y.data.sum(), x)[0], expected)


@pytest.mark.parametrize(
    ("sizes", "order", "words"),
    [
        ([3, 4], None, "never rise"),
        ([4, 2], None, "add up"),
        ([7, 0], None, "positive"),
        ([4, 3], [0, 1, 2, 2], "permutation"),
        ([4, 3], [0, 1, 2, 4], "permutation"),
        ([4, 3], [0, -1, 2, 3], "permutation"),
        ([4, 3], [0, 1, 2], "permutation"),
    ],
)
def test_packed_batches_that_contradict_themselves(
    sizes: list[int], order: list[int] | None, words: str
) -> None:
    indices = None if order is None else torch.tensor(order)
    packed = PackedSequence(torch.randn(7, FEATURES), torch.tensor(sizes), indices, indices)
    with pytest.raises(RuntimeError, match=words):
        fastrnn.GRU(FEATURES, H)(packed)


@pytest.mark.parametrize(
    "lengths", [[2, 6, 0, 7, 3], [2, 6, -1, 6, 3], [1, 2, 3], [1.0, 2.0, 3.0, 4.0, 5.0]]
)
def test_lengths_that_do_not_fit(lengths: list[Any]) -> None:
    with pytest.raises(ValueError, match="lengths: expected"):
        fastrnn.GRU(FEATURES, H)(torch.randn(T, B, FEATURES), lengths=torch.tensor(lengths))


@pytest.mark.parametrize("resets", [RESETS[1:], RESETS.t(), RESETS.int(), RESETS[0]])
def test_resets_that_do_not_fit(resets: Tensor) -> None:
    with pytest.raises(ValueError, match="resets: expected"):
        fastrnn.GRU(FEATURES, H)(torch.randn(T, B, FEATURES), resets=resets)


def test_a_batch_in_which_no_sequence_has_a_step() -> None:
    y, h = fastrnn.GRU(FEATURES, H)(
        torch.randn(T, B, FEATURES), lengths=torch.zeros(B, dtype=torch.int64)
    )
    assert not y.any()
    assert not h.any()
