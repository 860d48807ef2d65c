"""What backward needs of a call's tensors, on their way from forward to backward.

torch's autograd watches what is saved for backward: a change in place is an error. It does not
notice when a tensor gets other memory, as `module.half()`, `module.double()`, ``.data =`` and
``set_`` give it. torch's own layers do not notice either, but they save views of the weights, which
keep the old memory. Here the old memory of parameters is kept beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import _torch
from .._call.arguments import Layout
from .._call.batch import Batch
from .._call.spec import Spec
from .._call.weights import weights_of
from .._engine.addresses import is_plain

__all__ = ["Origin", "origins_of", "recall", "save", "save_all", "save_present", "saved_by"]


class Origin(NamedTuple):
    """Where forward has found a tensor."""

    identity: int
    address: int
    storage: Any
    """The memory itself, of a parameter; else None."""
    stride: tuple[int, ...] | None
    """None: contiguous."""


def origins_of(inputs: Sequence[Tensor | None]) -> list[Origin | None]:
    """Where data, hx, cx and the weights lie; nothing where hooks make other tensors of them."""
    if _torch.packs_saved_tensors():
        return []
    return [
        None
        if tensor is None
        else Origin(
            id(tensor),
            tensor.data_ptr(),
            tensor.untyped_storage() if type(tensor) is Parameter else None,
            tensor.stride(),
        )
        for tensor in inputs
    ]


def save(
    ctx: Any,
    inputs: Sequence[Tensor | None],
    unread: Sequence[int],
    others: Sequence[Tensor | None],
) -> None:
    """Save for backward what it reads, and hold the rest for derivatives of derivatives.

    What is only held may be changed in place.
    """
    saved = list(inputs)
    held: dict[int, tuple[Tensor, int]] = {}
    for place in unread:
        tensor = saved[place]
        # Of another tensor that has a graph, holding it could close a circle.
        if tensor is not None and (type(tensor) is Parameter or not tensor.requires_grad):
            own = tensor.detach() if place < 3 else tensor
            held[place] = own, _version_of(own)
            saved[place] = None
    ctx.held = held
    save_present(ctx, [*saved, *others])


def save_all(ctx: Any, layout: Layout, tensors: Sequence[Any], kept: Tensor) -> None:
    """Everything that backward will need."""
    ctx.layout = layout
    ctx.set_materialize_grads(False)
    save_present(ctx, (kept, *tensors))


def save_present(ctx: Any, tensors: Sequence[Tensor | None]) -> None:
    """Save for backward what is there, and where: `saved_by` has the rest as None again.

    Whoever draws a graph, as torchviz does, takes a node's ``saved_tensors`` to be tensors.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    everything = len(given) == len(tensors)
    ctx.is_present = None if everything else [tensor is not None for tensor in tensors]
    ctx.save_for_backward(*given)


def saved_by(ctx: Any) -> tuple[Any, ...]:
    """What `save_present` was given."""
    saved: tuple[Any, ...] = ctx.saved_tensors  # unpacked at every access
    if ctx.is_present is None:
        return saved
    present = iter(saved)
    return tuple([next(present) if there else None for there in ctx.is_present])


def recall(
    ctx: Any,
    batch: Batch,
    inputs: Sequence[Any],
    origins: Sequence[Origin | None],
    anew: bool = False,
) -> list[Any]:
    """Data, hx, cx and the weights as forward has seen them, out of what was saved.

    None for what is not there or will not be read. If gradients are to be differentiated again or
    the call is to be computed ``anew``, all that there are.

    Raises
    ------
    RuntimeError
        One has got other memory, and what it had is gone; or one that was held has been changed.
    """
    found = list(inputs)
    for place, origin in enumerate(origins):
        if found[place] is not None and origin is not None:
            found[place] = _as_it_was(found[place], origin, batch, place)
    if anew or torch.is_grad_enabled():
        for place, (tensor, version) in ctx.held.items():
            if _version_of(tensor) != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: {_name(batch.spec, place)} is at version "
                    f"{tensor._version}; expected version {version} instead"
                )
            found[place] = tensor
    return found


def _as_it_was(tensor: Tensor, origin: Origin, batch: Batch, place: int) -> Tensor:
    shape, memory = batch.input_shapes[place], batch.memory
    if id(tensor) != origin.identity:  # hooks on saved tensors have made it
        return tensor
    storage = origin.storage
    if is_plain(tensor) and tensor.shape == shape and tensor.dtype is memory.dtype:
        if tensor.data_ptr() == origin.address:
            return tensor
        # Memory that was given back and came again, as FSDP does it with weights
        if storage is not None and tensor.untyped_storage()._cdata == storage._cdata:
            return tensor
    if storage is not None and not torch.is_grad_enabled():
        was = torch.empty(0, dtype=memory.dtype, device=memory.device)
        stride = origin.stride or torch.empty(shape, device="meta").stride()
        offset = origin.address - storage.data_ptr()
        last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if 0 <= offset <= storage.nbytes() - (last + 1) * was.element_size():
            return was.set_(storage, offset // was.element_size(), shape, stride)
    raise RuntimeError(
        f"{_name(batch.spec, place)}, needed for gradient computation, has got other memory "
        f"since forward (.data =, set_, resize_ or a conversion of its module): expected "
        f"{memory.dtype} of shape {shape}, got {tensor.dtype} of shape {tuple(tensor.shape)}"
    )


def _version_of(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # which those do not have


def _name(spec: Spec, place: int) -> str:
    if place < 3:
        return ("input", "hx", "cx")[place]
    name, _ = weights_of(spec)[place - 3]
    return f"weights[{place - 3}] ({name})"
