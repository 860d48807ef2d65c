"""Where torch meets the engine: memory is allocated here, and autograd hooked in.

The engine takes addresses, sizes and strides, and allocates nothing. Everything that reaches this
module has been checked by `fastrnn.functional`.

The way of a call: `run` draws the dropout masks and, if any gradient will be wanted, goes through
`_Recurrence`, which keeps what backward needs; else it calls the engine at once. What the engine
cannot do, the plain equations of `fastrnn.reference` do: derivatives of derivatives, and tensors
without memory. Whoever has to see the call as one operation of torch's goes through
`fastrnn.operators` instead, which ends here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import _core, _torch, reference, variants
from .precision import full_precision
from .spec import PLAIN, Outputs, Spec, Variant

__all__ = ["Call", "direct", "kept_bytes", "run"]

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_CELLS = {
    "lstm": _core.Cell.lstm,
    "gru": _core.Cell.gru,
    "rnn_tanh": _core.Cell.rnn_tanh,
    "rnn_relu": _core.Cell.rnn_relu,
}
_DTYPES = {torch.float32: _core.DType.float32, torch.float64: _core.DType.float64}
_ABSENT = (0, 0, 0)


def _squash(text: str) -> _core.Squash:
    name, parameters = variants.parse_activation(text)
    if name == "identity":
        return _core.Squash(_core.Activation.affine, 1.0, 0.0)
    alpha, beta = (*parameters, 0.0, 0.0)[:2]
    return _core.Squash(getattr(_core.Activation, name.removesuffix("_onnx")), alpha, beta)


def _native_cell(cell: str, variant: Variant) -> _core.Cell:
    """The engine's cell: one of torch's wherever that computes the same, since those are faster."""
    own = variants.own_activation(cell, variant)
    if variant == replace(PLAIN, reverse=variant.reverse, activation=variant.activation):
        if cell.startswith("rnn") and f"rnn_{own}" in _CELLS:
            return _CELLS[f"rnn_{own}"]
        if own == "tanh":
            return _CELLS[cell]
    if cell == "lstm":
        return _core.Cell.lstm_variant
    if cell == "gru":
        return _core.Cell.gru_variant if variant.reset_after else _core.Cell.gru_reset_before
    return _core.Cell.rnn_variant


@lru_cache(maxsize=256)
def _native(cell: str, variant: Variant) -> tuple[_core.Cell, _core.Variant]:
    """What the engine calls this cell and this variant of it."""
    native = _core.Variant(
        _squash(variant.recurrent_activation),
        _squash(variants.own_activation(cell, variant)),
        _squash(variant.output_activation),
        variant.cell_clip,
        variant.input_forget,
        variant.peephole,
        variant.reverse,
    )
    return _native_cell(cell, variant), native


def cell_name(spec: Spec) -> str:
    """The engine's name for the cell of a spec: one of torch's wherever that computes the same."""
    return _native_cell(spec.cell, spec.variant).name


_PLAIN_CELLS = {cell: _native(cell, PLAIN) for cell in _CELLS}


def _natively(spec: Spec) -> tuple[_core.Cell, _core.Variant]:
    return _PLAIN_CELLS[spec.cell] if spec.variant is PLAIN else _native(spec.cell, spec.variant)


def direct(spec: Spec, one_step: bool = False) -> _core.Direct | None:
    """The short way of plain calls that need no gradient; None where torch is too old for it.

    On its way such a call takes less than half of the time that it takes through `run`: the engine
    reads torch's tensors through DLPack's C interface (torch 2.10 or later), without Python.
    """
    if torch.compiler.is_dynamo_compiling():  # a tracer must not see addresses
        return None
    exchange_api = _torch.dlpack_exchange_api()
    if exchange_api is None or (spec.dropout and spec.num_layers > 1):
        return None
    cell, variant = _natively(spec)
    return _core.Direct(
        cell,
        spec.input_size,
        spec.hidden_size,
        spec.proj_size,
        spec.num_layers,
        2 if spec.bidirectional else 1,
        spec.bias,
        variant,
        one_step,
        exchange_api,
        (Tensor, torch.nn.Parameter),
    )


def run(
    spec: Spec,
    data: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    weights: Sequence[Tensor],
    *,
    batch_first: bool = False,
    batch_sizes: Tensor | None = None,
    row_index: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    states: bool = False,
) -> Outputs:
    """A stack of layers over whole sequences; parameters and results as in `reference.rnn`.

    A single step of one layer has a ``data`` of two dimensions, [B, I], and states without those of
    layers; its h_n is y.
    """
    call = call_type(data)(spec, data, batch_first, batch_sizes, row_index, lengths, resets, states)
    if not (_has_memory(data) and _has_memory(weights[1])):
        return call.by_equations(data, hx, cx, weights, call.masks)
    if torch.is_grad_enabled() and _any_requires_grad(data, hx, cx, weights):
        outputs = _Recurrence.apply(call, data, hx, cx, *weights)  # type: ignore[no-untyped-call]
    else:
        outputs = call.forward(data, hx, cx, weights, None)
    y, h_n, c_n, h_all, c_all = call.named(outputs)
    return y, y if call.single_step else h_n, c_n, h_all, c_all


def _has_memory(tensor: Tensor) -> bool:
    """False for a fake tensor, or one that is zero by decree."""
    return tensor.data_ptr() != 0 or tensor.numel() == 0


def _any_requires_grad(
    data: Tensor, hx: Tensor | None, cx: Tensor | None, weights: Sequence[Tensor]
) -> bool:
    if data.requires_grad or any(w.requires_grad for w in weights):
        return True
    return (hx is not None and hx.requires_grad) or (cx is not None and cx.requires_grad)


def kept_bytes(spec: Spec, data: Tensor, rows: int, dropout: bool) -> int:
    """Enough room for what backward needs of ``rows`` steps of sequences, dense or not.

    A compiler needs it as a formula of sizes that it does not know yet. ``data`` is the call's
    input.
    """
    return call_type(data).kept_bytes(spec, data.dtype, rows, dropout)


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
    call = Call(spec, data, False, None, None, None, None, False, masks)
    call.prepare_backward(data)
    return call.plan.saved_bytes


def _profiled(method: MethodT) -> MethodT:
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
        batch_sizes: Tensor | None,
        row_index: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        states: bool,
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
        cell, variant = _natively(spec)
        return _core.Plan(
            cell,
            _DTYPES[data.dtype],
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

    @_profiled
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
            data, hx, cx = _rows_contiguous(data), _contiguous(hx), _contiguous(cx)
            weights = [w.resolve_neg().contiguous() for w in weights]
            plan = self.plan = self._make_plan(data, saved is not None)
            kept = (
                None
                if saved is None
                else _bytes(plan.saved_bytes if self.room is None else self.room)
            )
            workspace = _bytes(plan.forward_bytes)
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
                workspace.data_ptr(),
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

    @_profiled
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
        data, hx, cx = _rows_contiguous(data), _contiguous(hx), _contiguous(cx)
        weights = [w.resolve_neg().contiguous() for w in weights]
        d_y = None if d_y is None else _rows_contiguous(d_y)
        d_h_n, d_c_n = _contiguous(d_h_n), _contiguous(d_c_n)
        d_h_all, d_c_all = _contiguous(d_h_all), _contiguous(d_c_all)
        workspace = _bytes(self.plan.backward_bytes)
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
            workspace.data_ptr(),
        )


class _Recurrence(torch.autograd.Function):
    """The engine's forward and backward as one node of the graph.

    Everything that backward reads goes through ``save_for_backward``, so that a change in place is
    caught, hooks on saved tensors apply, and memory is freed as soon as backward has run.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        kept: list[Tensor] = []
        outputs = call.forward(data, hx, cx, weights, kept)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(data, hx, cx, *weights, *kept, *call.masks)
        call.masks = []
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        needed = ctx.needs_input_grad[1:]
        saved = ctx.saved_tensors  # unpacked at every access
        inputs, kept = saved[: len(needed)], saved[len(needed) :]
        if torch.is_grad_enabled():
            return None, *_differentiable_gradients(call, inputs, kept[1:], needed, d_outputs)
        make = torch.empty if kept else torch.zeros  # without a row nothing reaches the engine
        gradients = [
            make(tensor.shape, dtype=tensor.dtype, device=tensor.device) if need else None
            for tensor, need in zip(inputs, needed, strict=True)
        ]
        if kept:
            data, hx, cx, *weights = inputs
            call.backward(
                data, hx, cx, weights, kept[0], kept[1:], *call.named(d_outputs), gradients
            )
        return None, *gradients


@full_precision()
def _differentiable_gradients(
    call: Call,
    inputs: Sequence[Any],
    masks: Sequence[Tensor],
    needed: Sequence[bool],
    d_outputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients as functions of inputs and ``d_outputs``, for a derivative of a derivative."""
    data, hx, cx, *weights = inputs
    outputs = call.by_equations(data, hx, cx, weights, masks)
    reached = [
        (output, gradient)
        for output, gradient in zip(outputs, call.named(d_outputs), strict=True)
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


def _rows_contiguous(tensor: Tensor) -> Tensor:
    """The engine takes any strides but that of the features."""
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
