"""The order in which one direction of a layer goes through the steps of a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor

from .._call.rows import Beginning, forgotten
from .ragged import active_steps

__all__ = ["Walk"]


class Walk:
    """Which state each step of a direction begins with: the last one, the initial one, or zeros.

    Parameters
    ----------
    data : Tensor [T, B, I]
    lengths : Tensor [B], optional
        As in `fastrnn.reference.rnn`, as is what follows.
    resets : Tensor [T, B], optional
    reverse : bool
        From each sequence's last step to its first.
    """

    def __init__(
        self, data: Tensor, lengths: Tensor | None, resets: Tensor | None, *, reverse: bool
    ) -> None:
        steps = len(data)
        self.reverse = reverse
        self._past = None if lengths is None else ~active_steps(lengths, steps)
        time = torch.arange(steps, device=data.device)[:, None]
        ends = time == 0, time == (steps if lengths is None else lengths) - 1
        self._begins, self._last = reversed(ends) if reverse else ends
        # The reverse direction crosses the border before step t when it enters step t - 1. It has
        # no border to cross where a sequence ends.
        forgets = resets
        if resets is not None and reverse:
            forgets = self._shifted(resets) & ~self._begins
        self._forgets = forgets

    def before(self, after: Tensor, initial: Tensor | None) -> Tensor:
        """[T, B, features], the states that the steps begin with, out of those ``after`` them."""
        states = self._shifted(after)
        if initial is not None:
            states = torch.where(self._begins[..., None], initial, states)
        return self.zero_past_ends(_zeroed(states, self._forgets))

    def entering(self, t: int, state: tuple[Tensor, ...], begin: Beginning) -> tuple[Tensor, ...]:
        """The ``state`` that the walk brings to step t, as that step begins with it.

        ``begin`` is what a reset goes back to.
        """
        return forgotten(state, None if self._forgets is None else self._forgets[t], begin)

    def kept_past_ends(
        self, t: int, new: tuple[Tensor, ...], state: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """``new`` states of step t, but ``state`` of sequences that have no such step."""
        if self._past is None:
            return new
        past = self._past[t, :, None]
        return tuple(torch.where(past, b, a) for a, b in zip(new, state, strict=True))

    def before_backward(self, d_before: Tensor) -> Tensor:
        """The gradient of ``after``, out of that of `before`."""
        return self._shifted(_zeroed(_zeroed(d_before, self._begins), self._forgets), back=True)

    def at_last_step(self, final: Tensor) -> Tensor:
        """[T, B, features], of sequences that have a last step what ``final`` has, else zeros."""
        return torch.where(self._last[..., None], final, 0)

    def zero_past_ends(self, rows: Tensor) -> Tensor:
        return _zeroed(rows, self._past)

    def _shifted(self, rows: Tensor, *, back: bool = False) -> Tensor:
        """Each step with what stands at the step before it on the way, or after it."""
        nothing = torch.zeros_like(rows[:1])
        if self.reverse != back:
            return torch.cat([rows[1:], nothing])
        return torch.cat([nothing, rows[:-1]])


def _zeroed(rows: Tensor, where: Tensor | None) -> Tensor:
    return rows if where is None else rows.masked_fill(where[..., None], 0)
