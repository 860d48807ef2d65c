"""The CUDA part of fastrnn: whether this build has it, and how to get a build that does.

The kernels are an extension of their own, which is loaded when a CUDA tensor first comes.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["HOW_TO_BUILD", "architectures", "is_built"]

HOW_TO_BUILD = (
    "for the CUDA build, run FASTRNN_CUDA=ON pip install . in its sources on a machine with nvcc"
)


def is_built() -> bool:
    """Whether this build has kernels for GPUs."""
    return find_spec("fastrnn._cuda") is not None


def architectures() -> str:
    """What the kernels are compiled for, as CMake names it: "80-real 90a-real 90-virtual".

    Raises
    ------
    ImportError
        This build has none.
    """
    names: str = extension().architectures
    return names


@lru_cache(maxsize=1)
def extension() -> Any:
    """The extension module; ImportError with a way out if this build has none."""
    if not is_built():
        raise ImportError(f"this build of fastrnn has no CUDA kernels; {HOW_TO_BUILD}")
    return import_module("fastrnn._cuda")
