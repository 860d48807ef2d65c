"""Whether torch's layer is to compute a call that the kernels could: the policy, of tensors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..._call.spec import Spec
from . import engine, policy
from .device import capability

__all__ = ["is_torchs"]


def is_torchs(spec: Spec, input: Any, *, batch_first: bool = False, one_step: bool = False) -> bool:
    """Whether torch's layer or cell computes a call with torch's own options and arguments.

    Where cuDNN is switched off the estimates do not hold, and the kernels compute.
    """
    to = policy.chosen()
    if to != "fastest":
        return to == "torch"
    if not torch.backends.cudnn.enabled:
        return False
    packed = isinstance(input, PackedSequence)
    data: Tensor = input.data if packed else input
    sizes = 1, 1
    if packed and len(input.batch_sizes):
        sizes = len(input.batch_sizes), int(input.batch_sizes[0])
    elif data.dim() == 3:
        B, T = data.shape[:2] if batch_first else data.shape[1::-1]
        sizes = T, B
    elif data.dim() == 2 and not one_step:
        sizes = data.shape[0], 1
    row = _row(spec, capability(data), _precision_of(data), *sizes, packed, torch.is_grad_enabled())
    return row.who == "torch"


def _precision_of(data: Tensor) -> str:
    dtype = data.dtype
    if dtype != torch.float64 and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    if dtype == torch.float32 and engine.uses_tf32():
        return "tf32"
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=1024)
def _row(
    spec: Spec, capability: int, precision: str, T: int, B: int, packed: bool, training: bool
) -> policy.Row:
    return policy.row_of(
        policy.Call(
            capability,
            precision,
            spec.cell,
            T,
            B,
            spec.input_size,
            spec.hidden_size,
            packed,
            spec.directions,
            spec.num_layers,
            spec.proj_size > 0,
            training,
        )
    )
