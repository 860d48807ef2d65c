"""Dropout between layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .spec import Spec

__all__ = ["draw", "dropout_mask"]


def draw(spec: Spec, rows: Sequence[int], like: Tensor) -> list[Tensor]:
    """A mask [*rows, D*K] for each layer but the last."""
    if not spec.dropout or spec.num_layers == 1:
        return []
    shape = (*rows, spec.directions * spec.out)
    return [dropout_mask(shape, spec.dropout, like) for _ in range(spec.num_layers - 1)]


def dropout_mask(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """The mask that ``torch.nn`` multiplies one layer's output by, drawn from torch's generator.

    The generator is left where torch leaves it, so that equal seeds give equal masks; for ``p = 1``
    torch draws nothing, and nor does this.

    Parameters
    ----------
    shape : sequence of int
        (T, B, D*K), or (N, D*K) for a packed batch.
    p : float
        Probability of a zero.
    like : Tensor
        Gives dtype and device.

    Returns
    -------
    Tensor of that shape
        0 with probability p, else 1 / (1 - p).
    """
    mask = like.new_empty(tuple(shape))
    return mask.zero_() if p == 1 else mask.bernoulli_(1 - p).div_(1 - p)
