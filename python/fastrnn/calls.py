"""One call and its way into the engine, which takes addresses and allocates nothing.

What the engine cannot do, the plain equations of `fastrnn.reference` do: derivatives of
derivatives, and tensors without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import _core, _torch, native, reference
from .layout import SINGLE, Layout
from .precision import full_precision
from .spec import Outputs, Spec

__all__ = [
    "Call",
    "call_of",
    "call_type",
    "kept_bytes",
    "profiled",
    "rows_contiguous",
    "takes_half",
]

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_ABSENT = (0, 0, 0)


def kept_bytes(spec: Spec, data: Tensor, rows: int, dropout: bool) -> int:
    """Enough room for what backward needs of ``rows`` steps of sequences, dense or not.

    A compiler needs it as a formula of sizes that it does not know yet. ``data`` is the call's
    input.
    """
    return call_type(data).kept_bytes(spec, data.dtype, rows, dropout)


def call_of(layout: Layout, tensors: Sequence[Any]) -> Call:
    """The call that a layout and its tensors describe, in the order of `fastrnn.layout`."""
    data, _, _, batch_sizes, row_index, lengths, resets = tensors[:SINGLE]
    return call_type(data)(
        layout.spec,
        data,
        layout.batch_first,
        batch_sizes,
        row_index,
        lengths,
        resets,
        layout.states,
        [mask.contiguous() for mask in tensors[layout.weights_end :]],
    )


def takes_half(data: Tensor) -> bool:
    """Whether bfloat16 and float16 are computed as they are on the device of ``data``."""
    return data.is_cuda


def call_type(data: Tensor) -> type[Call]:
    """Who computes on the device of ``data``."""
    if data.is_cuda:
        from ._gpu.call import CudaCall  # the first CUDA tensor loads it

        return CudaCall
    return Call


@lru_cache(maxsize=256)
def _kept_of_sixteen(spec: Spec, dtype: torch.dtype, dropout: bool, isa: str) -> int:
    data = torch.empty((16, 1, spec.input_size), dtype=dtype, device="meta")
    masks = [data] if dropout else []
    call = Call(spec, data, False, masks=masks)
    call.prepare_backward(data)
    return call.plan.saved_bytes


def profiled(method: MethodT) -> MethodT:
    """Make torch's profiler show a method of `Call` as, say, ``fastrnn::lstm_forward``."""

    @wraps(method)
    def named(call: Call, *args: Any) -> Any:
        if not _torch.is_profiled():
            return method(call, *args)
        with torch.profiler.record_function(f"fastrnn::{call.spec.cell}_{method.__name__}"):
            return method(call, *args)

    return named  # type: ignore[return-value]


