"""Who computes a call: what each of them can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .. import _torch
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch
from .._call.spec import Outputs, Spec

__all__ = ["Backend", "Forward", "backward", "forward"]


class Forward(Protocol):
    """Who computes the outputs of calls. What reaches it has been checked."""

    is_differentiable: bool
    """Whether torch's autograd sees what it does, so that nobody has to record it."""
    time_first: bool
    """Whether the y [B, T, D*K] of ``batch_first`` is a view of a [T, B, D*K], as torch's is."""

    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
        """The outputs, without h_n where that is y, and what backward needs if that is to be kept.

        ``room``: bytes to take for it; None for as many as it is.
        """


class Backend(Forward, Protocol):
    """One way to compute all layers, forward and backward."""

    computes_half: bool
    """Whether bfloat16 and float16 are computed as they are."""
    masks_by_entry: bool
    """Whether dropout masks of a batch with lengths are drawn by step and entry, [T, B, D*K].

    Else for its rows in order of time, [N, D*K]. So a mask's dimensions say which it is.
    """

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it takes the factors of products in bfloat16 (`Spec.products`)."""

    def refuses(self, spec: Spec) -> str | None:
        """Why it cannot compute such a layer, as the end of a sentence; None if it can."""

    def kept_bytes(self, spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        """Enough room for what backward needs of ``rows`` steps of sequences, dense or not.

        A compiler needs it as a formula of sizes that it does not know yet.
        """

    def unread(self, batch: Batch, needed: tuple[bool, ...]) -> Sequence[int]:
        """Which of data, hx, cx and the weights `backward` does not read for these gradients."""

    def backward(
        self,
        batch: Batch,
        arguments: Arguments,
        kept: Kept,
        d_outputs: Outputs,
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of data, hx, cx and the weights, None where not needed."""


def forward(
    backend: Forward,
    batch: Batch,
    arguments: Arguments,
    *,
    keep: bool = False,
    room: int | None = None,
) -> tuple[Outputs, Kept | None]:
    """`Forward.forward`, as torch's profiler shows it: ``fastrnn::lstm_forward``, say.

    Nothing is kept of a call without a row.
    """
    if batch.B == 0 and not backend.is_differentiable:
        return batch.new_outputs(arguments.data, backend.time_first), None
    if not _torch.is_profiled():
        return backend.forward(batch, arguments, keep, room)
    with torch.profiler.record_function(f"fastrnn::{batch.spec.name}_forward"):
        return backend.forward(batch, arguments, keep, room)


def backward(
    backend: Backend,
    batch: Batch,
    arguments: Arguments,
    kept: Kept | None,
    d_outputs: Outputs,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """`Backend.backward`, as torch's profiler shows it; zeros where nothing was kept."""
    if kept is None:
        return batch.new_gradients(needed, torch.zeros)
    if not _torch.is_profiled():
        return backend.backward(batch, arguments, kept, d_outputs, needed)
    with torch.profiler.record_function(f"fastrnn::{batch.spec.name}_backward"):
        return backend.backward(batch, arguments, kept, d_outputs, needed)
