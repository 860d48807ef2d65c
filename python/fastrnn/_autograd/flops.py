"""What torch's FlopCounterMode counts for the operators of `fastrnn._autograd.operators`.

torch counts two operations for each product within a matrix product, and none for anything else. It
sees those of ``torch.nn``'s layers where plain operators compute them, and the formulas here come
to the same: every matrix of weights meets every row of its layer forward, and backward once more
for its own gradient and once for that of what it multiplied, if somebody needs them.

What torch counts otherwise:

- of float32 and bfloat16 LSTMs on the CPU nothing, since oneDNN's operator for them has no formula;
- of the reverse direction of a packed batch, unless initial states need gradients, one more product
  of the recurrent weights for the first step of each sequence that is shorter than the longest;
- of a direction in which the projection's weights alone need gradients, one less product of those
  for the first step of each sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .. import _torch
from .._call.arguments import Arguments, Layout, rows_of, taken_apart
from .._call.weights import by_direction

__all__ = ["backward_flops", "forward_flops", "register"]

_PER_PRODUCT = 2
"""A multiplication and an addition."""


def forward_flops(layout: Layout, arguments: Arguments) -> int:
    """Operations of a call that computes the outputs."""
    rows, _ = _rows(layout, arguments)
    return _PER_PRODUCT * rows * sum(map(_elements, arguments.weights))


def backward_flops(layout: Layout, arguments: Arguments, needed: Sequence[bool]) -> int:
    """Operations of a call that computes the gradients that are ``needed``: see `Layout`."""
    rows, first = _rows(layout, arguments)
    of_data, of_hx, of_cx, *of_weights = needed
    elements = [_elements(weight) for weight in arguments.weights]
    wanted = of_data  # the gradient of the layer's input
    products = rows * sum(compress(elements, of_weights))
    layers = (by_direction(layout.spec, values) for values in (elements, of_weights))
    for sizes, needs in zip(*layers, strict=True):
        reached = [wanted or of_hx or of_cx or any(of_one) for of_one in needs]
        for own, is_reached in zip(sizes, reached, strict=True):
            products += rows * own.w_ih * wanted
            if is_reached:
                of_states = rows if of_hx else rows - first
                products += of_states * (own.w_hh or 0) + rows * (own.w_hr or 0)
        wanted = any(reached)
    return _PER_PRODUCT * products


def _elements(weight: Tensor) -> int:
    """Products with a row; biases and vectors are none of matrices, blocks of heads are."""
    return weight.numel() if weight.dim() > 1 else 0


def _rows(layout: Layout, arguments: Arguments) -> tuple[int, int]:
    """How many rows there are, and how many of them are a sequence's first step."""
    lengths = arguments.lengths
    if lengths is not None and _torch.has_values(lengths):
        return int(lengths.sum()), int(lengths.count_nonzero())
    return rows_of(arguments.data), layout.batch


def register(before: int) -> None:
    """Tell torch the formulas of the operators.

    ``before`` is how many arguments of ``recurrence_backward`` stand before those of a call.
    """
    operators = torch.ops.fastrnn

    @register_flop_formula([operators.recurrence, operators.recurrence_forward], get_raw=True)
    def of_forward(*of_operator: Any, **out: Any) -> int:
        return forward_flops(*taken_apart(of_operator))

    @register_flop_formula(operators.recurrence_backward, get_raw=True)
    def of_backward(*of_operator: Any, **out: Any) -> int:
        layout, arguments = taken_apart(of_operator[before:])
        return backward_flops(layout, arguments, needed=of_operator[before - 1])
