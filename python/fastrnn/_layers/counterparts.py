"""Which class of fastrnn's stands for which of torch's, and how a layer gets the other one.

A layer is turned by giving the very same object the other class. Its parameters, buffers, hooks,
flags, parametrizations and every reference to it stay what they were, because nothing is made
anew. The two classes differ in methods alone, which is what makes this sound.

Classes are made on the way for layers of classes that somebody derived from torch's, with
fastrnn's layer between theirs and torch's, and for parametrized layers, as ``torch`` makes them.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from . import modules

__all__ = ["FAST_OF", "TORCH_OF", "fast_class", "plain_base", "torch_class", "turn", "turned_class"]

FAST_OF: dict[type, type] = {
    torch.nn.LSTM: modules.LSTM,
    torch.nn.GRU: modules.GRU,
    torch.nn.RNN: modules.RNN,
    torch.nn.LSTMCell: modules.LSTMCell,
    torch.nn.GRUCell: modules.GRUCell,
    torch.nn.RNNCell: modules.RNNCell,
}
TORCH_OF: dict[type, type] = {fast: plain for plain, fast in FAST_OF.items()}


def plain_base(own: type) -> type | None:
    """Which of torch's classes ``own`` is or derives from; None if it computes with fastrnn."""
    plain = next((base for base in own.__mro__ if base in FAST_OF), None)
    return None if plain is None or issubclass(own, FAST_OF[plain]) else plain


def fast_class(own: type, subclasses: bool = True) -> type | None:
    """The class that computes with fastrnn where ``own`` computes with torch, if there is one.

    For a class that somebody derived there is one if ``subclasses``.
    """
    plain = plain_base(own)
    if plain is None or own is plain:
        return FAST_OF.get(own)
    return _between(own, FAST_OF[plain]) if subclasses else None


def torch_class(own: type) -> type | None:
    """The inverse of `fast_class`."""
    return TORCH_OF.get(own) or vars(own).get(_WRITTEN)


def turned_class(
    module: torch.nn.Module, counterpart: Callable[[type], type | None]
) -> type | None:
    """The class that ``module`` gets where its own has this counterpart; None where it has none."""
    own, base = type(module), type_before_parametrizations(module)
    target = counterpart(base)
    return target if target is None or base is own else _parametrized_like(own, target)


def turn(module: torch.nn.Module, target: type) -> None:
    """Make ``module`` an instance of ``target``, past what its own class thinks of attributes."""
    object.__setattr__(module, "__class__", target)
    if isinstance(module, torch.nn.RNNBase) and "_flat_weights_names" in vars(module):
        # torch's layer keeps a list of its weights in the instance, fastrnn's has a property.
        for name in ("_flat_weights", "_fastrnn_given"):
            vars(module).pop(name, None)
        module._init_flat_weights()


def _parametrized_like(own: type, base: type) -> type:
    """The class that ``torch.nn.utils.parametrize`` would have made, had the layer been a ``base``.

    It makes a class of properties for each parametrized layer; ``own``'s are copied on top of
    ``base``, and ``own`` is left as it is because deep copies of the layer share it.
    """
    members = {k: v for k, v in vars(own).items() if k not in ("__dict__", "__weakref__")}
    return _new_class(f"Parametrized{base.__name__}", (base,), members)


# ---- classes that somebody derived ----

_WRITTEN = "_fastrnn_stands_for"
"""Under this name a class that `_between` made has the one that somebody wrote."""
_lock = threading.Lock()


def _between(own: type, fast: type) -> type:
    """``own`` with ``fast`` between it and torch's class, under ``own``'s name.

    One class for all layers of ``own``, which is gone with the last of them: nobody but Python's
    own weak list of subclasses remembers it.
    """
    with _lock:
        known: list[type] = type.__subclasses__(own)
        for made in known:
            if vars(made).get(_WRITTEN) is own and made.__bases__ == (own, fast):
                return made
        members = {name: getattr(own, name) for name in ("__module__", "__qualname__", "__doc__")}
        members |= {_WRITTEN: own, "__reduce_ex__": _reduce}
        return _new_class(own.__name__, (own, fast), members)


class _Unannounced:
    """First of the bases while a class is made, so that ``__init_subclass__`` goes no further.

    The others' may demand keywords, or enter the class in a register, where it would take the place
    of the one that it stands for.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        pass


def _new_class(name: str, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    first = _unannounced_like(bases[0])
    made = types.new_class(name, (first, *bases), exec_body=lambda own: own.update(members))
    made.__bases__ = bases
    return made


_OFFSETS = {"__dict__": "__dictoffset__", "__weakref__": "__weakrefoffset__"}


def _unannounced_like(own: type) -> type:
    """An `_Unannounced` whose place as the first of the bases ``own`` can take.

    For that, Python wants both to have got ``__dict__`` from one class, or after it. That is
    ``object`` for what begins with ``torch.nn.Module``, and another for what begins with a class
    without ``__dict__``, as are ``abc.ABC``, ``typing.Generic`` and protocols.
    """
    root: Any = own
    while root is not object and _layout(root.__base__) == _layout(root):
        root = root.__base__
    base = root.__base__ or object
    added = [n for n, offset in _OFFSETS.items() if getattr(root, offset) != getattr(base, offset)]
    if base is object and len(added) == len(_OFFSETS):
        return _Unannounced
    members = {"__slots__": added, "__init_subclass__": vars(_Unannounced)["__init_subclass__"]}
    above = () if base is object else (_unannounced_like(base),)
    made = types.new_class(
        _Unannounced.__name__, above, exec_body=lambda body: body.update(members)
    )
    # A class with slots or memory of its own goes before any other, and leaves no question.
    with contextlib.suppress(TypeError):
        made.__bases__ = (base,)
    return made


def _layout(own: Any) -> tuple[int, ...]:
    return own.__basicsize__, *(getattr(own, offset) for offset in _OFFSETS.values())


def _reduce(layer: Any, protocol: Any) -> Any:
    """As the class that somebody wrote says, with that class in the place of the one made here.

    A pickle could not find the latter by its name.
    """
    made: Any = next(base for base in type(layer).__mro__ if _WRITTEN in vars(base))
    reduced = super(made, layer).__reduce_ex__(protocol)
    if isinstance(reduced, str):
        return reduced
    make, arguments, *rest = reduced
    recipe = [vars(made)[_WRITTEN] if part is made else part for part in (make, *arguments)]
    return _make_and_turn, tuple(recipe), *rest


def _make_and_turn(make: Callable[..., Any], *arguments: Any) -> Any:
    layer = make(*arguments)
    if isinstance(layer, torch.nn.Module):
        target = turned_class(layer, fast_class)
        if target is not None:
            turn(layer, target)
    return layer
