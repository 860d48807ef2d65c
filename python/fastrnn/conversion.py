"""Turn ``torch.nn``'s recurrent layers into fastrnn's and back, in a model or while one is built.

A layer is turned by giving the very same object the other class. Its parameters, buffers, hooks,
flags, parametrizations and every reference to it stay what they were, because nothing is made
anew. The two classes differ in methods alone, which is what makes this sound.

(This module is not called ``convert``: Python binds an imported submodule to its name on the
package, where it would hide the function.)
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch.nn.utils.parametrize import is_parametrized

from . import modules

__all__ = ["convert", "patch", "revert"]

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_FAST_OF: dict[type, type] = {
    torch.nn.LSTM: modules.LSTM,
    torch.nn.GRU: modules.GRU,
    torch.nn.RNN: modules.RNN,
    torch.nn.LSTMCell: modules.LSTMCell,
    torch.nn.GRUCell: modules.GRUCell,
    torch.nn.RNNCell: modules.RNNCell,
}
_TORCH_OF: dict[type, type] = {fast: plain for plain, fast in _FAST_OF.items()}
_derived_from: dict[type, type] = {}
"""For each class that `_between` made the one that somebody wrote."""


def convert(model: ModuleT, *, subclasses: bool = False) -> ModuleT:
    """Make every recurrent layer of torch's inside ``model`` compute with fastrnn.

    Layers are changed in place and stay the same objects: parameters are shared by identity with
    optimizers and with whoever else holds them, hooks, flags, dtype and device are kept. To keep
    the original as well, convert ``copy.deepcopy(model)``.

    Parameters
    ----------
    model : torch.nn.Module
        May itself be a layer. Turned are LSTM, GRU, RNN and their cells of ``torch.nn``,
        parametrized ones included.
    subclasses : bool
        Turn layers of classes derived from those, too: what their own code calls as
        ``super().forward(...)`` is fastrnn's then. They stay instances of their class. By default
        they are left alone, since their own code may depend on torch's.

    Returns
    -------
    torch.nn.Module
        ``model`` itself.
    """
    _turn_all(model, _FAST_OF)
    if subclasses:
        for module in model.modules():
            _turn_if_derived(module)
    return model


def revert(model: ModuleT) -> ModuleT:
    """Undo `convert`: make every fastrnn layer inside ``model`` one of torch's again, in place.

    Subclasses of fastrnn's layers that somebody wrote are left alone.

    Parameters
    ----------
    model : torch.nn.Module
        May itself be a layer.

    Returns
    -------
    torch.nn.Module
        ``model`` itself.

    Raises
    ------
    ValueError
        A layer has an option that torch's lack; nothing has been changed then.
    """
    for name, module in model.named_modules():
        base = type(module).__bases__[0] if is_parametrized(module) else type(module)
        if base in _TORCH_OF and _has_more_than_torchs(module):
            raise ValueError(f"model: expected layers that torch has too, got {name!r}: {module}")
    for module in model.modules():
        own = type(module)
        if own in _derived_from:
            _turn(module, _derived_from[own])
    return _turn_all(model, _TORCH_OF)


def _has_more_than_torchs(module: Any) -> bool:
    return module.variant is not None or getattr(module, "initial_state", False)


def _turn_all(model: ModuleT, target_of: dict[type, type]) -> ModuleT:
    for module in model.modules():
        own = type(module)
        if own in target_of:
            _turn(module, target_of[own])
        elif is_parametrized(module) and own.__bases__[0] in target_of:
            _turn(module, _parametrized_like(own, target_of[own.__bases__[0]]))
    return model


def _turn(module: torch.nn.Module, target: type) -> None:
    module.__class__ = target
    if isinstance(module, torch.nn.RNNBase):
        # torch's layer keeps a list of its weights in the instance, fastrnn's has a property.
        module.__dict__.pop("_flat_weights", None)
        module._init_flat_weights()


def _parametrized_like(own: type, base: type) -> type:
    """The class that ``torch.nn.utils.parametrize`` would have made, had the layer been a ``base``.

    It makes a class of properties for each parametrized layer; ``own``'s are copied on top of
    ``base``, and ``own`` is left as it is because deep copies of the layer share it.
    """
    members = {k: v for k, v in vars(own).items() if k not in ("__dict__", "__weakref__")}
    return type(f"Parametrized{base.__name__}", (base,), members)


def _turn_if_derived(module: torch.nn.Module) -> None:
    own: Any = type(module)
    plain = next((base for base in own.__mro__ if base in _FAST_OF), None)
    if plain is not None and not issubclass(own, _FAST_OF[plain]):
        _turn(module, _between(own, _FAST_OF[plain]))


@functools.cache
def _between(own: Any, fast: Any) -> Any:
    """``own`` with ``fast`` between it and torch's class, under ``own``'s name.

    A pickle cannot find it by that name; it holds ``own`` and makes this class anew.
    """

    def reduce(layer: Any, protocol: Any) -> Any:
        _, _, *state = super(derived, layer).__reduce_ex__(protocol)
        return _new_between, (own, fast), *state

    members = {name: getattr(own, name) for name in ("__module__", "__qualname__", "__doc__")}
    members["__reduce_ex__"] = reduce
    derived: Any = types.new_class(
        own.__name__, (own, fast), exec_body=lambda body: body.update(members)
    )
    _derived_from[derived] = own
    return derived


def _new_between(own: type, fast: type) -> Any:
    derived = _between(own, fast)
    return derived.__new__(derived)


class patch(ContextDecorator):
    """Inside ``with fastrnn.patch():``, constructing a recurrent layer of torch's gives fastrnn's.

    For code that says ``torch.nn.LSTM(...)`` and cannot be changed, wherever it imported the
    class from. The class itself stays torch's own, so ``isinstance``, subclassing and ``super()``
    mean what they always mean, and subclasses are built as they always are. Also a decorator.

    May be nested and used again, and holds for the thread or asyncio task that entered it and for
    no other. An exception in the body passes through and ends it as the end of the body does.

    Examples
    --------
    >>> with fastrnn.patch():
    ...     model = build_model()
    """

    def __enter__(self) -> patch:
        _hold_hooks()
        _patched.set(_patched.get() + 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _patched.set(_patched.get() - 1)
        _release_hooks()


_patched: ContextVar[int] = ContextVar("fastrnn_patched", default=0)
_hook_lock = threading.Lock()
_hook_holders = 0
_original_inits: dict[type, Callable[..., None]] = {}


def _hold_hooks() -> None:
    """Hook torch's constructors when the first of all threads enters a `patch`."""
    global _hook_holders
    with _hook_lock:
        _hook_holders += 1
        if _hook_holders == 1:
            for plain, fast in _FAST_OF.items():
                _original_inits[plain] = vars(plain)["__init__"]
                plain.__init__ = _hooked(plain, fast)  # type: ignore[misc]


def _release_hooks() -> None:
    """Take the hooks away when the last of all threads leaves."""
    global _hook_holders
    with _hook_lock:
        _hook_holders -= 1
        if _hook_holders == 0:
            for plain, original in _original_inits.items():
                plain.__init__ = original  # type: ignore[misc]
            _original_inits.clear()


def _hooked(plain: type, fast: type) -> Callable[..., None]:
    original = _original_inits[plain]

    @functools.wraps(original)
    def __init__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if _patched.get() and type(self) is plain:
            _turn(self, fast)

    return __init__
