"""Derivatives that the engine has not: of derivatives, and forward-mode ones, by the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call.layout import SINGLE, Layout
from .._call.precision import full_precision
from .._call.spec import Outputs
from .._engine import calls
from . import padded

__all__ = ["by_equations", "pulled_back_twice"]

_vjp: Any = torch.func.vjp  # its annotation does not know what it returns


def by_equations(layout: Layout, tensors: Sequence[Any]) -> Outputs:
    """The outputs in plain torch operations, which have derivatives of every kind."""
    _, _, _, batch_sizes, _, lengths, _ = tensors[:SINGLE]
    if not all(each is None or _torch.has_values(each) for each in (batch_sizes, lengths)):
        return padded.run(layout, tensors)
    call = calls.call_of(layout, tensors)
    data, hx, cx = tensors[:3]
    weights = tensors[SINGLE : layout.weights_end]
    return call.by_equations(data, hx, cx, weights, call.masks)


@full_precision()
def pulled_back_twice(
    layout: Layout,
    tensors: Sequence[Any],
    d_outputs: Sequence[Tensor | None],
    d_gradients: Sequence[Tensor],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What ``d_gradients`` mean for ``d_outputs``, and for data, hx, cx and the weights."""
    given = [place for place in layout.trained if tensors[place] is not None]
    reached = [place for place, d_output in enumerate(d_outputs) if d_output is not None]
    wanted = [place for place, need in zip(layout.trained, layout.needed, strict=True) if need]

    def outputs(*inputs: Tensor) -> tuple[Any, ...]:
        everything = list(tensors)
        for place, tensor in zip(given, inputs, strict=True):
            everything[place] = tensor
        found = by_equations(layout, everything)
        return tuple(found[place] for place in reached)

    def gradients(inputs: tuple[Tensor, ...], d_reached: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        _, pull_back = _vjp(outputs, *inputs)
        found = dict(zip(given, pull_back(d_reached), strict=True))
        return tuple(found[place] for place in wanted)

    inputs = tuple(tensors[place] for place in given)
    d_reached = tuple(d_outputs[place] for place in reached)
    _, pull_back = _vjp(gradients, inputs, d_reached)
    d_inputs, dd_outputs = pull_back(tuple(d_gradients))
    of_output = dict(zip(reached, dd_outputs, strict=True))
    of_input = dict(zip(given, d_inputs, strict=True))
    return [of_output.get(i) for i in range(5)], [of_input.get(i) for i in layout.trained]
