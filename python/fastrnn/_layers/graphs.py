"""torch.fx: a call that is traced symbolically becomes one node of the graph.

A tracer takes torch's own layers for such nodes by the name of their module, whatever they are
given. Here the proxies among the arguments tell the tracer, or where there are none, as in a call
with constants, the proxies that it hands out for parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.fx import Proxy
from torch.fx.proxy import TraceError

from .. import _torch

__all__ = ["as_node", "node_of"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def node_of(module: torch.nn.Module, method: str, /, *inner: Any, **given: Any) -> Any:
    """The call of a module as a node of the graph; None where no tracer is at work.

    Parameters
    ----------
    module : torch.nn.Module
    method : str
        What computes ``module``'s own part of the call, of the arguments ``inner``.
    **given
        The arguments of its ``forward``.

    Raises
    ------
    TraceError
        ``module`` is what is traced, and so in no graph that could call it.
    """
    tracer = _tracer((inner, given)) or _tracer_of_parameters(module)
    if tracer is None:
        return None
    path = tracer.path_of_module(module)
    if not path:
        raise TraceError(
            "symbolically traced variables cannot be used as inputs to control flow, nor a layer "
            "be a node of its own graph: trace a model of it, such as torch.nn.Sequential(layer)"
        )
    forward: Any = type(module).forward
    if forward.__module__ in _HOMES:
        options = {k: v for k, v in given.items() if v is not None and v is not False}
        return tracer.create_proxy("call_module", path, (options.pop("input"),), options)
    # A derived class has a forward of its own, of which this is a part: the rest is in the graph.
    layer = tracer.create_proxy("get_attr", path, (), {})
    return tracer.create_proxy("call_method", method, (layer, *inner), {})


_HOMES = tuple(f"{__package__}.{name}" for name in ("modules", "recurrent", "recurrent_cell"))


def as_node(function: FunctionT) -> FunctionT:
    """``function``, of which a symbolically traced call is one node."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tracer = _tracer((args, kwargs)) if _torch.is_fx_tracing() else None
        if tracer is not None:
            return tracer.create_proxy("call_function", call, args, kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def _tracer(arguments: Any) -> Any:
    """Whose proxies are among the arguments, nested in tuples, lists and dicts or not."""
    return next((proxy.tracer for proxy in _proxies(arguments)), None)


def _proxies(value: Any) -> Iterator[Proxy]:
    if isinstance(value, Proxy):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _proxies(part)


def _tracer_of_parameters(module: torch.nn.Module) -> Any:
    for part in module.modules():
        for name in part._parameters:
            tracer = _tracer(getattr(part, name))
            if tracer is not None:
                return tracer
    return None
