"""What becomes of tensors on a device for which this build has no kernels."""

from __future__ import annotations

import warnings
from functools import cache

from torch import Tensor

from . import cuda
from .cuda.device import why_not
from .setting import Setting

__all__ = ["CHOICES", "VARIABLE", "check", "chosen", "set_fallback"]

CHOICES = ("torch", "error")
VARIABLE = "FASTRNN_FALLBACK"

_SETTING = Setting(VARIABLE, CHOICES)


def set_fallback(to: str) -> None:
    """Say what becomes of a call on a device for which this build of fastrnn has no kernels.

    That is every device but the CPU, unless the CUDA part is built: see ``python -m fastrnn info``.
    The environment variable ``FASTRNN_FALLBACK`` says it for a whole process.

    Parameters
    ----------
    to : {"torch", "error"}
        "torch", the default: a layer or cell with torch's own options computes as the class of
        ``torch.nn`` that it derives from does, on cuDNN where that is torch's way. What torch has
        not (``lengths``, ``resets``, ``return_states``, the options of `fastrnn.variants`) and
        the functions of `fastrnn.functional` are computed by the equations of
        `fastrnn.reference` on that device, a step after the other. "error": NotImplementedError.

    Raises
    ------
    ValueError
        ``to`` is none of these.
    """
    _SETTING.choose(to)


def chosen() -> str:
    """Which of the `CHOICES`; ValueError if the environment variable has none of them."""
    return _SETTING.value()


def check(data: Tensor, refusal: str) -> None:
    """NotImplementedError, with the `backends.refusal`, where nobody else is to compute a call.

    A GPU that could have run the kernels, but for itself or its driver, is named in a warning.
    """
    if chosen() == "error":
        raise NotImplementedError(f"input: got a Tensor on {data.device}, but {refusal}")
    if data.is_cuda and cuda.is_built() and refusal == why_not(data.device):
        _warn_once(refusal)


@cache
def _warn_once(refusal: str) -> None:
    warnings.warn(f"torch's layers compute in the place of fastrnn's: {refusal}", stacklevel=2)
