"""The short way of plain calls: the same bits as the long way, and nothing but plain calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS
from finite_differences import assert_second_derivatives
from torch import Tensor
from torch.autograd import forward_ad

import fastrnn
from fastrnn import _torch
from fastrnn._layers import short_way
from fastrnn._layers.plan import layer_plan

pytestmark = pytest.mark.skipif(
    not hasattr(Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no short way"
)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"batch_first": True},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "dropout": 0.5},
    {"proj_size": 3},
    {"dtype": torch.float64},
]


PLAIN = ("layer_directly", "cell_directly")


class Spy:
    """Stands before the short ways and counts what they serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served = self.refused = 0
        for name in PLAIN:
            monkeypatch.setattr(short_way, name, self._before(getattr(short_way, name)))

    def _before(self, directly: Any) -> Any:
        def spy(*arguments: Any) -> Any:
            done = directly(*arguments)
            self.served += done is not None
            self.refused += done is None
            return done

        return spy


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def flat(returned: Any) -> list[Tensor]:
    if isinstance(returned, Tensor):
        return [returned]
    return [tensor for part in returned for tensor in flat(part)]


def by_the_long_way(call: Any) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        for name in PLAIN:
            patch.setattr(short_way, name, lambda *_: None)
        return flat(call())


def random_state(returned: Any) -> Any:
    """A state like the one that a layer or cell has returned."""
    if isinstance(returned, Tensor):
        return torch.randn_like(returned)
    return tuple(torch.randn_like(part) for part in returned)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, o) for o in OPTIONS for name in LAYERS if name == "LSTM" or "proj_size" not in o),
        ("LSTM", {"peephole": "fo", "num_layers": 2}),
        ("GRU", {"reset_after": False}),
        ("RNN", {"activation": "elu", "reverse": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("B", [1, 3])
def test_a_layer_gives_the_bits_of_the_long_way(
    name: str, options: dict[str, Any], T: int, B: int, spy: Spy
) -> None:
    layer = getattr(fastrnn, name)(5, 21, **options).eval()
    x = torch.randn((B, T, 5) if layer.batch_first else (T, B, 5), dtype=options.get("dtype"))
    with torch.inference_mode():
        state = random_state(layer(x)[1])
        for hx in (None, state):
            expected = by_the_long_way(lambda hx=hx: layer(x, hx))
            for got, want in zip(flat(layer(x, hx)), expected, strict=True):
                assert got.stride() == want.stride()
                assert torch.equal(got, want)
    assert (spy.served, spy.refused) == (3, 0)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("size", [(5, 21), (33, 64), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_gives_the_bits_of_the_long_way(
    name: str, size: tuple[int, int], bias: bool, spy: Spy
) -> None:
    cell = getattr(fastrnn, name)(*size, bias=bias).requires_grad_(False)
    for B in (1, 2, 7):
        x = torch.randn(B, size[0])
        state = random_state(cell(x))
        for hx in (None, state):
            expected = by_the_long_way(lambda x=x, hx=hx: cell(x, hx))
            for got, want in zip(flat(cell(x, hx)), expected, strict=True):
                assert torch.equal(got, want)
    assert (spy.served, spy.refused) == (9, 0)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(5, 21), (33, 64)])
def test_step_by_step_gives_the_bits_of_the_whole_sequence(
    name: str, size: tuple[int, int]
) -> None:
    layer = getattr(fastrnn, name)(*size, num_layers=2).requires_grad_(False)
    x = torch.randn(6, 1, size[0])
    whole, _ = layer(x)
    state = None
    for t in range(6):
        y, state = layer(x[t : t + 1], state)
        assert torch.equal(y[0], whole[t])


def test_rows_may_lie_anywhere(spy: Spy) -> None:
    layer = fastrnn.GRU(5, 8).requires_grad_(False)
    wide = torch.randn(3, 9, 11)
    for x in (wide[::2, 1:5, 3:8], wide.transpose(0, 1)[:, :, :5], wide[:1, :, :5].expand(4, 9, 5)):
        assert torch.equal(layer(x)[0], layer(x.contiguous())[0])
    assert (spy.served, spy.refused) == (6, 0)


def test_it_writes_what_inference_mode_and_no_grad_ask_for() -> None:
    layer, x = fastrnn.GRU(5, 8), torch.randn(3, 2, 5)
    with torch.inference_mode():
        assert all(tensor.is_inference() for tensor in flat(layer(x)))
    with torch.no_grad():
        assert not any(tensor.is_inference() or tensor.requires_grad for tensor in flat(layer(x)))


def test_what_it_returns_is_like_any_other_tensor() -> None:
    layer, x = fastrnn.LSTM(5, 8), torch.randn(3, 2, 5, dtype=torch.float32)
    for tensor in flat(layer(x)):
        assert tensor.is_contiguous()
        assert tensor.device == x.device
        assert tensor.detach().untyped_storage().resizable()
        assert tensor.data_ptr() % 64 == 0


def test_where_torch_has_no_quick_way_to_make_a_tensor_the_usual_one_serves(
    monkeypatch: pytest.MonkeyPatch, spy: Spy
) -> None:
    layer, x = fastrnn.LSTM(5, 4), torch.randn(3, 2, 5)
    want = gradients(layer, x, None, slice(None))
    monkeypatch.setattr(_torch, "empty_strided_on_cpu", _torch._empty_strided)
    layer_plan.cache_clear()
    try:
        got = gradients(layer, x, None, slice(None))
    finally:
        layer_plan.cache_clear()
    assert all(map(torch.equal, got, want))
    assert (spy.served, spy.refused) == (2, 0)


class Subclass(Tensor):
    pass


def negative(shape: tuple[int, ...]) -> Tensor:
    real = torch.randn(shape)
    view = torch.complex(real, real).conj().imag
    assert view.is_neg()
    return view


STATE = torch.randn(1, 2, 4)
UNUSUAL: dict[str, tuple[type[torch.nn.RNNBase], Any, Any]] = {
    "a subclass": (fastrnn.GRU, torch.randn(3, 2, 5).as_subclass(Subclass), None),
    "a list of states": (fastrnn.LSTM, torch.randn(3, 2, 5), [STATE, STATE]),
    "stacked states": (fastrnn.LSTM, torch.randn(3, 5), torch.randn(2, 1, 4)),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_calls_take_the_long_way(what: str, spy: Spy) -> None:
    kind, x, hx = UNUSUAL[what]
    layer = kind(5, 4).requires_grad_(False)
    layer(x, hx)
    assert spy.served == 0 < spy.refused  # a subclass is asked, and calls again


WRONG: dict[str, tuple[type[torch.nn.RNNBase], Any, Any]] = {
    "no tensor": (fastrnn.GRU, [[[1.0]]], None),
    "a half": (fastrnn.GRU, torch.randn(3, 2, 5).half(), None),
    "features": (fastrnn.GRU, torch.randn(3, 2, 6), None),
    "no steps": (fastrnn.GRU, torch.randn(0, 2, 5), None),
    "a state's rows": (fastrnn.GRU, torch.randn(3, 3, 5), STATE),
    "a state's dtype": (fastrnn.GRU, torch.randn(3, 2, 5), STATE.double()),
    "two states for one": (fastrnn.GRU, torch.randn(3, 2, 5), (STATE, STATE)),
    "one state for two": (fastrnn.LSTM, torch.randn(3, 2, 5), STATE),
    "three states for two": (fastrnn.LSTM, torch.randn(3, 2, 5), (STATE, STATE, STATE)),
    "a pair of nothing": (fastrnn.LSTM, torch.randn(3, 2, 5), (None, None)),
    "meta": (fastrnn.GRU, torch.randn(3, 2, 5, device="meta"), None),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_long_way_explains_what_is_wrong(what: str, spy: Spy) -> None:
    kind, x, hx = WRONG[what]
    with pytest.raises((ValueError, RuntimeError, AttributeError, TypeError, IndexError)):
        kind(5, 4).requires_grad_(False)(x, hx)
    assert (spy.served, spy.refused) == (0, 1)


@pytest.mark.parametrize(
    "weights",
    [
        lambda w: w[:-1],
        lambda w: [*w, w[0]],
        lambda w: [None, *w[1:]],
        lambda w: [w[0].double(), *w[1:]],
        lambda w: [w[0].T, *w[1:]],
        lambda w: [w[0].expand(2, *w[0].shape)[:, :, 0], *w[1:]],
    ],
)
def test_unusual_weights_take_the_long_way(weights: Any) -> None:
    plan = layer_plan("gru", 5, 4, 0, 1, True, False, 0.0)
    plain = [torch.randn(shape) for shape in plan.expected.shapes]
    x = torch.randn(3, 2, 5)
    assert short_way.layer_directly(plan, x, None, plain, False) is not None
    assert short_way.layer_directly(plan, x, None, weights(plain), False) is None


def test_a_transformed_tensor_has_no_memory_to_read(spy: Spy) -> None:
    layer, x = fastrnn.GRU(5, 4).requires_grad_(False), torch.randn(2, 3, 6, 5)
    torch.func.vmap(lambda row: layer(row)[0])(x)
    assert spy.served == 0


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own forward mode
def test_a_tangent_is_not_lost_on_the_short_way(spy: Spy) -> None:
    layer, x = fastrnn.GRU(5, 4).requires_grad_(False), torch.randn(3, 6, 5)
    with forward_ad.dual_level():
        y, _ = layer(forward_ad.make_dual(x, torch.ones_like(x)))
        assert forward_ad.unpack_dual(y).tangent is not None
    assert spy.served == 0


GRADIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{name} {options}": (name, options) for name in LAYERS for options in OPTIONS[:4]},
    **{name: (name, {}) for name in CELLS},
    "projected": ("LSTM", {"proj_size": 3, "num_layers": 2}),
    "float64": ("GRU", {"dtype": torch.float64}),
    "a variant": ("LSTM", {"peephole": "ifo", "cell_clip": 1.0}),
    "two stages": ("GRU", {"reset_after": False}),
}


def gradients(module: Any, x: Tensor, hx: Any, of: slice) -> list[Tensor | None]:
    """Of a sum over some of the outputs: one whose gradients are expanded, and one of two uses."""
    outputs = flat(module(x, hx))[of]
    loss = sum(output.sum() + output.square().sum() for output in outputs)
    inputs = [x, *flat(hx if hx is not None else ()), *module.parameters()]
    needed = [tensor for tensor in inputs if tensor.requires_grad]
    return [*outputs, *torch.autograd.grad(loss, needed, allow_unused=True)]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("which", GRADIENTS)
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("of", [slice(None), slice(1), slice(1, None)], ids=["all", "y", "states"])
def test_gradients_are_those_of_the_long_way(which: str, T: int, of: slice, spy: Spy) -> None:
    name, options = GRADIENTS[which]
    module = getattr(fastrnn, name)(5, 21, **options)
    x = torch.randn(*(() if name in CELLS else (T,)), 3, 5, dtype=options.get("dtype"))
    if options.get("batch_first"):
        x = x.transpose(0, 1)
    returned = module(x)
    state = random_state(returned if name in CELLS else returned[1])
    for hx in (None, state):
        for leaf in (x, *flat(hx if hx is not None else ())):
            leaf.requires_grad_()
        if name in ("GRUCell", "RNNCell") and of.start:
            continue
        want = by_the_long_way(lambda hx=hx: gradients(module, x, hx, of))
        for g, w in zip(flat(gradients(module, x, hx, of)), want, strict=True):
            assert g.stride() == w.stride()
            assert torch.equal(g, w)
    assert spy.refused == 0


def test_only_what_is_needed_is_computed(spy: Spy) -> None:
    layer, x = fastrnn.LSTM(5, 4).requires_grad_(False), torch.randn(3, 2, 5)
    layer.weight_hh_l0.requires_grad_()
    want = by_the_long_way(lambda: gradients(layer, x, None, slice(None)))
    got = gradients(layer, x, None, slice(None))
    assert len(got) == len(want) == 4
    assert all(map(torch.equal, got, want))
    assert (spy.served, spy.refused) == (1, 0)


def test_gradients_that_lie_anywhere(spy: Spy) -> None:
    layer, x = fastrnn.GRU(5, 4), torch.randn(3, 2, 5, requires_grad=True)
    for d_y in (
        torch.randn(4, 2, 3).permute(2, 1, 0),
        torch.randn(3, 2, 8)[..., ::2],
        torch.randn(3, 2, 8)[..., :4],
        torch.randn(2, 3, 4).transpose(0, 1),
        negative((3, 2, 4)),
        torch.randn(4).expand(3, 2, 4),
        torch.randn(()).expand(3, 2, 4),
        torch.randn(3, 2, 1).expand(3, 2, 4),
        torch.randn(2, 3, 1).transpose(0, 1).expand(3, 2, 4),
        negative((3, 2, 1)).expand(3, 2, 4),
    ):
        (got,) = torch.autograd.grad(layer(x)[0], x, d_y)
        (want,) = torch.autograd.grad(layer(x)[0], x, d_y.clone().contiguous())
        assert torch.equal(got, want)
    assert (spy.served, spy.refused) == (20, 0)


def test_backward_twice_and_a_derivative_of_the_derivative(spy: Spy) -> None:
    layer, x = fastrnn.LSTM(3, 4, dtype=torch.float64), torch.randn(3, 2, 3).double()
    x.requires_grad_()
    y, _ = layer(x)
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(again, first)
    assert_second_derivatives(lambda x: layer(x)[0], x)
    assert spy.refused == 0


def test_a_change_in_place_is_caught() -> None:
    layer, x = fastrnn.GRU(5, 4), torch.randn(3, 2, 5)
    y, _ = layer(x)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_saved_tensors_may_come_back_unusual(spy: Spy) -> None:
    layer, x = fastrnn.LSTM(5, 4), torch.randn(3, 2, 5)
    (want,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_ih_l0)
    for unpack in (
        lambda saved: saved.as_subclass(Subclass),
        lambda saved: torch.stack([saved, saved], -1)[..., 0],
    ):
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, unpack):
            y, _ = layer(x)
        (got,) = torch.autograd.grad(y.sum(), layer.weight_ih_l0)
        assert torch.equal(got, want)
    assert spy.refused == 0


def test_a_transformation_of_something_else_is_no_obstacle() -> None:
    layer, x = fastrnn.GRU(5, 4), torch.randn(3, 2, 5)
    want = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)

    def loss(scale: Tensor) -> Tensor:
        return scale * layer(x)[0].sum()

    scales = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(torch.func.vmap(loss)(scales), scales * layer(x)[0].sum())
    torch.testing.assert_close(torch.func.grad(loss)(scales[0]), layer(x)[0].sum())
    torch.testing.assert_close(
        torch.autograd.grad(torch.func.vmap(loss)(scales)[0], layer.weight_hh_l0), want
    )


def test_where_torch_is_too_old_for_it_the_long_way_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = fastrnn.LSTM(5, 4).requires_grad_(False), torch.randn(3, 2, 5)
    expected = flat(layer(x))
    monkeypatch.delattr(Tensor, "__dlpack_c_exchange_api__")
    layer_plan.cache_clear()
    try:
        for got, want in zip(flat(layer(x)), expected, strict=True):
            assert torch.equal(got, want)
    finally:
        layer_plan.cache_clear()
