"""Those who compute, and which of them computes a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from .._call.spec import Spec
from .backend import Backend
from .cpu import BACKEND as CPU
from .equations import BACKEND as EQUATIONS

__all__ = [
    "BACKENDS",
    "backend_of",
    "chosen",
    "is_on_gpu",
    "is_torchs",
    "may_be_torchs",
    "named",
    "refusal",
    "using",
]


def _cuda() -> Backend:
    from .cuda.backend import BACKEND  # the first CUDA tensor loads it

    return BACKEND


BACKENDS: dict[str, Callable[[], Backend]] = {
    "cpu": lambda: CPU,
    "cuda": _cuda,
    "reference": lambda: EQUATIONS,
}
"""By name, made when they are first asked for."""

chosen: Backend | None = None
"""Who computes all calls, if somebody has said so."""


def named(name: str) -> Backend:
    """The backend of `BACKENDS` that has this name; KeyError for another."""
    return BACKENDS[name]()


def backend_of(data: Tensor, spec: Spec) -> Backend:
    """Who computes a call with this input: the equations where there are no kernels for it."""
    if chosen is not None:
        return chosen
    return EQUATIONS if refusal(data, spec) else _of_device(data)


def refusal(data: Tensor, spec: Spec) -> str | None:
    """Why this build has no kernels for such a call, as the end of a sentence; None if it has."""
    if not (data.is_cpu or data.is_cuda or data.is_meta):
        return "fastrnn computes on the CPU and on CUDA devices"
    reason = _of_device(data).refuses(spec)
    if reason is None and data.is_cuda:
        from .cuda.device import why_not

        return why_not(data.device)
    return reason


def is_torchs(spec: Spec, input: Any, *, batch_first: bool = False, one_step: bool = False) -> bool:
    """Whether torch's layer is to compute a call on a GPU that both could.

    ``input``: a Tensor or a PackedSequence, which has not been checked.
    """
    from .cuda import choice

    return choice.is_torchs(spec, input, batch_first=batch_first, one_step=one_step)


def may_be_torchs(data: Tensor, spec: Spec) -> bool:
    """Whether torch's layer may be to compute some call of a layer on a GPU."""
    from .cuda import policy

    return policy.chosen() != "kernels" or refusal(data, spec) is not None


def is_on_gpu(input: Any) -> bool:
    """Whether the CUDA kernels are to compute a call with this input, if they can."""
    if chosen is not None:
        return chosen is _cuda()
    return isinstance(input, Tensor) and input.is_cuda


def _of_device(data: Tensor) -> Backend:
    return _cuda() if data.is_cuda else CPU


@contextmanager
def using(name: str) -> Iterator[None]:
    """Have all calls computed by one backend, forward and backward, whatever device they are on.

    For the whole process, not for one thread. A graph made within is to go backward within.
    """
    global chosen
    before, chosen = chosen, named(name)
    try:
        yield
    finally:
        chosen = before
