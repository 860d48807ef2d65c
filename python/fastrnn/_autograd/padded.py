"""The equations of a ragged batch whose lengths are not known as numbers.

`fastrnn.reference` cuts the rows that have ended out of each step. Here every step has all rows,
and one that has ended keeps its state: no size depends on a value, so that compilers and exporters
can trace it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import reference
from .._call.arguments import Arguments, Layout, present
from .._call.precision import full_precision
from .._call.rows import beginning
from .._call.spec import Outputs
from .._call.weights import each_direction
from .forms import Form
from .walk import Walk

__all__ = ["run"]

States = tuple[Tensor, ...]
"""h, or h and c."""


@full_precision()
def run(layout: Layout, arguments: Arguments) -> Outputs:
    """The outputs, as `fastrnn._autograd.derivatives.by_equations` gives them."""
    form = Form(layout, arguments)
    data, of_layers = form.data, []
    finals: list[Any]
    everything: list[Any]
    for number in range(layout.spec.num_layers):
        reached = _layer(*form.layer(number, data))
        data = torch.cat([h_all for _, (h_all, *_) in reached], -1)
        of_layers += reached
        data = form.dropped(number, data)
    finals, everything = (
        [torch.stack(each) for each in zip(*states, strict=True)]
        for states in zip(*of_layers, strict=True)
    )
    y = form.as_given(data, finals)[0]
    h_n, c_n, *_ = *finals, None
    h_all, c_all, *_ = *everything, None
    return present(layout.spec, layout.states, form.single_step, (y, h_n, c_n, h_all, c_all))


def _layer(layout: Layout, arguments: Arguments) -> list[tuple[States, States]]:
    """Of each direction the final states, and those after every step, zero past the ends."""
    data, hx, cx, _, _, lengths, resets, weights, _ = arguments
    spec = layout.spec
    begin = beginning(spec, data)
    found = []
    for number, own in enumerate(each_direction(spec, weights)):
        given = zip((hx, cx), spec.widths, strict=False)
        state = tuple(
            data.new_zeros(data.shape[1], width) if initial is None else initial[number]
            for initial, width in given
        )
        reverse = spec.variant.reverse or number == 1
        walk = Walk(data, lengths, resets, reverse=reverse)
        reached = []
        for t in sorted(range(len(data)), reverse=reverse):
            new = reference.step(spec, data[t], walk.entering(t, state, begin), own)
            state = walk.kept_past_ends(t, new, state)
            reached.append(state)
        if reverse:
            reached.reverse()
        after = (walk.zero_past_ends(torch.stack(each)) for each in zip(*reached, strict=True))
        found.append((state, tuple(after)))
    return found
