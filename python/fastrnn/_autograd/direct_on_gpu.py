"""The short way of plain calls on a GPU: torch's operations and the kernels, driven from C++."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import _torch
from .._call.arguments import Kept
from .._call.spec import Spec
from .._engine import backends, cuda, native
from . import direct

__all__ = ["DirectOnGpu"]


class DirectOnGpu:
    """That of a layer, or for ``one_step`` of a cell, made when its first call on a GPU comes.

    Only what has a short way on the CPU has one here.
    """

    def __init__(self, spec: Spec, one_step: bool = False) -> None:
        self.spec, self.one_step = spec, one_step
        self.extension: Any = None
        self.call: Callable[..., Any] | None = None
        self.room: Callable[[], int] = int

    def __call__(self, input: Any, hx: Any, weights: Sequence[Any], batch_first: bool) -> Any:
        """What the layer or cell returns; None if this call is none for the short way."""
        if self.extension is not cuda.extension():
            self._make(cuda.extension())
        if self.call is None:
            return None
        return self.call(input, hx, weights, batch_first, torch.is_grad_enabled(), self.room())

    def _make(self, extension: Any) -> None:
        from .._engine.cuda import stack  # the first CUDA tensor loads it

        self.extension, self.call, self.room = extension, None, stack.room
        if native.cell_name(self.spec) is None:
            return
        made = extension.Direct(
            stack.make_stack(extension, self.spec),
            self.one_step,
            stack.make_tensors(extension, _torch.dlpack_exchange_api()),
            direct.recorder(_Way(self.spec)),
        )
        self.call = made.call


class _Way(direct.Way):
    """Of a call that the kernels for GPUs have computed."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.backend = backends.named("cuda")

    def unread(self, recorded: Any, needed: tuple[bool, ...]) -> Sequence[int]:
        return ()

    def dtype(self, recorded: Any) -> torch.dtype:
        from .._engine.cuda.stack import ELEMENTS

        return ELEMENTS[recorded.element]

    def kept(self, block: Any, recorded: Any) -> Kept:
        return Kept(block)
