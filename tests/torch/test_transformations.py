"""torch.func and derivatives of every order: torch's own answer, or the sum of its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, OLD_TORCH, flat
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils.rnn import PackedSequence

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


CELL_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((kind, {"bias": bias}) for kind in CELLS for bias in (True, False)),
    ("LSTMCell", {"peephole": "gio", "cell_clip": 0.3}),
    ("GRUCell", {"reset_after": False}),
    ("RNNCell", {"activation": "softplus"}),
)


def name_of(value: Any) -> str | None:
    return " ".join(value) or "plain" if isinstance(value, dict) else None


@pytest.mark.parametrize(("kind", "options"), CELL_OPTIONS, ids=name_of)
def test_gradients_of_each_sample_are_one_call(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer_of(kind, **options), samples(kind)
    spy = Spy(monkeypatch)
    vmap(grad(loss_of(layer)), in_dims=(None, 0))(dict(layer.named_parameters()), x)
    assert spy.calls == ["recurrence_forward", "recurrence_backward"]
    assert_gradients_are_of_samples(layer, x)


LAYER_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LSTM", {}),
    ("LSTM", {"bidirectional": True, "batch_first": True}),
    ("LSTM", {"proj_size": 2}),
    ("LSTM", {"peephole": "ifo", "cell_clip": 0.3}),
    ("LSTM", {"peephole": "go", "input_forget": True, "bias": False}),
    ("LSTM", {"proj_size": 3, "peephole": "fo", "output_activation": "softsign", "reverse": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2, "peephole": "oi"}),
    ("GRU", {"reverse": True}),
    ("GRU", {"num_layers": 3, "bidirectional": True, "batch_first": True}),
    ("GRU", {"cell_clip": 0.3, "recurrent_activation": "hard_sigmoid"}),
    ("GRU", {"reset_after": False, "num_layers": 2, "bidirectional": True}),
    ("GRU", {"reset_after": False, "cell_clip": 0.3, "bias": False, "reverse": True}),
    ("RNN", {"bidirectional": True}),
    ("RNN", {"num_layers": 2, "activation": "elu(0.5)", "cell_clip": 0.3, "reverse": True}),
)


class Form:
    """How a sample [5, 2, 3] is given to a layer."""

    def __init__(self, name: str, layer: Any) -> None:
        self.name, self.layer = name, layer
        state = ((layer.num_layers * (2 if layer.bidirectional else 1)), 2)
        h = torch.randn(*state, getattr(layer, "proj_size", 0) or 4, dtype=torch.float64)
        c = torch.randn(*state, 4, dtype=torch.float64)
        self.hx = None if name == "dense" else (h, c) if layer.mode == "LSTM" else h
        self.resets = torch.rand(5, 2, generator=torch.Generator().manual_seed(3)) < 0.4
        self.lengths = torch.tensor([3, 5])
        self.past = torch.arange(5)[:, None] >= self.lengths

    def __call__(self, one: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments and keywords."""
        keywords: dict[str, Any] = {"return_states": True}
        if "packed" in self.name:
            order = None if "sorted" in self.name else torch.tensor([1, 0])
            sizes = torch.tensor([2, 2, 2, 1, 1])
            return (PackedSequence(one.flatten(0, 1)[:8], sizes, order, order), self.hx), keywords
        if "resets" in self.name:
            keywords["resets"] = self.resets
        if "lengths" in self.name:  # nobody may read what is past the end
            keywords["lengths"] = self.lengths
            one = one.masked_fill(self.past[..., None], torch.nan)
        if self.layer.batch_first:
            one = one.transpose(0, 1)
            if "resets" in keywords:
                keywords["resets"] = self.resets.t()
        return (one, self.hx), keywords


unread = pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 reads no values under torch.func")
RAGGED = [pytest.param(form, marks=unread) for form in ("lengths, resets", "packed")]
FORMS = ("dense", "states", "resets", "lengths", "lengths, resets", "packed", "packed, sorted")


def distance(outputs: Any) -> Tensor:
    """A loss of which every output has a gradient, what is past an end included."""
    return sum(
        (y - torch.arange(y.numel()).cos().view(y.shape)).square().sum() for y in flat(outputs)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "options"), LAYER_OPTIONS, ids=name_of)
