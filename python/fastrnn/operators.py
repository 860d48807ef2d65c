"""The layers as operators of torch's, for whoever has to see a call as one operation.

``torch.ops.fastrnn`` has three operators, which serve every cell and every option:

- ``recurrence``: the outputs. What compilers and exporters find in a graph.
- ``recurrence_forward``: the same, and what backward needs.
- ``recurrence_backward``: the gradients that somebody needs.

Below them is the engine, or for tensors that only have a shape a function that knows the shapes of
the outputs. The transformations of ``torch.func`` take `_Recurrence` instead, because operators
cannot be transformed more than once, and forward-mode derivatives the plain equations.

A plain call never comes here: `fastrnn.ops.run` costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _checks, ops, reference
from .spec import FLAT, Outputs, Spec, from_flat, to_flat

__all__ = ["batch_of", "is_observed", "is_watched", "run", "run_step"]

_vjp: Any = torch.func.vjp  # its annotation does not know what it returns
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transformations = torch._C._functorch.peek_interpreter_stack
_is_tracing = torch._C._is_tracing

_SPEC_SCHEMA = ", ".join(f"{kind} {name}" for kind, name in FLAT)
_SCHEMA = (
    "Tensor data, Tensor? hx, Tensor? cx, Tensor? batch_sizes, Tensor? row_index, "
    "Tensor? lengths, Tensor? resets, Tensor[] weights, Tensor[] masks, SymInt batch, "
    f"bool batch_first, bool states, {_SPEC_SCHEMA}"
)
_SINGLE = 7  # tensors before the lists of weights and of masks


def is_observed() -> bool:
    """Whether a mode is active that has to see the operations on plain tensors.

    Forward-mode derivatives, ``torch.jit.trace``, or a mode of ``__torch_dispatch__`` such as
    FakeTensorMode.
    """
    return forward_ad._current_level >= 0 or _dispatch_modes() > 0 or _is_tracing()


def is_watched() -> bool:
    """Whether a call has to be one operator of torch's, or even its equations.

    To those of `is_observed` add compilers and the transformations of ``torch.func``.
    """
    return torch.compiler.is_compiling() or is_observed() or _transformations() is not None


@dataclass(frozen=True)
class _Layout:
    """What a call consists of besides its tensors.

    The tensors of a call always stand in one order: data, hx, cx, batch_sizes, row_index, lengths,
    resets, then ``num_weights`` weights, then masks. ``needed`` says for data, hx, cx and the
    weights which gradients backward is to compute.
    """

    spec: Spec
    batch: int
    batch_first: bool
    states: bool
    num_weights: int
    needed: tuple[bool, ...] = ()

    @property
    def weights_end(self) -> int:
        return _SINGLE + self.num_weights

    @property
    def trained(self) -> tuple[int, ...]:
        """Where those tensors stand that may have gradients."""
        return (0, 1, 2, *range(_SINGLE, self.weights_end))

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of an operator."""
        return (
            *tensors[:_SINGLE],
            list(tensors[_SINGLE : self.weights_end]),
            list(tensors[self.weights_end :]),
            self.batch,
            self.batch_first,
            self.states,
            *to_flat(self.spec),
        )

    def shapes(self, tensors: Sequence[Any]) -> list[tuple[int, ...] | None]:
        """Of y, h_n, c_n, h_all and c_all; None for one that there is not."""
        data, batch_sizes, spec = tensors[0], tensors[3], self.spec
        directions = 2 if spec.bidirectional else 1
        out = spec.proj_size or spec.hidden_size
        count = spec.num_layers * directions
        y = (*data.shape[:-1], directions * out)
        has_cell_state = spec.cell == "lstm"
        if _is_single_step(data, batch_sizes):
            c_n = (self.batch, spec.hidden_size)
            return [y, None, c_n if has_cell_state else None, None, None]
        steps = _steps(data, self.batch_first, batch_sizes)
        widths = (out, spec.hidden_size if has_cell_state else None)
        finals = [None if width is None else (count, self.batch, width) for width in widths]
        everything = [
            None if width is None or not self.states else (count, steps, self.batch, width)
            for width in widths
        ]
        return [y, *finals, *everything]


