"""torch.func and derivatives of every order: torch's own answer, or the sum of its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, flat
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own forward mode


def layer_of(kind: str, **options: Any) -> Any:
    return getattr(fastrnn, kind)(3, 4, dtype=torch.float64, **options)


def samples(kind: str, count: int = 6) -> Tensor:
    sizes = (2, 3) if kind in CELLS else (5, 2, 3)
    return torch.randn(count, *sizes, dtype=torch.float64)


def loss_of(layer: Any) -> Any:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return sum(y.square().sum() for y in flat(functional_call(layer, parameters, (x,))))

    return loss


def assert_all_close(got: Any, want: Any) -> None:
    for g, w in zip(flat(got), flat(want), strict=True):
        torch.testing.assert_close(g, w)


class Spy:
    """Counts the calls of the operators."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("recurrence_forward", "recurrence_backward"):
            monkeypatch.setattr(torch.ops.fastrnn, name, self._counting(name))

    def _counting(self, name: str) -> Any:
        operator = getattr(torch.ops.fastrnn, name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return operator(*arguments)

        return call


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_vmap_is_one_call_for_all_samples(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(kind), samples(kind)
    expected = [flat(layer(one)) for one in x]
    spy = Spy(monkeypatch)
    got = flat(vmap(layer)(x))
    assert spy.calls == ["recurrence_forward"]
    assert_all_close(got, [torch.stack(of_each) for of_each in zip(*expected, strict=True)])


@pytest.mark.parametrize("form", ["lengths", "resets", "batch_first", "state", "states", "dims"])
def test_vmap_takes_what_a_layer_takes(form: str) -> None:
    layer = layer_of("LSTM", num_layers=2, bidirectional=True, batch_first=form == "batch_first")
    x, keywords, dim = samples("LSTM"), {}, 0
    if form == "lengths":
        keywords["lengths"] = torch.tensor([3, 0])
    elif form == "resets":
        keywords["resets"] = torch.rand(5, 2) < 0.3
    elif form == "state":
        keywords["hx"] = tuple(torch.randn(4, 2, 4, dtype=torch.float64) for _ in range(2))
    elif form == "states":
        keywords["return_states"] = True
    elif form == "dims":
        dim = 2
    got = flat(vmap(lambda one: layer(one, **keywords), in_dims=dim)(x.movedim(0, dim)))
    expected = [flat(layer(one, **keywords)) for one in x]
    assert_all_close(got, [torch.stack(of_each) for of_each in zip(*expected, strict=True)])


def assert_gradients_are_of_samples(layer: Any, x: Tensor, **keywords: Any) -> None:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return sum(y.square().sum() for y in flat(functional_call(layer, parameters, x, keywords)))

    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    got = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for v, one in enumerate(x):
        layer.zero_grad()
        sum(y.square().sum() for y in flat(layer(one, **keywords))).backward()
        for name, p in layer.named_parameters():
            torch.testing.assert_close(got[name][v], p.grad)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_gradients_of_each_sample_are_one_call(
    kind: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer_of(kind, bias=bias), samples(kind)
    spy = Spy(monkeypatch)
    vmap(grad(loss_of(layer)), in_dims=(None, 0))(dict(layer.named_parameters()), x)
    assert spy.calls == ["recurrence_forward", "recurrence_backward"]
    assert_gradients_are_of_samples(layer, x)


SAMPLES: dict[str, dict[str, Any]] = {
    "two directions": {"bidirectional": True},
    "batch first": {"batch_first": True},
    "a stack": {"num_layers": 3, "bidirectional": True, "batch_first": True},
}


@pytest.mark.parametrize("options", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_each_sample_with_options_are_a_call_a_layer(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer_of(kind, **options), samples(kind)
    states = torch.randn(2, layer.num_layers * (2 if layer.bidirectional else 1), 2, 4).to(x)
    if layer.batch_first:
        x = x.transpose(1, 2)
    hx = tuple(states) if kind == "LSTM" else states[0]
    with monkeypatch.context() as patch:
        spy = Spy(patch)
        vmap(grad(loss_of(layer)), in_dims=(None, 0))(dict(layer.named_parameters()), x)
    assert spy.calls.count("recurrence_forward") == layer.num_layers
    assert spy.calls.count("recurrence_backward") == layer.num_layers
    assert_gradients_are_of_samples(layer, x, hx=hx, return_states=True)


def test_gradients_of_each_sample_are_right_where_they_are_a_loop() -> None:
    resets, lengths = torch.rand(5, 2) < 0.3, torch.tensor([3, 5])
    for layer, keywords in (
        (layer_of("LSTM", proj_size=2, num_layers=2), {}),
        (layer_of("GRU", bidirectional=True), {"resets": resets}),
        (layer_of("RNN", num_layers=2), {"lengths": lengths}),
        (layer_of("GRU", reset_after=False), {}),
    ):
        assert_gradients_are_of_samples(layer, samples("LSTM"), **keywords)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_each_sample_have_derivatives(kind: str) -> None:
    layer, x = layer_of(kind, num_layers=2), samples(kind, 3)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def sum_of_norms(x: Tensor) -> Tensor:
        of_samples = vmap(grad(loss_of(layer)), in_dims=(None, 0))(parameters, x)
        return sum(g.square().sum() for g in of_samples.values())

    def norm(one: Tensor) -> Tensor:
        return sum(g.square().sum() for g in grad(loss_of(layer))(parameters, one).values())

    torch.testing.assert_close(grad(sum_of_norms)(x), torch.stack([grad(norm)(one) for one in x]))


def test_dropout_in_a_stack_reaches_the_gradients_of_each_sample() -> None:
    layer = layer_of("GRU", num_layers=2, dropout=0.5, batch_first=True)
    x = samples("GRU", 1).expand(3, -1, -1, -1).transpose(1, 2)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    gradients = vmap(grad(loss_of(layer)), in_dims=(None, 0), randomness="same")
    torch.manual_seed(5)
    got = gradients(parameters, x)
    torch.manual_seed(5)
    expected = grad(loss_of(layer))(parameters, x[0])
    for name, g in got.items():
        torch.testing.assert_close(g, expected[name].expand_as(g))


@pytest.mark.parametrize("kind", LAYERS)
def test_input_gradients_of_all_samples_are_one_call(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer_of(kind), samples(kind)
    of_input = grad(lambda one: flat(layer(one))[0].square().sum())
    expected = torch.stack([of_input(one) for one in x])
    for p in layer.parameters():
        p.requires_grad_(False)
    spy = Spy(monkeypatch)
    torch.testing.assert_close(vmap(of_input)(x), expected)
    assert spy.calls == ["recurrence_forward", "recurrence_backward"]


@pytest.mark.parametrize("kind", LAYERS)
def test_an_ensemble_computes_what_its_members_do(kind: str) -> None:
    members = [layer_of(kind) for _ in range(3)]
    parameters, _ = stack_module_state(members)
    x = samples(kind)[0]
    got = flat(vmap(lambda p: functional_call(members[0], p, (x,)))(parameters))
    expected = zip(*(flat(member(x)) for member in members), strict=True)
    assert_all_close(got, [torch.stack(of_each) for of_each in expected])


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_jvp_is_the_directional_derivative(kind: str) -> None:
    layer, x = layer_of(kind), samples(kind)[0]
    v = torch.randn_like(x)
    _, got = jvp(lambda x: flat(layer(x))[0], (x,), (v,))
    ahead, behind = (flat(layer(x + step * v))[0] for step in (1e-6, -1e-6))
    torch.testing.assert_close(got, ((ahead - behind) / 2e-6), rtol=1e-5, atol=1e-7)
    with forward_ad.dual_level():
        y = flat(layer(forward_ad.make_dual(x, v)))[0]
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, got)


@pytest.mark.parametrize("kind", LAYERS)
def test_jacobians_and_hessians_are_those_of_plain_autograd(kind: str) -> None:
    layer, x = layer_of(kind), samples(kind)[0, :2]

    def outputs(x: Tensor) -> Tensor:
        return flat(layer(x))[0]

    def loss(x: Tensor) -> Tensor:
        return outputs(x).square().sum()

    plain = torch.autograd.functional
    torch.testing.assert_close(jacrev(outputs)(x), plain.jacobian(outputs, x))
    torch.testing.assert_close(hessian(loss)(x), plain.hessian(loss, x))
    torch.testing.assert_close(jacrev(jacrev(loss))(x), plain.hessian(loss, x))


def test_dropout_under_vmap_is_drawn_for_each_sample_when_asked() -> None:
    layer = layer_of("GRU", num_layers=2, dropout=0.5)
    x = samples("GRU", 1).expand(4, -1, -1, -1)
    same = vmap(lambda one: layer(one)[0], randomness="same")(x)
    assert torch.equal(same[0], same[1])
    different = vmap(lambda one: layer(one)[0], randomness="different")(x)
    assert not torch.equal(different[0], different[1])


def test_shapes_are_known_without_memory() -> None:
    layer = fastrnn.LSTM(3, 4, proj_size=2, device="meta")
    y, (h, c) = layer(torch.randn(5, 2, 3, device="meta"))
    assert y.is_meta
    assert (y.shape, h.shape, c.shape) == ((5, 2, 2), (1, 2, 2), (1, 2, 4))
    y.sum().backward()
    assert layer.weight_hh_l0.grad.is_meta