def test_gradients_of_each_sample_are_a_call_a_layer(
    kind: str, options: dict[str, Any], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer_of(kind, **options), samples(kind, 3)
    arguments = Form(form, layer)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return distance(functional_call(layer, parameters, *arguments(one)))

    with monkeypatch.context() as patch:
        spy = Spy(patch)
        got = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0))(parameters, x)
    assert spy.calls.count("recurrence_forward") == layer.num_layers
    assert spy.calls.count("recurrence_backward") == layer.num_layers
    for v, one in enumerate(x):
        layer.zero_grad()
        leaf = one.clone().requires_grad_()
        given, keywords = arguments(leaf)
        distance(layer(*given, **keywords)).backward()
        torch.testing.assert_close(got[1][v], leaf.grad)
        for name, p in layer.named_parameters():
            torch.testing.assert_close(got[0][name][v], p.grad)


@pytest.mark.parametrize("form", ["dense", "resets", *RAGGED])
@pytest.mark.parametrize(("kind", "options"), LAYER_OPTIONS[::2], ids=name_of)
def test_gradients_of_each_sample_have_derivatives(
    kind: str, options: dict[str, Any], form: str
) -> None:
    layer, x = layer_of(kind, **options), samples(kind, 2)
    arguments = Form(form, layer)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def gradients(parameters: dict[str, Tensor], one: Tensor) -> Any:
        return grad(lambda p: distance(functional_call(layer, p, *arguments(one))))(parameters)

    def sum_of_norms(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        of_samples = vmap(gradients, in_dims=(None, 0))(parameters, x)
        return sum(g.square().sum() for g in of_samples.values())

    def norm(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return sum(g.square().sum() for g in gradients(parameters, one).values())

    got = grad(sum_of_norms, argnums=(0, 1))(parameters, x)
    expected = [grad(norm, argnums=(0, 1))(parameters, one) for one in x]
    torch.testing.assert_close(got[1], torch.stack([of_x for _, of_x in expected]))
    for name, g in got[0].items():
        torch.testing.assert_close(g, sum(of_weights[name] for of_weights, _ in expected))


def test_a_wrong_packed_batch_is_refused_under_vmap() -> None:
    layer, rows = layer_of("GRU"), torch.randn(2, 5, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"input\.batch_sizes: expected positive sizes"):
        vmap(lambda one: layer(PackedSequence(one, torch.tensor([2, 2])))[0].data)(rows)


def test_lengths_and_resets_of_each_sample_are_taken() -> None:
    layer, x = layer_of("LSTM", bidirectional=True, proj_size=2), samples("LSTM", 3)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    lengths, resets = torch.tensor([[3, 5], [4, 0], [1, 2]]), torch.rand(3, 5, 2) < 0.4

    def loss(parameters: Any, one: Tensor, lengths: Tensor, resets: Tensor) -> Tensor:
        keywords = {"lengths": lengths, "resets": resets}
        return distance(functional_call(layer, parameters, (one,), keywords))

    got = vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, x, lengths, resets)
    for v in range(3):
        expected = grad(loss)(parameters, x[v], lengths[v], resets[v])
        for name, g in expected.items():
            torch.testing.assert_close(got[name][v], g)


@pytest.mark.parametrize("form", FORMS)
def test_dropout_in_a_stack_reaches_the_gradients_of_each_sample(form: str) -> None:
    layer = layer_of("GRU", num_layers=2, dropout=0.5, batch_first=True)
    arguments = Form(form, layer)
    x = samples("GRU", 1).expand(3, -1, -1, -1)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return distance(functional_call(layer, parameters, *arguments(one)))

    torch.manual_seed(5)
    got = vmap(grad(loss), in_dims=(None, 0), randomness="same")(parameters, x)
    torch.manual_seed(5)
    given, keywords = arguments(x[0])
    distance(layer(*given, **keywords)).backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(got[name], p.grad.expand_as(got[name]))


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
def test_an_ensemble_has_the_gradients_of_its_members(kind: str) -> None:
    members = [layer_of(kind) for _ in range(3)]
    parameters, _ = stack_module_state(members)
    x, loss = samples(kind)[0], loss_of(members[0])
    got = vmap(grad(loss), in_dims=(0, None))(parameters, x)
    for v in range(3):
        expected = grad(loss)({name: p[v] for name, p in parameters.items()}, x)
        for name, g in expected.items():
            torch.testing.assert_close(got[name][v], g)


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


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr")  # torch's own affair
def test_linearize_takes_dropout_between_layers_of_a_ragged_batch() -> None:
    layer = layer_of("LSTM", num_layers=2, dropout=0.5)
    x, v = samples("LSTM", 2)

    def output(x: Tensor) -> Tensor:
        return flat(layer(x, lengths=[3, 5]))[0]

    _, linear = torch.func.linearize(output, x)
    torch.manual_seed(1)  # as of torch's dropout, masks are drawn at each call
    got = linear(v)
    torch.manual_seed(1)
    assert_all_close(got, jvp(output, (x,), (v,))[1])


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
