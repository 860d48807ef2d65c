"""Calls on a GPU: large products by torch, recurrences by `fastrnn._cuda`, all on one stream.

The extension runs the recurrence of one layer, both directions side by side, and takes addresses.
Everything around it is torch's: memory, the products that have no recurrence in them (x W_ih^T, and
the gradients of x, W and b), dropout. Nothing here waits for the device, and what a kernel needs to
know of a batch (lengths, resets) it reads there; so a call can be captured in a CUDA graph.

- ``backend.py``: what the rest of the package sees. ``placement.py``: where a batch lies.
- ``forward.py``, ``backward.py``: the two passes, layer by layer. ``passes.py``: what they share.
- ``engine.py``: the extension in torch's terms: precisions, streams, cells. ``device.py``: whether
  a GPU can run it.

Tensors of all steps are laid out as the caller's input is: [T, B, ...], [B, T, ...], or packed
[N, ...]. "Rows" are the same, flat: [rows, ...].

The kernels are an extension of their own, which is loaded when a CUDA tensor first comes.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["HOW_TO_BUILD", "extension", "is_built"]

HOW_TO_BUILD = (
    "for the CUDA build, run FASTRNN_CUDA=ON pip install . in its sources on a machine with nvcc"
)


_BUILT = find_spec("fastrnn._cuda") is not None


def is_built() -> bool:
    """Whether this build has kernels for GPUs."""
    return _BUILT


@lru_cache(maxsize=1)
def extension() -> Any:
    """The extension module; ImportError with a way out if this build has none."""
    if not is_built():
        raise ImportError(f"this build of fastrnn has no CUDA kernels; {HOW_TO_BUILD}")
    return import_module("fastrnn._cuda")
