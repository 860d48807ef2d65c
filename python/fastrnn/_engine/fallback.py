"""What becomes of tensors on a device for which this build has no kernels."""

from __future__ import annotations

import os
import warnings
from functools import cache

from torch import Tensor

from .._call.spec import Spec
from .backends import refusal
from .native import why_not_on_cuda

__all__ = ["CHOICES", "VARIABLE", "check", "chosen", "set_fallback"]

CHOICES = ("torch", "error")
VARIABLE = "FASTRNN_FALLBACK"

_chosen: str | None = None


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
    global _chosen
    _check_choice(to, "to")
    _chosen = to


def _check_choice(to: str, what: str) -> None:
    if to not in CHOICES:
        raise ValueError(f"{what}: expected one of {', '.join(map(repr, CHOICES))}, got {to!r}")


def chosen() -> str:
    """Which of the `CHOICES`; ValueError if the environment variable has none of them."""
    if _chosen is not None:
        return _chosen
    to = os.environ.get(VARIABLE, CHOICES[0])
    _check_choice(to, VARIABLE)
    return to


def check(data: Tensor, spec: Spec) -> None:
    """NotImplementedError where nobody else is to compute what this build has no kernels for."""
    reason = refusal(data, spec)
    if reason is None:
        return
    if chosen() == "error":
        raise NotImplementedError(f"input: got a Tensor on {data.device}, but {reason}")
    if data.is_cuda and why_not_on_cuda(spec) is None:  # there are kernels, and this GPU lacks them
        _warn_once(reason)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"torch's layers compute in the place of fastrnn's: {reason}", stacklevel=2)