def _of_present(layout: _Layout, tensors: Sequence[Any], of_outputs: Sequence[Any]) -> list[Any]:
    """What belongs to an operator's outputs, in five places; None for those that there are not."""
    shapes = layout.shapes(tensors)
    return [
        value if shape is not None else None
        for value, shape in zip(of_outputs, shapes, strict=False)
    ]


def _taken_apart(arguments: Sequence[Any]) -> tuple[_Layout, list[Any]]:
    """The layout and the tensors of an operator's arguments."""
    *single, weights, masks, batch, batch_first, states = arguments[: _SINGLE + 5]
    spec = from_flat(arguments[_SINGLE + 5 :])
    layout = _Layout(spec, batch, batch_first, states, len(weights))
    return layout, [*single, *weights, *masks]


def _is_single_step(data: Tensor, batch_sizes: Tensor | None) -> bool:
    return batch_sizes is None and data.dim() == 2


def _steps(data: Tensor, batch_first: bool, batch_sizes: Tensor | None) -> int:
    if batch_sizes is not None:
        return batch_sizes.shape[0]
    return data.shape[1 if batch_first else 0]


def _rows(tensors: Sequence[Any]) -> int:
    """How many rows there are at the most; with lengths they are a value and not a shape."""
    data: Tensor = tensors[0]
    return data.shape[0] if data.dim() == 2 else data.shape[0] * data.shape[1]


# ---- the callers' side ----


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
    """`fastrnn.ops.run` as one node of a graph; the same parameters and results.

    A single step has a ``data`` of two dimensions, [B, I], and its h_n is y.
    """
    batch = batch_of(data, hx, batch_first, batch_sizes, row_index)
    layout = _Layout(spec, batch, batch_first, states, len(weights))
    masks = _draw_masks(spec, data, batch_first, batch_sizes, lengths)
    tensors = (data, hx, cx, batch_sizes, row_index, lengths, resets, *weights, *masks)
    if torch.compiler.is_compiling():
        outputs = torch.ops.fastrnn.recurrence(*layout.arguments(tensors))
    elif forward_ad._current_level >= 0:
        return _by_equations(layout, tensors)
    elif _transformations() is not None:
        outputs = _Recurrence.apply(layout, *tensors)  # type: ignore[no-untyped-call]
    else:
        outputs = torch.ops.fastrnn.recurrence(*layout.arguments(tensors))
    y, h_n, c_n, h_all, c_all = _of_present(layout, tensors, outputs)
    return y, y if h_n is None else h_n, c_n, h_all, c_all


