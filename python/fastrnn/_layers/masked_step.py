"""A single step with masks, norms and what else `fastrnn.regularised` has."""

from __future__ import annotations

from typing import Any

import torch

from .. import _torch
from .._call import checks, masks
from .._call.spec import PLAIN
from .._call.weights import expected_of_cell
from .masked_stack import Call, Direction, cell_of, masked_input, weights_of
from .run import run_cell, run_program_step

__all__ = ["run_step"]


def run_step(
    call: Call, input: Any, hx: Any, own: Direction, given: masks.OfLayer | None = None
) -> Any:
    """A single step with masks that are ``given``, [B, ...] or [...] for one sequence, or drawn."""
    spec, options, training = call[:3]
    checks.check_rank(input, spec.cell, (1, 2), "Cell")
    checks.check_cell_input(input, spec)
    if not _torch.is_any_autocast_enabled():
        checks.check_weights(
            expected_of_cell(spec), [w for w in own.weights if w is not None], input
        )
    if given is None:
        rows = masks.Rows(tuple(input.shape[:-1]), tuple(input.shape[:-1]))
        (given,) = masks.draw(spec, options, rows, input, training)
    parts = call.parts
    parts = parts if parts is None else parts._replace(per_step=bool(parts.on))
    data = masked_input(given.input, input, lambda mask: mask)
    weights = weights_of(parts, len(given.input), own, given.directions[0])
    features = data.shape[-1]
    if parts is None:
        w_ih, w_hh, *others = weights
        biases = others[:2] if spec.bias else (None, None)
        variant = None if spec.variant == PLAIN else spec.variant
        sizes = features, spec.hidden_size
        return run_cell(
            spec.cell, data, hx, (w_ih, w_hh, *biases), own.weights.w_ch, variant, sizes
        )
    text, _ = cell_of(spec, parts)
    data = torch.cat([data, *given.directions[0].of_steps(parts.per_step)], -1)
    sizes_and_bias = features, spec.hidden_size, spec.bias and not parts.biased
    return run_program_step(text, sizes_and_bias, data, hx, weights)
