"""convert(subclasses=True): classes that somebody derived, whatever they do with being classes."""

from __future__ import annotations

import abc
import collections.abc
import copy
import gc
import pickle
import typing
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

import fastrnn

T = typing.TypeVar("T")


class Doubled(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


def rebuilt(state):
    layer = Rebuilt(3, 4)
    layer.load_state_dict(state)
    return layer


class Rebuilt(Doubled):
    def __reduce__(self):
        return rebuilt, (self.state_dict(),)


class RebuiltByItsClass(Doubled):
    def __reduce__(self):
        return type(self), (3, 4), self.__getstate__()


class WithArguments(Doubled):
    def __new__(cls, size, *args, **kwargs):
        return super().__new__(cls)

    def __getnewargs__(self):
        return (3,)


class WithKeywords(Doubled):
    def __new__(cls, *args, size, **kwargs):
        layer = super().__new__(cls)
        layer.__dict__["size"] = size
        return layer

    def __init__(self, *args, size):
        kept = self.__dict__["size"]
        super().__init__(*args)
        self.size = kept

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


class Keyed(Doubled):
    made: list = []  # noqa: RUF012

    def __init_subclass__(cls, *, key):
        super().__init_subclass__()
        Keyed.made.append(cls)


class OfKey(Keyed, key="mine"):
    pass


class Abstract(Doubled, abc.ABC):
    pass


class Slotted(Doubled):
    __slots__ = ("extra",)


class Rooted(abc.ABC, nn.RNNBase):
    @abc.abstractmethod
    def sizes(self): ...


class OfAbstract(Rooted, nn.LSTM):
    """As pytorch-forecasting's: what has no ``__dict__`` comes first."""

    def sizes(self):
        return self.input_size, self.hidden_size

    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


class OfGeneric(typing.Generic[T], nn.LSTM):
    pass


class HasSizes(typing.Protocol):
    def sizes(self): ...


class OfProtocol(HasSizes, nn.LSTM):
    pass


class OfSized(collections.abc.Sized, nn.LSTM):
    def __len__(self):
        return self.hidden_size


class KeyedFirst:
    __slots__ = ()

    def __init_subclass__(cls, *, key):
        super().__init_subclass__()


class OfKeyFirst(KeyedFirst, nn.LSTM, key="mine"):
    pass


class WithSlot:
    __slots__ = ("extra",)


class OfSlot(WithSlot, nn.LSTM):
    pass


class Strict(Doubled):
    def __setattr__(self, name, value):
        if name == "__class__":
            raise AttributeError("not this one")
        super().__setattr__(name, value)


OWN = [Doubled, Rebuilt, RebuiltByItsClass, WithArguments, OfKey, Abstract, Slotted, Strict]
OWN += [OfAbstract, OfGeneric, OfProtocol, OfSized, OfKeyFirst, OfSlot]


def build(own):
    return own(3, 4, size=7) if own is WithKeywords else own(3, 4)


@pytest.mark.parametrize("own", [*OWN, WithKeywords])
def test_a_layer_is_turned_copied_pickled_and_reverted_whatever_its_class_defines(own):
    layer, x = build(own), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    copies = [copy.deepcopy, copy.copy]
    copies += [lambda one, p=p: pickle.loads(pickle.dumps(one, p)) for p in range(6)]
    fastrnn.convert(layer, subclasses=True)
    got = layer(x)[0]
    torch.testing.assert_close(got, expected)
    assert isinstance(layer, own)
    assert isinstance(layer, fastrnn.LSTM)
    for copied in copies:
        twin = copied(layer)
        assert type(twin) is type(layer)
        assert torch.equal(twin(x)[0], got)
        assert getattr(twin, "size", None) == getattr(layer, "size", None)
        assert type(fastrnn.revert(twin)) is own
    assert type(fastrnn.revert(layer)) is own
    assert torch.equal(layer(x)[0], expected)


def test_no_class_is_announced_to_those_that_keep_a_register():
    before = [*Keyed.made]
    layer = OfKey(3, 4)
    fastrnn.convert(layer, subclasses=True)
    parametrized = parametrizations.weight_norm(Abstract(3, 4), "weight_hh_l0")
    fastrnn.convert(parametrized, subclasses=True)
    fastrnn.revert(nn.ModuleList([layer, parametrized]))
    assert Keyed.made == before


@pytest.mark.parametrize("parametrized_first", [True, False])
def test_a_parametrized_layer_keeps_its_class_and_can_be_freed_of_parametrizations(
    parametrized_first,
):
    layer, x = Doubled(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    if not parametrized_first:
        fastrnn.convert(layer, subclasses=True)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    fastrnn.convert(layer, subclasses=True)
    assert isinstance(layer, fastrnn.LSTM)
    assert type(layer).__name__ == "ParametrizedDoubled"
    assert parametrize.type_before_parametrizations(layer).__name__ == "Doubled"
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(copy.deepcopy(layer)(x)[0], expected)
    reverted = fastrnn.revert(copy.deepcopy(layer))
    assert parametrize.type_before_parametrizations(reverted) is Doubled
    torch.testing.assert_close(reverted(x)[0], expected)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert type(fastrnn.revert(layer)) is Doubled


def test_all_layers_of_a_class_get_one_class_and_it_is_gone_with_them():
    def turn_some():
        class Local(nn.GRU):
            pass

        layers = nn.ModuleList([Local(3, 4), Local(3, 4)])
        fastrnn.convert(layers, subclasses=True)
        assert type(layers[0]) is type(layers[1])
        return [weakref.ref(Local), weakref.ref(type(layers[0]))]

    classes = turn_some()
    gc.collect()
    assert [one() for one in classes] == [None, None]


def test_a_class_that_cannot_be_derived_from_stops_conversion_before_anything_is_changed():
    class Final(type):
        def __new__(meta, name, bases, members):
            if any(isinstance(base, Final) for base in bases):
                raise TypeError(f"{bases[0].__name__} is final")
            return super().__new__(meta, name, bases, members)

    class Last(nn.LSTM, metaclass=Final):
        pass

    model = nn.ModuleList([nn.GRU(3, 4), Doubled(3, 4), Last(3, 4)])
    with pytest.raises(TypeError, match="is final"):
        fastrnn.convert(model, subclasses=True)
    assert [type(layer) for layer in model] == [nn.GRU, Doubled, Last]


@pytest.mark.parametrize("turn", [fastrnn.convert, fastrnn.revert])
def test_a_layer_that_fails_while_it_is_turned_gives_the_others_their_classes_back(turn):
    class Fragile(nn.LSTM):
        whole = True

        def _init_flat_weights(self):
            if not self.whole:
                self.whole = True  # once
                raise KeyError("weights")
            super()._init_flat_weights()

    model, x = nn.ModuleList([nn.LSTM(3, 4), Fragile(3, 4)]), torch.randn(5, 2, 3)
    expected = [layer(x)[0] for layer in model]
    if turn is fastrnn.revert:
        fastrnn.convert(model, subclasses=True)
    before = [type(layer) for layer in model]
    model[1].whole = False
    with pytest.raises(KeyError, match="weights"):
        turn(model, **({"subclasses": True} if turn is fastrnn.convert else {}))
    assert [type(layer) for layer in model] == before
    for layer, y in zip(model, expected, strict=True):
        torch.testing.assert_close(layer(x)[0], y)
        torch.testing.assert_close(copy.deepcopy(layer).double()(x.double())[0].float(), y)


def test_a_parametrized_layer_with_an_option_that_torchs_lack_is_not_reverted():
    layer = fastrnn.GRU(3, 4, reset_after=False)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with pytest.raises(ValueError, match="expected layers that torch has too"):
        fastrnn.revert(layer)
    assert isinstance(layer, fastrnn.GRU)


def with_helpers(layer, cell):
    """Classes whose forward goes through methods of their own, as many do."""

    class OwnForward(layer):
        def forward(self, x):
            return self._forward(x)

        def _forward(self, x):
            return super().forward(2 * x)[0]

    class OwnStep(cell):
        def forward(self, x):
            return self._step(x)

        def _step(self, x):
            return super().forward(2 * x)

    return OwnForward(3, 4), OwnStep(3, 4)


def test_derived_classes_may_have_methods_that_are_called_like_a_forward_or_a_step():
    derived = with_helpers(fastrnn.GRU, fastrnn.GRUCell)
    for plain, direct in zip(with_helpers(nn.GRU, nn.GRUCell), derived, strict=True):
        direct.load_state_dict(plain.state_dict())
        x = torch.randn(5, 2, 3) if isinstance(plain, nn.GRU) else torch.randn(2, 3)
        expected = plain(x)
        for layer in (direct, fastrnn.convert(plain, subclasses=True)):
            torch.testing.assert_close(layer(x), expected)


class OwnOptions(nn.LSTM):
    """Names of options here, which mean something else there."""

    forget_bias = 3.0
    regularised = True

    def __init__(self, *args):
        super().__init__(*args)
        self.variant = "doubled"
        self.initial_state = nn.Parameter(torch.ones(2, 1, 1, args[1]))

    def forward(self, x):
        h, c = self.initial_state.expand(-1, -1, x.shape[1], -1)
        y, _ = super().forward(
            2 * x if self.variant == "doubled" and self.regularised else x, (h, c)
        )
        return y


def test_derived_classes_may_have_attributes_that_are_called_like_options():
    layer, x = OwnOptions(3, 4), torch.randn(5, 2, 3)
    shown, expected = repr(layer), layer(x)
    fastrnn.convert(layer, subclasses=True)
    assert repr(layer) == shown
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(one(x), expected)
        assert one.forget_bias == 3.0
    torch.manual_seed(0)
    layer.reset_parameters()
    drawn = [parameter.clone() for parameter in layer.parameters()]
    fastrnn.revert(layer)
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all(map(torch.equal, layer.parameters(), drawn))


@pytest.mark.parametrize("name", ["initial_state", "variant", "regularised", "forget_bias"])
def test_derived_classes_may_register_what_is_called_like_an_option(name):
    class Own(fastrnn.LSTM):
        def __init__(self, as_buffer):
            super().__init__(3, 4)
            if as_buffer:
                self.register_buffer(name, torch.ones(2), persistent=False)
            else:
                setattr(self, name, nn.Parameter(torch.ones(2)))

    plain, x = fastrnn.LSTM(3, 4), torch.randn(5, 2, 3)
    for as_buffer in (False, True):
        layer = Own(as_buffer)
        layer.load_state_dict(plain.state_dict(), strict=as_buffer)
        assert torch.equal(getattr(copy.deepcopy(layer), name), torch.ones(2))
        assert (name in dict(layer.named_parameters())) is not as_buffer
        assert torch.equal(layer(x)[0], plain(x)[0])
        with pytest.raises(KeyError, match="already exists"):
            layer.register_buffer("hidden_size", None)


def test_layers_show_their_options_and_derived_ones_their_own():
    class Own(fastrnn.GRU):
        variant = "own"

    layer = Own(3, 4, reset_after=False, initial_state=True)
    assert layer.variant == "own"
    assert layer.initial_state is True
    assert fastrnn.GRU(3, 4, reset_after=False).variant.reset_after is False
    expected = fastrnn.GRU(3, 4, reset_after=False, initial_state=True)
    expected.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.equal(layer(x)[0], expected(x)[0])
    assert fastrnn.GRU.variant is None


def with_dropped_weights(layer):
    class DropsWeights(layer):
        """Gives the call weights that are not the layer's own, and takes them away again."""

        def forward(self, x, hx=None):
            own = self._flat_weights
            dropped = [F.dropout(w, 0.5) if w.dim() == 2 else w for w in own]
            self._flat_weights = dropped
            try:
                return super().forward(x, hx)
            finally:
                self._flat_weights = own

    return DropsWeights


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("swapped", [True, False])
def test_weights_that_a_derived_class_stores_as_the_flat_ones_compute(kind, swapped):
    plain = with_dropped_weights(getattr(nn, kind))(3, 4, 2)
    direct = with_dropped_weights(getattr(fastrnn, kind))(3, 4, 2)
    direct.load_state_dict(plain.state_dict())
    x = torch.randn(5, 2, 3)
    fast = direct if swapped else fastrnn.convert(copy.deepcopy(plain), subclasses=True)
    results = []
    for layer in (plain, fast):
        torch.manual_seed(1)
        y = layer(x)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    for got, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(got, expected)
    assert all(w is p for w, p in zip(fast._flat_weights, fast.parameters(), strict=True))


def test_flat_weights_that_were_stored_hold_until_the_own_ones_are_taken_again():
    layer, other, x = fastrnn.GRU(3, 4), fastrnn.GRU(3, 4), torch.randn(5, 2, 3)
    own, expected = layer(x)[0], other(x)[0]
    layer._flat_weights = list(other.parameters())
    assert torch.equal(layer(x)[0], expected)
    assert torch.equal(copy.deepcopy(layer)(x)[0], expected)
    layer.weight_hh_l0 = layer.weight_hh_l0  # torch repairs its list likewise
    assert layer._flat_weights[1] is layer.weight_hh_l0
    assert torch.equal(layer.float()(x)[0], own)
    layer._flat_weights = list(other.parameters())
    assert torch.equal(fastrnn.convert(fastrnn.revert(layer))(x)[0], own)
