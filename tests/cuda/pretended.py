"""Memory of the CPU that says that it is on cuda:0, and may not be mixed with what does not.

Emulated kernels run over it as over any other memory, so what is between a caller's tensors and the
kernels' addresses goes as on a GPU, without one. What torch's own backward makes is marked where it
reaches fastrnn. Operations that torch composes of others are seen as one, and dispatch by device is
torch's of the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from fastrnn._autograd import operators
from fastrnn._call.arguments import Arguments
from fastrnn._engine import backend, backends, cuda
from fastrnn._engine.cuda import device, engine, passes
from fastrnn._layers import overrides
from fastrnn._torch import has_function_mode

CUDA = torch.device("cuda:0")
PASSES = str(Path(passes.__file__).parent)
# Of torch's: what takes tensors of both kinds by purpose.
MAY_MIX = {"copy_", "to", "type_as", "__set__", "_has_compatible_shallow_copy_type", "apply"}
# Of torch's layers: whose batch_sizes stay on the CPU.
PACKED = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
# Where torch's own derivatives come back to fastrnn.
RECORDED = {
    "grad",
    "recurrence",
    "recurrence_forward",
    "recurrence_backward",
    "custom_function_call",
}


class Pretended(TorchFunctionMode):
    """The mode in which marked memory is on cuda:0."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, Any] = {}  # held, so that no other gets the same place

    def is_marked(self, tensor: Tensor) -> bool:
        return _base(tensor).untyped_storage()._cdata in self.storages

    def mark(self, values: Any) -> Any:
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                storage = _base(value).untyped_storage()
                self.storages[storage._cdata] = storage
        return values

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        own = getattr(func, "__self__", None)
        if own in (Tensor.is_cuda, Tensor.is_cpu, Tensor.device) or name == "get_device":
            return self.place(own, args[0], func)
        if name in ("_parse_to", "device"):  # which only read what a device is called
            return func(*args, **kwargs)
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        marked = [self.is_marked(tensor) for tensor in tensors]
        if any(marked) and name in RECORDED:  # what torch's derivatives have made, unseen
            self.mark(tensors)
        elif any(marked) and name not in MAY_MIX:
            _check_one_device(name, tensors, marked)
        if name == "data_ptr" and not marked[0] and tensors[0].numel() and _is_for_kernels():
            raise RuntimeError("a kernel on cuda:0 was to get an address on cpu")
        if name in ("to", "cpu", "cuda", "type_as"):
            return self.moved(func, name, args, kwargs)
        if name == "mm" and "out_dtype" in kwargs:  # which torch has on GPUs only
            a, b = (operand.to(kwargs["out_dtype"]) for operand in args)
            return torch.mm(a, b, out=kwargs["out"])
        to_cuda = any(map(_is_cuda, leaves))
        if to_cuda:
            args, kwargs = tree_map(lambda leaf: "cpu" if _is_cuda(leaf) else leaf, (args, kwargs))
        found = func(*args, **kwargs)
        if name == "copy_":  # stays where it is
            return found
        to_cpu = any(leaf == torch.device("cpu") or leaf == "cpu" for leaf in _named(leaves))
        return self.mark(found) if to_cuda or (any(marked) and not to_cpu) else found

    def place(self, own: Any, tensor: Tensor, func: Callable[..., Any]) -> Any:
        if not self.is_marked(tensor):
            return func(tensor)
        return {Tensor.is_cuda: True, Tensor.is_cpu: False, Tensor.device: CUDA}.get(own, 0)

    def moved(self, func: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
        """Of ``to`` and its like: a copy where the device is another one."""
        source, *others = args
        leaves = tree_leaves((others, kwargs))
        to_cuda = name == "cuda" or any(map(_is_cuda, leaves))
        to_cuda |= any(isinstance(leaf, Tensor) and self.is_marked(leaf) for leaf in leaves)
        to_cpu = (
            name == "cpu"
            or any(isinstance(leaf, Tensor) for leaf in leaves)
            or "cpu" in [str(leaf) for leaf in _named(leaves)]
        )
        if name == "cuda":
            func, others, kwargs = Tensor.to, [], {}
        others, kwargs = tree_map(lambda leaf: "cpu" if _is_cuda(leaf) else leaf, (others, kwargs))
        found = func(source, *others, **kwargs) if others or kwargs or name == "cpu" else source
        if not (to_cuda or to_cpu):
            return self.mark(found) if self.is_marked(source) else found
        if to_cuda == self.is_marked(source):
            return self.mark(found) if to_cuda else found
        if _base(found).untyped_storage()._cdata == _base(source).untyped_storage()._cdata:
            found = found.clone()
        if to_cuda:
            return self.mark(found)
        self.storages.pop(_base(found).untyped_storage()._cdata, None)
        return found


def _base(tensor: Tensor) -> Tensor:
    """What is inside of the wrappers of ``torch.func``."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def _named(leaves: Any) -> Iterator[Any]:
    return (leaf for leaf in leaves if isinstance(leaf, (str, torch.device)))


def _is_cuda(leaf: Any) -> bool:
    return isinstance(leaf, (str, torch.device)) and str(leaf).split(":")[0] == "cuda"


def _check_one_device(name: str, tensors: list[Tensor], marked: list[bool]) -> None:
    """RuntimeError, as torch raises it, unless what lies elsewhere is a number."""
    pairs: Iterable[tuple[Tensor, bool]] = zip(tensors, marked, strict=True)
    if name in PACKED:
        pairs = ((tensor, mark) for tensor, mark in pairs if tensor.is_floating_point())
    if any(not on_cuda and tensor.dim() and tensor.numel() for tensor, on_cuda in pairs):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} found at least two "
            f"devices, cuda:0 and cpu!"
        )


def _is_for_kernels() -> bool:
    """Whether the passes ask for an address."""
    frame = sys._getframe(2)
    return frame.f_code.co_filename.startswith(PASSES)


@contextmanager
def pretended(module: Any) -> Iterator[Pretended]:
    """Within, "cuda" is a device, and the kernels are those of an emulated module."""
    mode = Pretended()
    backward, run_graph = backend.backward, torch.autograd._engine_run_backward

    def seeing(function: Any) -> Any:
        """The same within an operator of ours, which torch runs without the mode."""

        def seen(*arguments: Any, **keywords: Any) -> Any:
            found = [a for a in arguments if isinstance(a, Arguments)]
            data, *others = found[0] if found else arguments[:1]
            if not mode.is_marked(data):
                return function(*arguments, **keywords)
            if function is backward:  # torch's own derivatives go without the mode as well
                mode.mark(arguments[4])
            if has_function_mode():
                return function(*arguments, **keywords)
            mode.mark([other for other in others if other is not found[0].batch_sizes])
            with mode:
                return function(*arguments, **keywords)

        return seen

    def within(*arguments: Any, **keywords: Any) -> Any:
        with mode:  # what the mode sees as one call goes on without it
            found = run_graph(*arguments, **keywords)
            outputs, *_ = arguments
            return mode.mark(found) if any(map(mode.is_marked, outputs)) else found

    device._why_not.cache_clear()
    with (
        mock.patch.object(cuda, "extension", return_value=module),
        mock.patch.object(cuda, "is_built", return_value=True),
        mock.patch.object(device, "_capability", return_value=90),
        mock.patch.object(engine, "handle_of_stream", return_value=0),
        mock.patch.object(operators, "_checked", seeing(operators._checked)),
        mock.patch.object(backends, "backend_of", seeing(backends.backend_of)),
        mock.patch.object(backend, "forward", seeing(backend.forward)),
        mock.patch.object(backend, "backward", seeing(backward)),
        mock.patch.object(torch.autograd, "_engine_run_backward", within),
        mock.patch.object(overrides, "asked", return_value=()),  # calls are seen inside of them
        mode,
    ):
        yield mode
    device._why_not.cache_clear()
