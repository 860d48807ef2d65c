"""The operator ``recurrence`` under ``torch.func``, in eager calls and in what a compiler traces.

Under ``vmap`` the samples become rows of one larger batch, a call for all of them, wherever they
share the weights. For that every call is brought into one form: single layers over padded batches,
with the states after every step, which the gradients of the weights for each sample need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._call.arguments import SINGLE, Arguments, Layout, present
from .derivatives import pulled_back, pulled_back_twice
from .forms import Form
from .per_sample import Samples, gradients, joined
from .saved import save_all, save_present, saved_by

__all__ = ["run"]

_ROWS = (1, 1, 1, None, None, 0, 1)
"""Where the rows of each tensor of a call stand, but for those of weights."""

_BEFORE = 7
"""Tensors of `_RecurrenceBackward` before those of the call: h_all, c_all, five of d_outputs."""

SAMPLES_AT_ONCE = 64
"""How many are computed anew at once: they fill the engine, and what is kept of them is bounded."""


def run(layout: Layout, arguments: Arguments) -> list[Tensor | None]:
    """The operators' outputs."""
    form = Form(layout, arguments)
    call: Any = _Recurrence.apply
    data, others = form.data, []
    for number in range(layout.spec.num_layers):
        layer, own = form.layer(number, data)
        data, *of_layer, _ = call(layer, *own.flat)
        others.append(of_layer if layout.states else of_layer[:2])
        data = form.dropped(number, data)
    return form.as_given(data, [joined(each) for each in zip(*others, strict=True)])


