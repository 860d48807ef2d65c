"""What a frozen layer with norms or zoneout computes: all of it in the step of one program.

In evaluation there are no masks but those of weights, which no frozen layer has; so a stack is one
call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from .._call.regularised import Regularised
from .._call.spec import PLAIN, Spec
from . import masks
from .masked_stack import cell_of
from .masked_weights import Call, Direction, met

__all__ = ["as_program"]


def as_program(
    spec: Spec, options: Regularised, directions: Sequence[Direction]
) -> tuple[Spec, list[Tensor]]:
    """The stack of a program that does in evaluation what a layer with options does.

    Parameters
    ----------
    spec : Spec
        The layer without ``options``, which are at work in evaluation.
    options : Regularised
    directions : sequence of Direction
        For each layer and in it for each direction.

    Returns
    -------
    (Spec, list of Tensor)
        And its weights in their order. The matrices are the layer's own.
    """
    call = Call(spec, options, training=False)
    parts = call.parts()
    assert parts is not None
    text, variant = cell_of(spec, parts)
    weights: list[Tensor] = []
    for own in directions:
        no_rows = own.weights.w_ih.new_empty(0, own.weights.w_ih.shape[1])
        found = met(call, parts, own, masks.OfDirection(), no_rows, 0, ())
        weights += found.weights
    return replace(spec, cell=text, bias=found.bias, variant=variant or PLAIN), weights
