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

from .. import _core, _torch, reference
from .._autograd.saved import unread
from .._call.layout import SINGLE, Layout
from .._call.precision import full_precision
from .._call.spec import Outputs, Spec
from . import native
from .addresses import Memory, block_of, place
from .geometry import Geometry

__all__ = [
    "Call",
    "call_of",
    "call_type",
    "kept_bytes",
    "profiled",
    "takes_half",
]

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_INTEGERS = Memory(torch.int64, torch.device("cpu"))
_FLAGS = Memory(torch.bool, torch.device("cpu"))


def kept_bytes(spec: Spec, data: Tensor, rows: int, dropout: bool) -> int:
    """Enough room for what backward needs of ``rows`` steps of sequences, dense or not.

    A compiler needs it as a formula of sizes that it does not know yet. ``data`` is the call's
    input.
    """
    return call_type(data).kept_bytes(spec, data.dtype, rows, dropout)


def call_of(layout: Layout, tensors: Sequence[Any]) -> Call:
    """The call that a layout and its tensors describe, in the order of `fastrnn._call.layout`."""
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
        from .cuda.call import CudaCall  # the first CUDA tensor loads it

        return CudaCall
    return Call


@lru_cache(maxsize=256)
def _kept_of_sixteen(spec: Spec, dtype: torch.dtype, dropout: bool) -> int:
    """Enough for every instruction set: a graph may run with another one than it was made with."""
    data = torch.empty((16, 1, spec.input_size), dtype=dtype, device="meta")
    call = Call(spec, data, False, masks=[data] if dropout else [])
    return max(call.make_plan(True, isa).saved_bytes for isa in _core.isa_built())


def profiled(method: MethodT) -> MethodT:
    """Make torch's profiler show a method of `Call` as, say, ``fastrnn::lstm_forward``."""

    @wraps(method)
    def named(call: Call, *args: Any) -> Any:
        if not _torch.is_profiled():
            return method(call, *args)
        with torch.profiler.record_function(f"fastrnn::{call.spec.cell}_{method.__name__}"):
            return method(call, *args)

    return named  # type: ignore[return-value]


class Call(Geometry):
    """One call and its way into the engine."""

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
        super().__init__(spec, data, batch_first, batch_sizes, states)
        self.batch_sizes = batch_sizes
        self.row_index = row_index
        self.lengths = lengths
        self.resets = None if resets is None else _copied(resets, data.device)
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

        To that sixteen rows need nothing added. One byte says which instruction set has laid it
        out.
        """
        return (rows + 15) // 16 * _kept_of_sixteen(spec, dtype, dropout) + 1

    def make_plan(self, save: bool, isa: str | None = None) -> _core.Plan:
        """The engine's plan, for the instruction set that is active or for another."""
        spec = self.spec
        cell, variant = native.cell_and_variant(spec)
        sizes = place("batch_sizes", self.batch_sizes, (self.T,), _INTEGERS)
        order = place("sorted_indices", self.row_index, (self.B,), _INTEGERS)
        resets = place("resets", self.resets, (self.T, self.B), _FLAGS)
        return _core.Plan(
            cell=cell,
            dtype=native.DTYPES[self.memory.dtype],
            T=self.T,
            B=self.B,
            I=spec.input_size,
            H=spec.hidden_size,
            P=spec.proj_size,
            layers=spec.num_layers,
            directions=self.directions,
            bias=spec.bias,
            variant=variant,
            save=save,
            dropout=bool(self.masks),
            states=self.states,
            threads=torch.get_num_threads(),
            packed=self.packed,
            batch_sizes=sizes.address,
            row_index=order.address,
            resets=resets.address,
            isa=_core.isa_active() if isa is None else isa,
        )

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
        made = [None if s is None else data.new_empty(s) for s in self.output_shapes]
        outputs = tuple(output for output in made if output is not None)
        y = outputs[0]
        if self.single_step:
            made[1] = y
        if y.numel():
            plan = self.plan = self.make_plan(saved is not None)
            kept = None if saved is None else self._make_kept(plan.saved_bytes)
            x, h0, c0, *of_weights = self.place_inputs((data, hx, cx, *weights))
            of_masks = self.place_masks(self.masks)
            of_y, of_h_n, of_c_n, of_h_all, of_c_all = self.place_outputs(made)
            plan.forward(
                x=x.strides(self.batch_first),
                y=of_y.strides(self.batch_first),
                h0=h0.address,
                c0=c0.address,
                h_n=of_h_n.address,
                c_n=of_c_n.address,
                h_all=of_h_all.address,
                c_all=of_c_all.address,
                weights=[w.address for w in of_weights],
                masks=[m.address for m in of_masks],
                saved=0 if kept is None else kept.data_ptr(),
            )
            if saved is not None and kept is not None:
                saved.append(kept)
        return outputs

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

    def _make_kept(self, size: int) -> Tensor:
        """A block for what backward needs, whose last byte is the number of the instruction set."""
        if self.room is None:
            return torch.empty(size, dtype=torch.uint8, device="cpu")
        if size >= self.room:
            raise RuntimeError(f"expected at least {size + 1} bytes for backward, got {self.room}")
        kept = torch.empty(self.room, dtype=torch.uint8, device="cpu")
        kept[-1] = _core.isa_built().index(_core.isa_active())
        return kept

    def prepare_backward(self, kept: Tensor) -> None:
        """What `forward` does for `backward`, in a call that only goes backward.

        With the instruction set of the one that went forward.
        """
        self.plan = self.make_plan(True, _core.isa_built()[int(kept[-1])])

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
        x, h0, c0, *of_weights = self.place_inputs((data, hx, cx, *weights))
        of_masks = self.place_masks(masks)
        d_outputs = (d_y, d_h_n, d_c_n, d_h_all, d_c_all)
        of_y, of_h_n, of_c_n, of_h_all, of_c_all = self.place_outputs(d_outputs)
        d_x, d_h0, d_c0, *d_weights = self.place_inputs(gradients)
        block = Memory(kept.dtype, self.memory.device)
        of_kept = block_of("what forward kept", kept, self.plan.saved_bytes, block)
        self.plan.backward(
            x=x.strides(self.batch_first),
            h0=h0.address,
            c0=c0.address,
            weights=[w.address for w in of_weights],
            masks=[m.address for m in of_masks],
            d_y=of_y.strides(self.batch_first),
            d_h_n=of_h_n.address,
            d_c_n=of_c_n.address,
            d_h_all=of_h_all.address,
            d_c_all=of_c_all.address,
            d_x=d_x.strides(self.batch_first),
            d_h0=d_h0.address,
            d_c0=d_c0.address,
            d_weights=[d.address for d in d_weights],
            saved=of_kept.address,
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
            make(shape, dtype=self.memory.dtype, device=self.memory.device) if need else None
            for shape, need in zip(self.input_shapes, needed, strict=True)
        ]
        if kept:
            data, hx, cx, *weights = inputs
            self.backward(
                data, hx, cx, weights, kept[0], kept[1:], *self.named(d_outputs), gradients
            )
        return gradients

    def unread(self, needed: tuple[bool, ...]) -> Sequence[int]:
        """Which of data, hx, cx and the weights `backward` does not read for these gradients."""
        return unread(self.spec, self.T == 1, needed)

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
