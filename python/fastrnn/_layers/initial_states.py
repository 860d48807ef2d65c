"""Initial states that a layer has as parameters, for calls that give none.

``h_0`` [L*D, 1, K], and for the LSTM ``c_0`` [L*D, 1, H], one for every sequence of a batch. A
tensor with a row for each sequence, [L*D, B, K], serves batches of B.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .._call.arguments import batch_of
from .._call.spec import CELLS
from .plan import spec_of

__all__ = ["for_batch", "new_states"]


def new_states(layer: Any) -> dict[str, Tensor]:
    """The parameters' names and zeros of their shapes, with the weights' dtype and device."""
    spec, weight = spec_of(layer), layer.weight_ih_l0
    count = spec.num_layers * spec.directions
    zeros = (weight.new_zeros(count, 1, width) for width in spec.widths)
    return dict(zip(_names(layer), zeros, strict=True))


def _names(layer: Any) -> list[str]:
    return [f"{state}_0" for state in CELLS[layer.mode.lower()].states]


def for_batch(layer: Any, input: Any, *, cast: bool = True) -> Any:
    """The layer's own states as the ``hx`` of a call with ``input``; None where that is none.

    With ``cast`` they get the dtype of ``input``, another one than theirs under autocast alone: as
    zeros would.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor):
        return None  # to be refused
    if isinstance(input, PackedSequence):
        batch = batch_of(data, None, False, input.batch_sizes, input.sorted_indices)
    elif data.dim() in (2, 3):
        batch = 1 if data.dim() == 2 else batch_of(data, None, layer.batch_first, None, None)
    else:
        return None  # to be refused
    states = [getattr(layer, name) for name in _names(layer)]
    if cast:
        states = [state.to(data.dtype) for state in states]
    # Where every row has a state of its own, the checks say what batch is expected.
    states = [s.expand(-1, batch, -1) if s.shape[1] == 1 else s for s in states]
    if not isinstance(input, PackedSequence) and data.dim() == 2:
        states = [state.squeeze(1) for state in states]
    return tuple(states) if len(states) > 1 else states[0]
