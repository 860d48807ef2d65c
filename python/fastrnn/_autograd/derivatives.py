"""Derivatives that the engine has not: of derivatives, and forward-mode ones, by the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call.arguments import Arguments, Layout
from .._call.batch import Batch
from .._call.precision import full_precision
from .._call.spec import Outputs
from .._engine import backends
from . import padded

__all__ = ["by_equations", "pulled_back", "pulled_back_twice"]

_vjp: Any = torch.func.vjp  # its annotation does not know what it returns


def by_equations(layout: Layout, arguments: Arguments) -> Outputs:
    """The outputs in plain torch operations, which have derivatives of every kind."""
    ragged = arguments.batch_sizes, arguments.lengths
    if not all(each is None or _torch.has_values(each) for each in ragged):
        return padded.run(layout, arguments)
    equations = backends.named("reference")
    outputs, _ = equations.forward(Batch.laid_out(layout, arguments), arguments, False, None)
    return outputs


@full_precision()
def pulled_back(
    layout: Layout, arguments: Arguments, d_outputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """The gradients that the layout needs, in plain torch operations whatever the tensors are."""
    wanted = [place for place, need in enumerate(layout.needed) if need]
    reached = [place for place, d_output in enumerate(d_outputs) if d_output is not None]

    def outputs(*tensors: Tensor) -> tuple[Any, ...]:
        everything = list(arguments.inputs())
        for place, tensor in zip(wanted, tensors, strict=True):
            everything[place] = tensor
        found = padded.run(layout, arguments.with_inputs(everything))
        return tuple(found[place] for place in reached)

    _, pull_back = _vjp(outputs, *(arguments.inputs()[place] for place in wanted))
    gradients: tuple[Tensor, ...] = pull_back(tuple(d_outputs[place] for place in reached))
    return gradients


@full_precision()
def pulled_back_twice(
    layout: Layout,
    arguments: Arguments,
    d_outputs: Sequence[Tensor | None],
    d_gradients: Sequence[Tensor],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What ``d_gradients`` mean for ``d_outputs``, and for data, hx, cx and the weights."""
    inputs = arguments.inputs()
    given = [place for place, tensor in enumerate(inputs) if tensor is not None]
    reached = [place for place, d_output in enumerate(d_outputs) if d_output is not None]
    wanted = [place for place, need in enumerate(layout.needed) if need]

    def outputs(*tensors: Tensor) -> tuple[Any, ...]:
        everything = list(inputs)
        for place, tensor in zip(given, tensors, strict=True):
            everything[place] = tensor
        found = by_equations(layout, arguments.with_inputs(everything))
        return tuple(found[place] for place in reached)

    def gradients(tensors: tuple[Tensor, ...], d_reached: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        _, pull_back = _vjp(outputs, *tensors)
        found = dict(zip(given, pull_back(d_reached), strict=True))
        return tuple(found[place] for place in wanted)

    d_reached = tuple(d_outputs[place] for place in reached)
    _, pull_back = _vjp(gradients, tuple(inputs[place] for place in given), d_reached)
    d_inputs, dd_outputs = pull_back(tuple(d_gradients))
    of_output = dict(zip(reached, dd_outputs, strict=True))
    of_input = dict(zip(given, d_inputs, strict=True))
    return [of_output.get(i) for i in range(5)], [of_input.get(i) for i in range(len(inputs))]