def run_step(
    spec: Spec, data: Tensor, hx: Tensor | None, cx: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """`fastrnn.ops.run_step` as one node of a graph; the same parameters and results."""
    y, _, c_n, _, _ = run(spec, data, hx, cx, weights)
    return y, c_n


def batch_of(
    data: Tensor,
    hx: Any,
    batch_first: bool,
    batch_sizes: Tensor | None,
    row_index: Tensor | None,
) -> int:
    """B, of a packed batch from a shape if any tells it: its sizes are values, not shapes."""
    if batch_sizes is None:
        return data.shape[0 if batch_first or data.dim() == 2 else 1]
    if row_index is not None:
        return row_index.shape[0]
    state = hx[0] if isinstance(hx, (tuple, list)) else hx
    batch: int = int(batch_sizes[0]) if state is None else state.shape[1]
    return batch


def _draw_masks(
    spec: Spec,
    data: Tensor,
    batch_first: bool,
    batch_sizes: Tensor | None,
    lengths: Tensor | None,
) -> list[Tensor]:
    """As `fastrnn.ops` draws them; with ``lengths`` for every row that there might be.

    How many rows there are is a value then, and the engine reads the first so many of the mask.
    """
    if not spec.dropout or spec.num_layers == 1:
        return []
    rows: tuple[int, ...] = (_rows((data,)),)
    if batch_sizes is None and lengths is None:
        steps = _steps(data, batch_first, None)
        rows = (steps, data.shape[0 if batch_first else 1])
    width = (2 if spec.bidirectional else 1) * (spec.proj_size or spec.hidden_size)
    return [
        reference.dropout_mask((*rows, width), spec.dropout, data)
        for _ in range(spec.num_layers - 1)
    ]


# ---- the operators ----

_library: Any = torch.library.Library("fastrnn", "DEF")  # type: ignore[no-untyped-call]
_library.define(f"recurrence({_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"recurrence_forward({_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrence_backward(Tensor kept, Tensor? d_y, Tensor? d_h_n, Tensor? d_c_n, "
    f"Tensor? d_h_all, Tensor? d_c_all, bool[] needed, {_SCHEMA}) -> Tensor[]"
)
_BEFORE = 7  # arguments of recurrence_backward before those that all three have


def _make_call(layout: _Layout, tensors: Sequence[Any]) -> ops.Call:
    """Into the engine, with those values checked that a graph could not know."""
    data, _, _, batch_sizes, row_index, lengths, resets = tensors[:_SINGLE]
    if lengths is not None:
        steps = _steps(data, layout.batch_first, None)
        lengths = _checks.check_lengths(lengths, steps, layout.batch)
    if batch_sizes is not None:
        _checks.check_packed(data, batch_sizes, row_index, layout.batch)
    return ops.Call(
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


def _compute(layout: _Layout, tensors: Sequence[Any], keep: bool) -> list[Tensor]:
    """The outputs, empty ones for those that there are not, and what was kept."""
    call = _make_call(layout, tensors)
    data, hx, cx = tensors[:3]
    weights = tensors[_SINGLE : layout.weights_end]
    kept: list[Tensor] | None = None
    if keep:
        kept = []
        call.room = ops.kept_bytes(layout.spec, data.dtype, _rows(tensors), bool(call.masks))
    outputs = call.named(call.forward(data, hx, cx, weights, kept))
    filled = [data.new_empty(0) if output is None else output for output in outputs]
    if kept is None:
        return filled
    return [*filled, *(kept or [data.new_empty(0, dtype=torch.uint8)])]


def _recurrence(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_compute(*_taken_apart(arguments), keep=False))


def _recurrence_forward(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_compute(*_taken_apart(arguments), keep=True))


def _recurrence_backward(*arguments: Any) -> list[Tensor]:
    kept, d_y, d_h_n, d_c_n, d_h_all, d_c_all, needed = arguments[:_BEFORE]
    layout, tensors = _taken_apart(arguments[_BEFORE:])
    call = _make_call(layout, tensors)
    inputs = [tensors[place] for place in layout.trained]
    make = torch.empty_like if kept.numel() else torch.zeros_like
    gradients = [
        make(tensor, memory_format=torch.contiguous_format) if need else None
        for tensor, need in zip(inputs, needed, strict=True)
    ]
    if kept.numel():
        data, hx, cx, *weights = inputs
        call.prepare_backward(data)
        call.backward(
            data, hx, cx, weights, kept, call.masks, d_y, d_h_n, d_c_n, d_h_all, d_c_all, gradients
        )
    return [gradient for gradient in gradients if gradient is not None]


def _empty_outputs(layout: _Layout, tensors: Sequence[Any]) -> list[Tensor]:
    return [tensors[0].new_empty(0 if shape is None else shape) for shape in layout.shapes(tensors)]


def _fake_recurrence(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_empty_outputs(*_taken_apart(arguments)))


def _fake_recurrence_forward(*arguments: Any) -> tuple[Tensor, ...]:
    layout, tensors = _taken_apart(arguments)
    dropout = len(tensors) > layout.weights_end
    size = ops.kept_bytes(layout.spec, tensors[0].dtype, _rows(tensors), dropout)
    return *_empty_outputs(layout, tensors), tensors[0].new_empty(size, dtype=torch.uint8)


def _fake_recurrence_backward(*arguments: Any) -> list[Tensor]:
    needed = arguments[_BEFORE - 1]
    layout, tensors = _taken_apart(arguments[_BEFORE:])
    return [
        torch.empty_like(tensors[place], memory_format=torch.contiguous_format)
        for place, need in zip(layout.trained, needed, strict=True)
        if need
    ]


def _recurrence_of_autograd(keyset: Any, *arguments: Any) -> Any:
    """``recurrence``, or where gradients will be wanted ``recurrence_forward``, which has some."""
    layout, tensors = _taken_apart(arguments)
    inputs = (tensors[place] for place in layout.trained)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return torch.ops.fastrnn.recurrence_forward(*arguments)[:-1]
    with torch._C._AutoDispatchBelowAutograd():
        below = keyset & torch._C._after_autograd_keyset
        return torch.ops.fastrnn.recurrence.default.redispatch(below, *arguments)


def _save(ctx: Any, layout: _Layout, tensors: Sequence[Any], kept: Tensor) -> None:
    ctx.layout = layout
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(kept, *tensors)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, *_taken_apart(inputs), output[-1])


def _gradients(ctx: Any, *d_outputs: Tensor | None) -> tuple[Any, ...]:
    kept, *tensors = ctx.saved_tensors
    layout: _Layout = ctx.layout
    *single, of_weights, of_masks = ctx.needs_input_grad[: _SINGLE + 2]
    needed = [*single[:3], *of_weights]
    found = iter(
        torch.ops.fastrnn.recurrence_backward(
            kept, *_of_present(layout, tensors, d_outputs), needed, *layout.arguments(tensors)
        )
    )
    d_data, d_hx, d_cx, *d_weights = (next(found) if need else None for need in needed)
    others = [None] * (3 + len(FLAT))
    return d_data, d_hx, d_cx, *[None] * 4, d_weights, [None] * len(of_masks), *others


def _keep_for_second_derivatives(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, *d_outputs, needed = inputs[:_BEFORE]
    layout, tensors = _taken_apart(inputs[_BEFORE:])
    ctx.layout = replace(layout, needed=tuple(needed))
    ctx.save_for_backward(*d_outputs, *tensors)


def _second_derivatives(ctx: Any, d_gradients: Sequence[Tensor]) -> tuple[Any, ...]:
    d_outputs, tensors = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
    layout: _Layout = ctx.layout
    dd_outputs, d_inputs = _pulled_back_twice(layout, tensors, d_outputs, d_gradients)
    d_data, d_hx, d_cx, *d_weights = d_inputs
    masks = [None] * (len(tensors) - layout.weights_end)
    others = [None] * (3 + len(FLAT))
    return None, *dd_outputs, None, d_data, d_hx, d_cx, *[None] * 4, d_weights, masks, *others


for _name, _real, _fake in (
    ("recurrence", _recurrence, _fake_recurrence),
    ("recurrence_forward", _recurrence_forward, _fake_recurrence_forward),
    ("recurrence_backward", _recurrence_backward, _fake_recurrence_backward),
):
    _library.impl(_name, _real, "CPU")
    torch.library.register_fake(f"fastrnn::{_name}", _fake, lib=_library)
_library.impl("recurrence", _recurrence_of_autograd, "Autograd", with_keyset=True)
torch.library.register_autograd(
    "fastrnn::recurrence_forward", _gradients, setup_context=_keep_for_gradients, lib=_library
)
torch.library.register_autograd(
    "fastrnn::recurrence_backward",
    _second_derivatives,
    setup_context=_keep_for_second_derivatives,
    lib=_library,
)


# ---- by the plain equations ----


def _by_equations(layout: _Layout, tensors: Sequence[Any]) -> Outputs:
    data, hx, cx, batch_sizes, row_index, lengths, resets = tensors[:_SINGLE]
    masks = tensors[layout.weights_end :]
    if lengths is not None and masks:
        active = int(lengths.sum())
        masks = [mask[:active] for mask in masks]
    weights = tensors[_SINGLE : layout.weights_end]
    call = ops.Call(
        layout.spec,
        data,
        layout.batch_first,
        batch_sizes,
        row_index,
        lengths,
        resets,
        layout.states,
        list(masks),
    )
    return call.by_equations(data, hx, cx, weights, masks)


def _pulled_back_twice(
    layout: _Layout,
    tensors: Sequence[Any],
    d_outputs: Sequence[Tensor | None],
    d_gradients: Sequence[Tensor],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What ``d_gradients`` mean for ``d_outputs``, and for data, hx, cx and the weights."""
    given = [place for place in layout.trained if tensors[place] is not None]
    reached = [place for place, d_output in enumerate(d_outputs) if d_output is not None]
    wanted = [place for place, need in zip(layout.trained, layout.needed, strict=True) if need]

    def outputs(*inputs: Tensor) -> tuple[Any, ...]:
        everything = list(tensors)
        for place, tensor in zip(given, inputs, strict=True):
            everything[place] = tensor
        found = _by_equations(layout, everything)
        return tuple(found[place] for place in reached)

    def gradients(inputs: tuple[Tensor, ...], d_reached: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        _, pull_back = _vjp(outputs, *inputs)
        found = dict(zip(given, pull_back(d_reached), strict=True))
        return tuple(found[place] for place in wanted)

    inputs = tuple(tensors[place] for place in given)
    d_reached = tuple(d_outputs[place] for place in reached)
    _, pull_back = _vjp(gradients, inputs, d_reached)
    d_inputs, dd_outputs = pull_back(tuple(d_gradients))
    of_output = dict(zip(reached, dd_outputs, strict=True))
    of_input = dict(zip(given, d_inputs, strict=True))
    return [of_output.get(i) for i in range(5)], [of_input.get(i) for i in layout.trained]


# ---- transformations ----


class _Recurrence(torch.autograd.Function):
    """``recurrence_forward`` for ``torch.func``."""

    @staticmethod
    def forward(layout: _Layout, *tensors: Tensor | None) -> Any:
        return torch.ops.fastrnn.recurrence_forward(*layout.arguments(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        layout, *tensors = inputs
        ctx.mark_non_differentiable(output[-1])
        _save(ctx, layout, tensors, output[-1])

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        places = ctx.layout.trained
        layout = replace(ctx.layout, needed=tuple(needs[place] for place in places))
        found = iter(
            _RecurrenceBackward.apply(  # type: ignore[no-untyped-call]
                layout, kept, *_of_present(layout, tensors, d_outputs), *tensors
            )
        )
        of = {place: next(found) for place in places if needs[place]}
        return None, *(of.get(place) for place in range(len(tensors)))

    @staticmethod
    def vmap(info: Any, in_dims: Any, layout: _Layout, *tensors: Tensor | None) -> Any:
        V, dims = info.batch_size, in_dims[1:]
        apply: Any = _Recurrence.apply
        if _folds(layout, dims):
            wide, inputs = _folded(layout, V, dims, tensors)
            *outputs, kept = apply(wide, *inputs)
            axes = _row_axes_of_outputs(layout, _first_of(dims, tensors))
            outputs, out_dims = _unfolded(V, outputs, axes)
            return (*outputs, kept), (*out_dims, None)
        return _one_by_one(V, dims, tensors, lambda *one: apply(layout, *one))


class _RecurrenceBackward(torch.autograd.Function):
    """``recurrence_backward`` for ``torch.func``: the needed gradients alone."""

    @staticmethod
    def forward(layout: _Layout, kept: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
        d_outputs, inputs = tensors[:5], tensors[5:]
        arguments = layout.arguments(inputs)
        return tuple(
            torch.ops.fastrnn.recurrence_backward(kept, *d_outputs, layout.needed, *arguments)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        layout, _, *tensors = inputs
        ctx.layout = layout
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *d_gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout: _Layout = ctx.layout
        d_outputs, tensors = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        dd_outputs, d_inputs = _pulled_back_twice(layout, tensors, d_outputs, d_gradients)
        of = dict(zip(layout.trained, d_inputs, strict=True))
        return None, None, *dd_outputs, *(of.get(place) for place in range(len(tensors)))

    @staticmethod
    def vmap(info: Any, in_dims: Any, layout: _Layout, kept: Tensor, *tensors: Any) -> Any:
        V, of_kept, dims = info.batch_size, in_dims[1], in_dims[2:]
        apply: Any = _RecurrenceBackward.apply
        was_folded = of_kept is None and _folds(layout, dims[5:])
        if was_folded and any(layout.needed[3:]):
            return _one_by_one(V, dims, tensors, lambda *one: _from_the_start(layout, *one))
        if was_folded:
            first = _first_of(dims[5:], tensors[5:])
            axes = _row_axes_of_outputs(layout, first)
            d_outputs = [
                _spread(V, *entry) for entry in zip(tensors[:5], dims[:5], axes, strict=True)
            ]
            wide, inputs = _folded(layout, V, dims[5:], tensors[5:])
            gradients = apply(wide, kept, *d_outputs, *inputs)
            row_axes = _row_axes(layout, first)
            axes = [axis for axis, need in zip(row_axes, layout.needed, strict=False) if need]
            return _unfolded(V, gradients, axes)
        return _one_by_one(V, (of_kept, *dims), (kept, *tensors), lambda *one: apply(layout, *one))


def _from_the_start(layout: _Layout, *tensors: Any) -> Any:
    """The gradients of one sample whose forward pass was folded with those of the others."""
    d_outputs, inputs = tensors[:5], tensors[5:]
    *_, kept = _Recurrence.apply(layout, *inputs)  # type: ignore[no-untyped-call]
    return _RecurrenceBackward.apply(  # type: ignore[no-untyped-call]
        layout, kept, *d_outputs, *inputs
    )


def _folds(layout: _Layout, dims: Sequence[int | None]) -> bool:
    """Whether samples are rows of one larger batch: something is batched, and no weight is."""
    indices = dims[3:5]
    weights = dims[_SINGLE : layout.weights_end]
    apart = any(dim is not None for dim in (*indices, *weights))
    return not apart and any(dim is not None for dim in dims)


def _one_by_one(
    V: int, dims: Sequence[int | None], tensors: Sequence[Any], compute: Callable[..., Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    results = [
        compute(*(t if d is None else t.select(d, v) for t, d in zip(tensors, dims, strict=True)))
        for v in range(V)
    ]
    stacked = tuple(torch.stack(of_each) for of_each in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def _first_of(dims: Sequence[int | None], tensors: Sequence[Any]) -> list[Any]:
    """The first sample: what tells the shapes that every sample has."""
    return [t if d is None else t.select(d, 0) for t, d in zip(tensors, dims, strict=True)]


def _row_axes(layout: _Layout, tensors: Sequence[Any]) -> list[int]:
    """Where the rows of each tensor of a call stand, but for those of weights."""
    data, _, _, batch_sizes, _, lengths, _ = tensors[:_SINGLE]
    flat = data.dim() == 2
    of_data = 0 if flat or layout.batch_first else 1
    of_state = 0 if _is_single_step(data, batch_sizes) else 1
    of_mask = 0 if flat or lengths is not None else 1
    of_masks = [of_mask] * (len(tensors) - layout.weights_end)
    return [of_data, of_state, of_state, 0, 0, 0, 1, *[0] * layout.num_weights, *of_masks]


def _row_axes_of_outputs(layout: _Layout, tensors: Sequence[Any]) -> list[int | None]:
    """The same for y, h_n, c_n, h_all and c_all; None for one that there is not."""
    of_data, of_state, *_ = _row_axes(layout, tensors)
    axes = (of_data, of_state, of_state, 2, 2)
    shapes = layout.shapes(tensors)
    return [axis if shape is not None else None for axis, shape in zip(axes, shapes, strict=True)]


def _spread(V: int, tensor: Tensor | None, dim: int | None, axis: int | None) -> Tensor | None:
    """``tensor`` with the samples as neighbours of each row at ``axis``."""
    if tensor is None or axis is None:
        return tensor
    if dim is None:
        sizes = [-1] * (tensor.dim() + 1)
        sizes[axis + 1] = V
        return tensor.unsqueeze(axis + 1).expand(sizes).flatten(axis, axis + 1)
    return tensor.movedim(dim, axis + 1).flatten(axis, axis + 1)


def _folded(
    layout: _Layout, V: int, dims: Sequence[int | None], tensors: Sequence[Any]
) -> tuple[Any, ...]:
    """The layout and the tensors of one call for all samples: row b of sample v is row b V + v."""
    axes = _row_axes(layout, _first_of(dims, tensors))
    spread = [_spread(V, *entry) for entry in zip(tensors, dims, axes, strict=True)]
    spread[_SINGLE : layout.weights_end] = tensors[_SINGLE : layout.weights_end]
    batch_sizes, row_index = tensors[3:5]
    if batch_sizes is not None:
        spread[3] = batch_sizes * V
    if row_index is not None:
        spread[4] = (row_index[:, None] * V + torch.arange(V)).flatten()
    return replace(layout, batch=layout.batch * V), spread


def _unfolded(
    V: int, tensors: Sequence[Tensor], axes: Sequence[int | None]
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """The inverse of `_spread`, and where the samples stand in the results."""
    apart = tuple(
        tensor if axis is None else tensor.unflatten(axis, (-1, V))  # type: ignore[no-untyped-call]
        for tensor, axis in zip(tensors, axes, strict=True)
    )
    return apart, tuple(None if axis is None else axis + 1 for axis in axes)