class Call:
    """The sizes of one call, and its way into the engine."""

    def __init__(
        self,
        spec: Spec,
        data: Tensor,
        batch_first: bool,
        batch_sizes: Tensor | None = None,
        row_index: Tensor | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        states: bool = False,
        masks: list[Tensor] | None = None,
    ) -> None:
        self.spec = spec
        self.directions = 2 if spec.bidirectional else 1
        self.out = self.directions * (spec.proj_size or spec.hidden_size)
        self.has_cell_state = spec.cell == "lstm"
        self.batch_first = batch_first
        self.batch_sizes = batch_sizes
        self.row_index = row_index
        self.lengths = lengths
        self.resets = None if resets is None else _copied(resets, data.device)
        self.states = states
        self.packed = batch_sizes is not None
        self.single_step = batch_sizes is None and data.dim() == 2
        if batch_sizes is not None:
            self.T, self.B = len(batch_sizes), int(batch_sizes[0])
        elif self.single_step:
            self.T, self.B = 1, data.shape[0]
        elif batch_first:
            self.B, self.T, _ = data.shape
        else:
            self.T, self.B, _ = data.shape
        if lengths is not None:
            self._order_rows()
        self.masks = self._draw_masks(data) if masks is None else masks
        self.room: int | None = None
        """Bytes to take for what backward needs; None for as many as it is."""

    def _order_rows(self) -> None:
        """Turn ``lengths`` into what a packed batch has."""
        assert self.lengths is not None
        self.batch_sizes, self.row_index = _in_falling_order(self.lengths, self.T)

    def _draw_masks(self, data: Tensor) -> list[Tensor]:
        """One for each layer but the last, over the rows of all steps in order of time."""
        if not self.spec.dropout or self.spec.num_layers == 1:
            return []
        shape = (*self._mask_shape(data), self.out)
        return [
            reference.dropout_mask(shape, self.spec.dropout, data)
            for _ in range(self.spec.num_layers - 1)
        ]

    def _mask_shape(self, data: Tensor) -> tuple[int, ...]:
        """How many rows a mask is drawn for."""
        if self.batch_sizes is None:
            return self.T, self.B
        return (int(self.batch_sizes.sum()),)

    def _masks_of_rows(self, masks: Sequence[Tensor]) -> Sequence[Tensor]:
        """Of masks that were drawn for more rows than there are, those of the rows."""
        if self.lengths is None or not masks:
            return masks
        active = int(self.lengths.sum())
        return [mask[:active] for mask in masks]

    @staticmethod
    def kept_bytes(spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        """What the engine keeps grows with the rows, but for the alignment of each piece.

        To that sixteen rows need nothing added.
        """
        return (rows + 15) // 16 * _kept_of_sixteen(spec, dtype, dropout, _core.isa_active())

    def _make_plan(self, data: Tensor, save: bool) -> _core.Plan:
        spec = self.spec
        cell, variant = native.cell_and_variant(spec)
        return _core.Plan(
            cell,
            native.DTYPES[data.dtype],
            self.T,
            self.B,
            spec.input_size,
            spec.hidden_size,
            spec.proj_size,
            spec.num_layers,
            self.directions,
            spec.bias,
            variant,
            save,
            bool(self.masks),
            self.states,
            torch.get_num_threads(),
            self.packed,
            0 if self.batch_sizes is None else self.batch_sizes.data_ptr(),
            0 if self.row_index is None else self.row_index.data_ptr(),
            0 if self.resets is None else self.resets.data_ptr(),
        )

    def _strided(self, tensor: Tensor | None) -> tuple[int, int, int]:
        """Address, elements from step to step, elements from row to row."""
        if tensor is None:
            return _ABSENT
        if tensor.dim() == 2:
            return tensor.data_ptr(), 0, tensor.stride(0)
        a, b, _ = tensor.stride()
        return (tensor.data_ptr(), b, a) if self.batch_first else (tensor.data_ptr(), a, b)

    @profiled
    def forward(
        self,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        weights: Sequence[Tensor],
        saved: list[Tensor] | None,
    ) -> tuple[Tensor, ...]:
        """(y, h_n) or (y, h_n, c_n), of a single step without h_n, which is y; then all states.

        A list as ``saved`` gets what backward needs.
        """
        spec = self.spec
        states: tuple[int, ...] = (spec.num_layers * self.directions, self.B)
        h_all = c_all = None
        if self.states:
            steps = (states[0], self.T, self.B)
            h_all = data.new_empty((*steps, spec.proj_size or spec.hidden_size))
            if self.has_cell_state:
                c_all = data.new_empty((*steps, spec.hidden_size))
        y = data.new_empty((*data.shape[:-1], self.out))
        if self.single_step:
            states, h_n = states[1:], y
        else:
            h_n = data.new_empty((*states, spec.proj_size or spec.hidden_size))
        c_n = data.new_empty((*states, spec.hidden_size)) if self.has_cell_state else None
        if y.numel():
            data, hx, cx = rows_contiguous(data), _contiguous(hx), _contiguous(cx)
            weights = [w.resolve_neg().contiguous() for w in weights]
            plan = self.plan = self._make_plan(data, saved is not None)
            kept = (
                None
                if saved is None
                else _bytes(plan.saved_bytes if self.room is None else self.room)
            )
            plan.forward(
                self._strided(data),
                self._strided(y),
                _address(hx),
                _address(cx),
                h_n.data_ptr(),
                _address(c_n),
                _address(h_all),
                _address(c_all),
                [w.data_ptr() for w in weights],
                [m.data_ptr() for m in self.masks],
                _address(kept),
            )
            if saved is not None and kept is not None:
                saved.append(kept)
        outputs = (y,) if self.single_step else (y, h_n)
        if c_n is not None:
            outputs = (*outputs, c_n)
        if h_all is None:
            return outputs
        return (*outputs, h_all) if c_all is None else (*outputs, h_all, c_all)

    @full_precision()
    def by_equations(
        self,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        weights: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Outputs:
        """(y, h_n, c_n, h_all, c_all) in plain torch operations."""
        if self.single_step:
            data, hx, cx = data[None], *(None if s is None else s[None] for s in (hx, cx))
        outputs = reference.rnn(
            self.spec,
            data,
            hx,
            cx,
            weights,
            batch_first=self.batch_first,
            batch_sizes=self.batch_sizes if self.packed else None,
            row_index=self.row_index if self.packed else None,
            lengths=self.lengths,
            resets=self.resets,
            states=self.states,
            masks=self._masks_of_rows(masks),
        )
        if not self.single_step:
            return outputs
        y, h_n, c_n, *_ = outputs
        return y[0], h_n[0], None if c_n is None else c_n[0], None, None

    def named(self, of_outputs: Sequence[Any]) -> tuple[Any, Any, Any, Any, Any]:
        """What belongs to `forward`'s outputs, as what belongs to y, h_n, c_n, h_all and c_all."""
        y, *rest = of_outputs
        h_n = None if self.single_step else rest.pop(0)
        c_n = rest.pop(0) if self.has_cell_state else None
        if not rest:
            return y, h_n, c_n, None, None
        return y, h_n, c_n, rest[0], rest[1] if self.has_cell_state else None

    def prepare_backward(self, data: Tensor) -> None:
        """What `forward` does for `backward`, in a call that only goes backward."""
        self.plan = self._make_plan(data, True)

    @profiled
    def backward(
        self,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        weights: Sequence[Tensor],
        kept: Tensor,
        masks: Sequence[Tensor],
        d_y: Tensor | None,
        d_h_n: Tensor | None,
        d_c_n: Tensor | None,
        d_h_all: Tensor | None,
        d_c_all: Tensor | None,
        gradients: list[Tensor | None],
    ) -> None:
        """Fill ``gradients`` of data, hx, cx and the weights; None is not computed."""
        d_data, d_hx, d_cx, *d_weights = gradients
        data, hx, cx = rows_contiguous(data), _contiguous(hx), _contiguous(cx)
        weights = [w.resolve_neg().contiguous() for w in weights]
        d_y = None if d_y is None else rows_contiguous(d_y)
        d_h_n, d_c_n = _contiguous(d_h_n), _contiguous(d_c_n)
        d_h_all, d_c_all = _contiguous(d_h_all), _contiguous(d_c_all)
        self.plan.backward(
            self._strided(data),
            _address(hx),
            _address(cx),
            [w.data_ptr() for w in weights],
            [m.data_ptr() for m in masks],
            self._strided(d_y),
            _address(d_h_n),
            _address(d_c_n),
            _address(d_h_all),
            _address(d_c_all),
            self._strided(d_data),
            _address(d_hx),
            _address(d_cx),
            [_address(d) for d in d_weights],
            kept.data_ptr(),
        )

    def gradients(
        self,
        inputs: Sequence[Any],
        kept: Sequence[Tensor],
        needed: Sequence[bool],
        d_outputs: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """Those of data, hx, cx and the weights, None where not needed.

        ``kept`` is what `forward` kept and then the masks; empty if it had not a single row.
        """
        if torch.is_grad_enabled():
            return self._differentiable_gradients(inputs, kept[1:], needed, d_outputs)
        make = torch.empty if kept else torch.zeros  # without a row nothing reaches the engine
        gradients = [
            make(tensor.shape, dtype=tensor.dtype, device=tensor.device) if need else None
            for tensor, need in zip(inputs, needed, strict=True)
        ]
        if kept:
            data, hx, cx, *weights = inputs
            self.backward(
                data, hx, cx, weights, kept[0], kept[1:], *self.named(d_outputs), gradients
            )
        return gradients

    @full_precision()
    def _differentiable_gradients(
        self,
        inputs: Sequence[Any],
        masks: Sequence[Tensor],
        needed: Sequence[bool],
        d_outputs: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """The same as functions of inputs and ``d_outputs``, for derivatives of derivatives."""
        data, hx, cx, *weights = inputs
        outputs = self.by_equations(data, hx, cx, weights, masks)
        reached = [
            (output, gradient)
            for output, gradient in zip(outputs, self.named(d_outputs), strict=True)
            if output is not None and gradient is not None
        ]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in reached],
                [tensor for tensor, need in zip(inputs, needed, strict=True) if need],
                [d_output for _, d_output in reached],
                create_graph=True,
                allow_unused=True,
            )
        )
        return [next(found) if need else None for need in needed]


def _in_falling_order(lengths: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """``batch_sizes`` [T] and ``row_index`` [B] as torch's packing of the same batch has them.

    Equal lengths come in the same order as there, so that dropout masks fall on the same rows.
    """
    _, row_index = torch.sort(lengths, descending=True)
    ended = torch.bincount(lengths, minlength=T + 1)[:T].cumsum(0)
    return len(lengths) - ended, row_index


def _copied(resets: Tensor, device: torch.device) -> Tensor:
    """What backward will read again, when the caller's rollout buffer may have been filled anew."""
    return resets.to(device, copy=True, memory_format=torch.contiguous_format)


def _bytes(n: int) -> Tensor:
    return torch.empty(n, dtype=torch.uint8)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.resolve_neg().contiguous()


def rows_contiguous(tensor: Tensor) -> Tensor:
    """The engine takes any strides but that of the features."""
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
