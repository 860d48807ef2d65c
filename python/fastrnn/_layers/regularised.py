"""Layers and cells with the options of `fastrnn.regularised`: their parameters and their calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from .._call import checks
from .._call.regularised import Regularised, norm_sizes
from .._call.spec import PLAIN, Spec
from .._call.weights import Weights, each_direction, name_of
from ..regularised import check_combination
from . import of_program, unmasked  # noqa: F401 (what classes and modes see of a call)
from .masked_stack import run_stack
from .masked_step import run_step
from .masked_weights import Call, Direction
from .parameters import by_name
from .plan import regularised_cell, regularised_layer, what_asks

__all__ = ["directions_of", "forward", "give", "reset_norms", "step"]


def give(module: Any, options: Regularised) -> None:
    """Make options those of a layer or a cell that has none yet.

    Raises
    ------
    ValueError
        They cannot go together with the others that it has.
    """
    check_combination(options, module._fastrnn_variant, getattr(module, "proj_size", 0))
    checks.check_sizes(module.input_size, module.hidden_size, 0, 1, 0.0)
    module._fastrnn_regularised = options
    both = module._fastrnn_variant or PLAIN, options
    module._fastrnn_options = repr(tuple(map(astuple, both)))
    for name, value in _new_norms(module).items():
        module.register_parameter(name, torch.nn.Parameter(value))


def reset_norms(module: Any) -> None:
    """Set the parameters of the norms to what they begin with."""
    with torch.no_grad():
        for name, value in _new_norms(module).items():
            getattr(module, name).copy_(value)


def _new_norms(module: Any) -> dict[str, Tensor]:
    """Those of each direction as they begin: gammas one, betas zero."""
    if isinstance(module, torch.nn.RNNBase):
        directions = range(2 if module.bidirectional else 1)
        ends = [name_of("", layer, d) for layer in range(module.num_layers) for d in directions]
    else:
        ends = [""]
    found = {}
    for end in ends:
        weight = getattr(module, f"weight_hh{end}")
        gates = weight.shape[0] // module.hidden_size
        sizes = norm_sizes(module._fastrnn_regularised, gates, module.hidden_size)
        for name, size in sizes.items():
            found[name + end] = weight.new_full((size,), float(name.endswith("weight")))
    return found


def forward(
    layer: Any, input: Any, hx: Any, lengths: Any, resets: Any, return_states: bool
) -> tuple[Any, ...]:
    """What a layer with options returns."""
    asked = what_asks(layer)
    if not return_states:
        done = unmasked.layer_directly(layer, asked, input, hx, lengths, resets)
        if done is not None:
            return done
    traced = torch.compiler.is_dynamo_compiling()
    spec, options = (regularised_layer.__wrapped__ if traced else regularised_layer)(asked)
    call = Call(
        spec,
        *(options, layer.training, layer.batch_first, lengths, resets, return_states),
    )
    weights = layer._fastrnn_weights()
    directions = directions_of(spec, options, weights, partial(by_name, layer))
    return run_stack(call, input, hx, directions)


def directions_of(
    spec: Spec,
    options: Regularised,
    weights: Sequence[Any],
    read: Callable[[Sequence[str]], Iterable[Tensor]],
) -> list[Direction]:
    """The directions of all layers; ``read`` gives parameters of the norms by name."""
    each = each_direction(spec, weights)
    traced = torch.compiler.is_dynamo_compiling()
    own, names = (_names_of_norms.__wrapped__ if traced else _names_of_norms)(spec, options)
    if not own:
        return [Direction(of_direction) for of_direction in each]
    values = iter(read(names))
    return [Direction(of_direction, {name: next(values) for name in own}) for of_direction in each]


@lru_cache(maxsize=256)
def _names_of_norms(spec: Spec, options: Regularised) -> tuple[list[str], list[str]]:
    """The parameters of a direction's norms, and those of all directions as they are called."""
    own = list(norm_sizes(options, len(spec.gates), spec.hidden_size))
    directions = itertools.product(range(spec.num_layers), range(spec.directions))
    return own, [name_of(name, *at) for at in directions for name in own]


def step(module: Any, cell: str, input: Any, hx: Any) -> Any:
    """What a cell with options returns."""
    done = unmasked.step_directly(module, cell, input, hx)
    if done is not None:
        return done
    sizes = module.input_size, module.hidden_size
    traced = torch.compiler.is_dynamo_compiling()
    spec, options = (regularised_cell.__wrapped__ if traced else regularised_cell)(
        cell, *sizes, bool(module.bias), module._fastrnn_options
    )
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch")
    w_ih, w_hh, b_ih, b_hh, w_ch = (getattr(module, name, None) for name in names)
    norms = norm_sizes(options, len(spec.gates), spec.hidden_size)
    own = Direction(
        Weights(w_ih, w_hh, b_ih, b_hh, None, w_ch), {name: getattr(module, name) for name in norms}
    )
    return run_step(Call(spec, options, module.training), input, hx, own)
