"""Turn ``torch.nn``'s recurrent layers into fastrnn's and back, in a model that exists.

What turning a layer means is in `fastrnn._layers.counterparts`.

(This module is not called ``convert``: Python binds an imported submodule to its name on the
package, where it would hide the function.)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, overload

import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from .._call.checks import check_module
from .._call.spec import PLAIN
from .._engine import backends, fallback
from .counterparts import FAST_OF, fast_class, plain_base, torch_class, turn, turned_class
from .plan import DTYPES, spec_of_cell

__all__ = ["Layer", "Report", "convert", "revert"]

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


class Layer(NamedTuple):
    """A layer in a `Report`."""

    name: str
    """Where it is in the model, as in ``named_modules()``: "" for the model itself."""
    kind: str
    """Its class before conversion."""
    note: str
    """Why it was passed over, or what keeps a converted one from computing; "" for nothing."""

    def __str__(self) -> str:
        where = f"{self.name or 'the model itself'} ({self.kind})"
        return f"{where}: {self.note}" if self.note else where


class Report(NamedTuple):
    """What `convert` did: what it turned, and which recurrent layers it left as they were."""

    converted: tuple[Layer, ...]
    passed_over: tuple[Layer, ...]

    def __str__(self) -> str:
        parts = (("converted", self.converted), ("passed over", self.passed_over))
        return "\n".join(_listed(f"{title}: {len(layers)}", layers) for title, layers in parts)


@overload
def convert(
    model: ModuleT, *, subclasses: bool = False, report: Literal[False] = False
) -> ModuleT: ...


@overload
def convert(
    model: ModuleT, *, subclasses: bool = False, report: Literal[True]
) -> tuple[ModuleT, Report]: ...


def convert(model: ModuleT, *, subclasses: bool = False, report: bool = False) -> Any:
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
    report : bool
        Return what was converted and what was passed over, and why, instead of warning of the
        latter. ``print`` shows it as lines.

    Returns
    -------
    torch.nn.Module
        ``model`` itself; with ``report`` the pair of it and a `Report`.

    Raises
    ------
    TypeError
        ``model`` is no module, or no class can be derived from that of a layer, by what its
        metaclass says.

    Whatever is raised, nothing has been changed then.

    Warns
    -----
    UserWarning
        Recurrent layers were passed over (of derived classes, compiled by TorchScript, quantized),
        or are where no call can be computed; once, with all their names.
    """
    check_module(model)
    plan, converted, passed_over = [], [], []
    counterpart = partial(fast_class, subclasses=subclasses)
    for name, module in model.named_modules():
        target = turned_class(module, counterpart)
        kind = _name_of(type_before_parametrizations(module))
        if target is not None:
            plan.append((module, target))
            converted.append(Layer(name, kind, _obstacle(module)))
        elif why := _why_passed_over(module):
            passed_over.append(Layer(name, kind, why))
    passed_over += _compiled_layers(model)
    _turn_all(plan)
    if report:
        return model, Report(tuple(converted), tuple(passed_over))
    noted = [*passed_over, *(layer for layer in converted if layer.note)]
    if noted:
        title = f"recurrent layers that do not compute with fastrnn: {len(noted)}"
        warnings.warn(_listed(title, noted), stacklevel=2)
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
    TypeError
        ``model`` is no module.
    """
    check_module(model)
    plan = []
    for name, module in model.named_modules():
        target = turned_class(module, torch_class)
        if target is None:
            continue
        if _has_more_than_torchs(module):
            raise ValueError(f"model: expected layers that torch has too, got {name!r}: {module}")
        plan.append((module, target))
    _turn_all(plan)
    return model


def _has_more_than_torchs(module: Any) -> bool:
    names = ("variant", "regularised", "initial_state")
    return any(getattr(module, f"_fastrnn_{name}", None) for name in names)


def _turn_all(plan: Sequence[tuple[torch.nn.Module, type]]) -> None:
    """Give every module its class, or none of them."""
    turned: list[tuple[torch.nn.Module, type]] = []
    try:
        for module, target in plan:
            turned.append((module, type(module)))
            turn(module, target)
    except BaseException:
        for module, before in reversed(turned):
            turn(module, before)
        raise


# ---- what is passed over ----

_KINDS = frozenset(kind.__name__ for kind in FAST_OF)
_OPERATORS = re.compile(r"\baten::(?:quantized_)?(?:lstm|gru|rnn_tanh|rnn_relu)(?:_cell)?\b")


def _why_passed_over(module: torch.nn.Module) -> str:
    """Why a recurrent layer that Python runs has no counterpart; "" for one that needs none."""
    own = type(module)
    plain = plain_base(own)
    if plain is not None:
        way = "fastrnn.convert(model, subclasses=True) turns it, too"
        return f"derives from torch.nn.{plain.__name__}; {way}"
    if own.__name__ in _KINDS and own.__module__.startswith("torch.ao.nn."):
        return "quantized; the engine computes with the weights of torch.nn's layers"
    return ""


def _compiled_layers(model: torch.nn.Module) -> Iterator[Layer]:
    """Recurrent layers that TorchScript runs; the outermost module where it tells of none inside.

    What is frozen has no modules any more, and a class that somebody derived is not known as such.
    """
    note = "compiled by TorchScript; convert the model before torch.jit.trace compiles it"
    seen: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule) or name.startswith(seen):
            continue
        seen = (*seen, f"{name}." if name else "")
        inside: dict[str, Any] = dict(module.named_modules(prefix=name))
        kinds = {path: part.original_name for path, part in inside.items()}
        found = {path: kind for path, kind in kinds.items() if kind in _KINDS}
        if (
            not found
            and hasattr(module, "forward")
            and _OPERATORS.search(str(module.inlined_graph))
        ):
            found = {name: kinds[name]}
        yield from (Layer(path, kind, note) for path, kind in found.items())


_TORCHS = spec_of_cell("gru", 1, 1, bias=True, variant=PLAIN)
"""Stands for all cells of torch's, which have kernels on the same devices."""


def _obstacle(module: torch.nn.Module) -> str:
    """What keeps a converted layer from computing where and as it is; "" for nothing."""
    weight = next(module.parameters(), None)
    if weight is None or weight.is_meta:
        return ""
    if weight.dtype not in DTYPES:
        return f"fastrnn does not compute {weight.dtype}"
    if fallback.chosen() == "error" and backends.refusal(weight, _TORCHS) is not None:
        return f"on {weight.device}, where this build of fastrnn does not compute"
    return ""


def _name_of(own: type) -> str:
    return f"{own.__module__}.{own.__qualname__}"


def _listed(title: str, layers: Sequence[Layer]) -> str:
    return "\n  ".join([title, *map(str, layers)])
