"""Single steps of cells that have no features, or no units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from .._call.spec import Spec

__all__ = ["with_a_feature", "without_units"]


def with_a_feature(tensor: Tensor) -> Tensor:
    """An input or a weight without features, with one that is always zero."""
    return torch.cat([tensor, tensor.new_zeros(*tensor.shape[:-1], 1)], -1)


def without_units(
    data: Tensor, h: Tensor | None, c: Tensor | None, weights: Sequence[Tensor], spec: Spec
) -> Any:
    """What a cell returns where H = 0: empty as the gates are, and with their gradients."""
    w_ih, w_hh, *vectors = weights
    none = data.new_zeros((*data.shape[:-1], 0))
    gates = linear(data, w_ih) + linear(none if h is None else h, w_hh)
    for vector in vectors:
        gates = gates + vector
    return (gates, gates + (none if c is None else c)) if spec.has_cell_state else gates
