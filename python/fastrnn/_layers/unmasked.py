"""The short way of layers and cells with norms or zoneout in calls that draw no masks.

All of it is in the step of one program then, and a stack is one call, as it is when frozen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from .._autograd import operators
from .._autograd.normed import Making, making
from .._call.regularised import Parts, Regularised, norm_sizes, parts_of
from .._call.spec import Spec
from .._call.weights import NAMES, Weights, flat, name_of, shapes_of_direction
from .._engine import backends
from . import short_way
from .masked_stack import cell_of
from .parameters import by_name
from .plan import Asked, Options, layer_plan, regularised_cell, regularised_layer
from .run import run_program_step_directly

__all__ = ["layer_directly", "step_directly"]


def layer_directly(
    layer: Any, asked: Asked, input: Any, hx: Any, lengths: Any = None, resets: Any = None
) -> tuple[Any, ...] | None:
    """What a layer with options returns; None if this call is none for the short way."""
    if layer._fastrnn_given is not None:  # other weights than its own
        return None
    if _is_left(input.data if isinstance(input, PackedSequence) else input):
        return None
    own = _of_layer(asked, layer.training)
    weights = None if own is None else own.weights(layer)
    if own is None or weights is None:
        return None
    plan = layer_plan(*own.options)
    done: tuple[Any, ...] | None = short_way.layer_directly(
        plan, input, hx, weights, layer.batch_first, lengths, resets
    )
    return done


def step_directly(module: Any, cell: str, input: Any, hx: Any) -> Any:
    """The same of a cell, ``cell`` as in `Spec`."""
    if _is_left(input):
        return None
    bias = module.bias_ih is not None
    if bias != (module.bias_hh is not None):
        return None
    sizes = module.input_size, module.hidden_size
    own = _of_cell(cell, *sizes, bias, module.training, module._fastrnn_options)
    weights = None if own is None else own.weights(module)
    if own is None or weights is None:
        return None
    text, *_, bias, _, _, _ = own.options
    return run_program_step_directly(text, (*sizes, bias), input, hx, weights)


def _is_left(input: Any) -> bool:
    """Whether the call is left to the long way, whatever the options are."""
    if torch.compiler.is_dynamo_compiling():
        return True
    if not isinstance(input, torch.Tensor) or input.device.type != "cpu":
        return True
    return short_way.sees_no_short_way() or operators.is_watched() or backends.chosen is not None


class _Unmasked(NamedTuple):
    """What does not depend on tensors.

    ``names`` are those of all parameters, direction by direction; ``fields`` what `Making` calls
    those of one. ``making`` is None where they are the weights themselves.
    """

    options: Options
    names: tuple[str, ...]
    fields: tuple[str, ...]
    making: Making | None

    def weights(self, module: Any) -> Any:
        """Those of the program; None if they are of a dtype that has no short way."""
        values = by_name(module, self.names)
        if values[0].dtype not in (torch.float32, torch.float64):
            return None
        if self.making is None:
            return values
        each = range(0, len(values), len(self.fields))
        own = [dict(zip(self.fields, values[at:], strict=False)) for at in each]
        return flat([self.making.weights(direction) for direction in own])


@lru_cache(maxsize=256)
def _of_layer(asked: Asked, training: bool) -> _Unmasked | None:
    """Of a layer; None if it draws masks."""
    spec, options = regularised_layer(asked)
    if options.draws(training) or (spec.dropout and spec.num_layers > 1):
        return None
    each = itertools.product(range(spec.num_layers), range(spec.directions))
    names = [partial(name_of, layer=layer, direction=direction) for layer, direction in each]
    return _unmasked(spec, parts_of(spec, options, training, centred=training), options, names)


@lru_cache(maxsize=256)
def _of_cell(
    cell: str, input_size: int, hidden_size: int, bias: bool, training: bool, text: str
) -> _Unmasked | None:
    """The same of a cell, whose single step is no reason to centre weights."""
    spec, options = regularised_cell(cell, input_size, hidden_size, bias, text)
    if options.draws(training) or not (input_size and hidden_size):
        return None
    return _unmasked(spec, parts_of(spec, options, training, centred=False), options, [str])


def _unmasked(
    spec: Spec,
    parts: Parts | None,
    options: Regularised,
    names: Sequence[Callable[[str], str]],
) -> _Unmasked | None:
    """``names`` say what the parameters of each direction are called."""
    if parts is None:
        return None
    shapes = zip(Weights._fields, NAMES, shapes_of_direction(spec), strict=True)
    there = {field: name for field, name, shape in shapes if shape is not None}
    norms = norm_sizes(options, len(spec.gates), spec.hidden_size)
    peepholes = len(spec.variant.peephole) * spec.hidden_size
    rows = len(spec.gates) * spec.hidden_size
    how = making(parts, len(spec.gates), rows, peepholes, (*there, *norms))
    text, way = cell_of(spec, parts)
    return _Unmasked(
        (
            *(text, spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers),
            *(spec.bias if how is None else how.bias, spec.bidirectional, 0.0, way),
        ),
        tuple(of(name) for of in names for name in (*there.values(), *norms)),
        (*there, *norms),
        how,
    )
