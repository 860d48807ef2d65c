"""What the short way on a GPU is told of a stack of layers, and of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import _torch
from ..._call.spec import Spec
from .. import native
from . import engine, forward
from .passes import Pieces, facts_of

__all__ = ["ELEMENTS", "make_stack", "make_tensors", "room"]

ELEMENTS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""In the order of the extension."""


def make_stack(extension: Any, spec: Spec) -> Any:
    """The extension's stack, of a spec that has kernels."""
    name = native.cell_name(spec)
    assert name is not None
    operations = extension.Operations(
        torch, engine.multiply, _stream, _uses_tf32, ELEMENTS, _torch.set_grad_enabled
    )
    return extension.Stack(
        getattr(extension.Cell, name),
        spec.input_size,
        spec.hidden_size,
        spec.proj_size,
        spec.num_layers,
        spec.directions,
        spec.bias,
        spec.variant.reverse,
        operations,
        [_pieces(extension, facts_of(spec, dtype).pieces) for dtype in ELEMENTS],
    )


def make_tensors(extension: Any, exchange_api: Any) -> Any:
    """The extension's reader and maker of tensors."""
    plain = Tensor, torch.nn.Parameter
    return extension.Tensors(
        exchange_api, plain, empty_on(extension), ELEMENTS, extension.device_type
    )


def empty_on(extension: Any) -> Callable[..., Tensor]:
    """What makes tensors where the kernels of an extension find them."""
    is_cpu = extension.device_type == torch.utils.dlpack.DLDeviceType.kDLCPU
    return _torch.empty_strided_on_cpu if is_cpu else _torch.empty_strided_on_cuda


def room() -> int:
    """Bytes that the input's share of a direction may take in inference."""
    return forward.ForwardPass.ROOM


def _pieces(extension: Any, pieces: Pieces) -> Any:
    def offsets(name: str) -> list[int]:
        return [offset for (of, _), offset in pieces.offsets.items() if of == name]

    names = "gates", "extra", "cell", "raw", "outputs"
    return extension.Pieces(*map(offsets, names), pieces.row_bytes, pieces.ROWS)


def _stream(device: int) -> int:
    return engine.handle_of_stream(device)


def _uses_tf32() -> bool:
    return engine.uses_tf32()