class _Recurrence(torch.autograd.Function):
    """``recurrence_forward`` for ``torch.func``."""

    @staticmethod
    def forward(layout: Layout, *tensors: Tensor | None) -> Any:
        return torch.ops.fastrnn.recurrence_forward(*layout.of_operator(layout.named(tensors)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        layout, *tensors = inputs
        *_, h_all, c_all, kept = output
        ctx.mark_non_differentiable(kept)
        save_all(ctx, layout, [h_all, c_all, *tensors], kept)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, h_all, c_all, *tensors = saved_by(ctx)
        needs = ctx.needs_input_grad[1:]
        places = ctx.layout.trained
        layout = replace(ctx.layout, needed=tuple(needs[place] for place in places))
        found = iter(
            _RecurrenceBackward.apply(  # type: ignore[no-untyped-call]
                layout, kept, h_all, c_all, *present(layout.spec, True, False, d_outputs), *tensors
            )
        )
        of = {place: next(found) for place in places if needs[place]}
        return None, *(of.get(place) for place in range(len(tensors)))

    @staticmethod
    def vmap(info: Any, in_dims: Any, layout: Layout, *tensors: Tensor | None) -> Any:
        V, dims = info.batch_size, in_dims[1:]
        apply: Any = _Recurrence.apply
        if _folds(layout, dims):
            wide, inputs = _folded(layout, V, dims, tensors)
            *outputs, kept = apply(wide, *inputs)
            outputs, out_dims = _unfolded(V, outputs, _rows_of_outputs(layout))
            return (*outputs, kept), (*out_dims, None)
        return _one_by_one(V, dims, tensors, lambda *one: apply(layout, *one))


class _RecurrenceBackward(torch.autograd.Function):
    """``recurrence_backward`` for ``torch.func``: the needed gradients alone.

    What comes of the states matters only to the gradients of weights for each sample.
    """

    @staticmethod
    def forward(
        layout: Layout, kept: Tensor, h_all: Tensor, c_all: Tensor, *tensors: Any
    ) -> tuple[Tensor, ...]:
        d_outputs, inputs = tensors[:5], tensors[5:]
        arguments = layout.of_operator(layout.named(inputs))
        return tuple(
            torch.ops.fastrnn.recurrence_backward(kept, *d_outputs, layout.needed, *arguments)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        layout, _, _, _, *tensors = inputs
        ctx.layout = layout
        save_present(ctx, tensors)

    @staticmethod
    def backward(ctx: Any, *d_gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        saved = saved_by(ctx)
        d_outputs, tensors = saved[:5], saved[5:]
        arguments = layout.named(tensors)
        dd_outputs, d_inputs = pulled_back_twice(layout, arguments, d_outputs, d_gradients)
        of = dict(zip(layout.trained, d_inputs, strict=True))
        return *[None] * 4, *dd_outputs, *(of.get(place) for place in range(len(tensors)))

    @staticmethod
    def vmap(info: Any, in_dims: Any, layout: Layout, kept: Tensor, *tensors: Any) -> Any:
        V, of_kept, dims = info.batch_size, in_dims[1], in_dims[2:]
        apply: Any = _RecurrenceBackward.apply
        if of_kept is None and all(dim is None for dim in dims[_BEFORE:]):
            return _anew(V, dims, layout, tensors)
        if of_kept is not None or not _folds(layout, dims[_BEFORE:]):
            everything = (of_kept, *dims), (kept, *tensors)
            # What was kept is laid out from where memory is aligned, as a copy of its own is.
            return _one_by_one(V, *everything, lambda k, *one: apply(layout, k.clone(), *one))
        if any(layout.needed[3:]) and layout.spec.program is not None:
            return _by_equations(dims, layout, tensors)
        rows = _rows_of_outputs(layout)
        axes = (*rows[3:], *rows)
        before: list[Any] = [_spread(V, *e) for e in zip(tensors, dims, axes, strict=False)]
        wide, inputs = _folded(layout, V, dims[_BEFORE:], tensors[_BEFORE:])

        def pull_back(layout: Layout, inputs: Sequence[Any]) -> Any:
            return apply(layout, kept, *before, *inputs)

        if any(layout.needed[3:]):
            h_all, c_all, *d_outputs = before
            samples = Samples(wide, V, wide.named(inputs), h_all, c_all, d_outputs)
            found = gradients(samples, lambda layout, own: pull_back(layout, own.flat))
        else:
            found = pull_back(wide, inputs)
        of_rows = [row for row, need in zip(_ROWS, layout.needed[:3], strict=False) if need]
        apart, out_dims = _unfolded(V, found[: len(of_rows)], of_rows)
        of_weights = found[len(of_rows) :]
        return (*apart, *of_weights), (*out_dims, *[0] * len(of_weights))


def _anew(V: int, dims: Sequence[int | None], layout: Layout, tensors: Sequence[Any]) -> Any:
    """The rule for one call and many ``d_outputs``: the call once more, as rows of larger ones.

    What was kept is of one sample, and reading it for each would be a small call for each.
    """
    of_outputs = slice(_BEFORE - 5, _BEFORE)
    data, *others = tensors[_BEFORE:]
    forward: Any = _Recurrence.apply
    backward: Any = _RecurrenceBackward.apply

    def gradients(data: Tensor, *d_outputs: Tensor | None) -> Any:
        *_, h_all, c_all, kept = forward(layout, data, *others)
        return backward(layout, kept, h_all, c_all, *d_outputs, data, *others)

    mapped = torch.func.vmap(gradients, in_dims=(0, *dims[of_outputs]), chunk_size=SAMPLES_AT_ONCE)
    found = mapped(data.expand(V, *data.shape), *tensors[of_outputs])
    return found, (0,) * len(found)


def _by_equations(dims: Sequence[int | None], layout: Layout, tensors: Sequence[Any]) -> Any:
    """The rule for weights of a program, whose gradients for each sample the engine has not."""
    of_outputs = slice(_BEFORE - 5, _BEFORE)

    def gradients(d_outputs: Sequence[Any], flat: Sequence[Any]) -> Any:
        return pulled_back(layout, layout.named(flat), d_outputs)

    mapped = torch.func.vmap(gradients, in_dims=(tuple(dims[of_outputs]), tuple(dims[_BEFORE:])))
    found = mapped(tuple(tensors[of_outputs]), tuple(tensors[_BEFORE:]))
    return found, (0,) * len(found)


def _folds(layout: Layout, dims: Sequence[int | None]) -> bool:
    """Whether samples are rows of one larger batch: something is batched, and no weight is."""
    apart = any(dim is not None for dim in dims[SINGLE : layout.weights_end])
    return not apart and any(dim is not None for dim in dims)


def _rows_of_outputs(layout: Layout) -> tuple[int | None, ...]:
    """Where the rows of y, h_n, c_n, h_all and c_all stand; None for one that there is not."""
    return (1, 1, 1, 2, 2) if layout.spec.has_cell_state else (1, 1, None, 2, None)


def _one_by_one(
    V: int, dims: Sequence[int | None], tensors: Sequence[Any], compute: Callable[..., Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    results = [
        compute(*(t if d is None else t.select(d, v) for t, d in zip(tensors, dims, strict=True)))
        for v in range(V)
    ]
    stacked = tuple(torch.stack(of_each) for of_each in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def _spread(V: int, tensor: Tensor | None, dim: int | None, axis: int | None) -> Tensor | None:
    """``tensor`` with the samples as neighbours of each row at ``axis``."""
    if tensor is None or axis is None:
        return tensor
    if dim is None:
        sizes = [-1] * (tensor.dim() + 1)
        sizes[axis + 1] = V
        return tensor.unsqueeze(axis + 1).expand(sizes).flatten(axis, axis + 1)
    return tensor.movedim(dim, axis + 1).flatten(axis, axis + 1).contiguous()


def _folded(
    layout: Layout, V: int, dims: Sequence[int | None], tensors: Sequence[Any]
) -> tuple[Layout, list[Any]]:
    """The layout and the tensors of one call for all samples: row b of sample v is row b V + v."""
    axes = (*_ROWS, *[None] * layout.num_weights)
    spread = [_spread(V, *entry) for entry in zip(tensors, dims, axes, strict=True)]
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
