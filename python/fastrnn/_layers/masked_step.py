"""A single step with masks, norms and what else `fastrnn.regularised` has."""

from __future__ import annotations

from typing import Any

from .. import _torch
from .._call import checks
from .._call.spec import PLAIN
from .._call.weights import expected_of_cell
from . import masks
from .masked_stack import cell_of, masked_input
from .masked_weights import Call, Direction, met
from .run import run_cell, run_program_step

__all__ = ["run_step"]


def run_step(
    call: Call, input: Any, hx: Any, own: Direction, given: masks.OfLayer | None = None
) -> Any:
    """A single step with masks that are ``given``, [B, ...] or [...] for one sequence, or drawn."""
    spec = call.spec
    checks.check_rank(input, spec.cell, (1, 2), "Cell")
    checks.check_cell_input(input, spec)
    if not _torch.is_any_autocast_enabled():
        checks.check_weights(
            expected_of_cell(spec), [w for w in own.weights if w is not None], input
        )
    if given is None:
        rows = masks.Rows(tuple(input.shape[:-1]), tuple(input.shape[:-1]))
        (given,) = masks.draw(spec, call.options, rows, input, call.training)
    parts = call.parts()
    if parts is not None:
        parts = parts._replace(per_step=bool(parts.on))
    drawn, inputs = given.directions[0], len(given.input)
    data = masked_input(given.input, input, lambda mask: mask)
    of_steps = [] if parts is None else drawn.of_steps(parts.per_step)
    data, features, weights, bias = met(call, parts, own, drawn, data, inputs, of_steps)
    if parts is None:
        w_ih, w_hh, *others = weights
        biases = others[:2] if bias else (None, None)
        variant = None if spec.variant == PLAIN else spec.variant
        sizes = features, spec.hidden_size
        given_weights = w_ih, w_hh, *biases
        return run_cell(spec.cell, data, hx, given_weights, own.weights.w_ch, variant, sizes)
    text, _ = cell_of(spec, parts)
    return run_program_step(text, (features, spec.hidden_size, bias), data, hx, weights)
