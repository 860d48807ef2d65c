"""What a GPU is, and whether it can run the kernels."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ... import _torch
from .. import cuda

__all__ = ["capability", "why_not"]


def capability(data: Tensor) -> int:
    """Ten times that of the GPU on which a tensor lies, 90 of one of 9.0."""
    return _capability(data.get_device())


@cache
def _capability(index: int) -> int:
    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor


@_torch.constant_to_compilers  # there is nothing to see in a driver
def why_not(device: torch.device) -> str | None:
    """Why no kernel can run on a CUDA device, as a sentence; None if they can.

    What is asked of the driver is asked once for each device.
    """
    if not cuda.is_built():
        return f"this build of fastrnn computes on the CPU; {cuda.HOW_TO_BUILD}"
    return _why_not(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _why_not(index: int) -> str | None:
    try:
        extension = cuda.extension()
    except ImportError as error:
        return f"the CUDA kernels do not load: {error}"
    driver, runtime = extension.versions()
    if driver // 1000 < runtime // 1000:  # within one major version any driver serves
        return (
            f"the CUDA kernels need a driver for CUDA {_named(runtime)} and this one is for "
            f"{_named(driver)}; install a newer one, or build fastrnn with an older nvcc"
        )
    refusal = extension.load_error(index)
    if refusal:
        major, minor = torch.cuda.get_device_capability(index)
        return (
            f"the CUDA kernels, which are for {extension.architectures}, do not load on a GPU of "
            f"capability {major}.{minor}: {refusal}; they need 8.0 or more, and a build with "
            f"FASTRNN_CUDA_ARCHITECTURES=native is for the GPU at hand"
        )
    return None


def _named(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
