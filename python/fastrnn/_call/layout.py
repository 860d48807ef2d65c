"""Names, shapes and order of the weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from .spec import GATES, Spec

__all__ = ["shapes_of_weights", "weights_of", "weights_of_cell"]


def weights_of(spec: Spec) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights, in the order of torch's ``_flat_weights``."""
    found: list[tuple[str, tuple[int, ...]]] = []
    suffixes = ("", "_reverse") if spec.bidirectional else ("",)
    rows, outputs = GATES[spec.cell] * spec.hidden_size, spec.proj_size or spec.hidden_size
    for layer in range(spec.num_layers):
        inputs = outputs * len(suffixes) if layer else spec.input_size
        for suffix in suffixes:
            shapes: list[tuple[str, tuple[int, ...]]] = [
                ("weight_ih", (rows, inputs)),
                ("weight_hh", (rows, outputs)),
            ]
            if spec.bias:
                shapes += [("bias_ih", (rows,)), ("bias_hh", (rows,))]
            if spec.proj_size:
                shapes += [("weight_hr", (spec.proj_size, spec.hidden_size))]
            if spec.variant.peephole:
                shapes += [("weight_ch", (len(spec.variant.peephole) * spec.hidden_size,))]
            found += [(f"{kind}_l{layer}{suffix}", shape) for kind, shape in shapes]
    return found


@lru_cache(maxsize=256)
def shapes_of_weights(spec: Spec) -> tuple[tuple[int, ...], ...]:
    return tuple(shape for _, shape in weights_of(spec))


def weights_of_cell(w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> tuple[Any, ...]:
    """The weights of a layer that does the same; torch's cells may lack one bias of two."""
    if b_ih is None and b_hh is None:
        return w_ih, w_hh
    if b_ih is None:
        return w_ih, w_hh, torch.zeros_like(b_hh), b_hh
    if b_hh is None:
        return w_ih, w_hh, b_ih, torch.zeros_like(b_ih)
    return w_ih, w_hh, b_ih, b_hh
