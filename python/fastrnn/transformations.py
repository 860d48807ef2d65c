"""What ``torch.func`` takes instead of the operators, which cannot be transformed more than once.

Under ``vmap`` the samples become rows of one larger batch, a call for all of them, wherever they
share the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from . import samples
from .derivatives import pulled_back_twice
from .layout import SINGLE, Layout, is_single_step, of_present, save

__all__ = ["run"]


def run(layout: Layout, tensors: Sequence[Any]) -> Sequence[Any]:
    """The operators' outputs.

    A stack whose weights are to be trained is called layer by layer: only then the gradients of its
    weights for each sample come from one call for all samples.
    """
    call: Any = _Recurrence.apply
    ragged = any(tensor is not None for tensor in tensors[3:6])
    weights = tensors[SINGLE : layout.weights_end]
    if layout.spec.num_layers == 1 or ragged or not any(w.requires_grad for w in weights):
        outputs: Sequence[Tensor] = call(layout, *tensors)
        return outputs
    data, *states = tensors[:3]
    count = len(weights) // layout.spec.num_layers
    of_layers = []
    for number in range(layout.spec.num_layers):
        spec = replace(layout.spec, input_size=data.shape[-1], num_layers=1, dropout=0.0)
        layer = replace(layout, spec=spec, num_weights=count)
        own_states = _of_layer(states, number, 2 if spec.bidirectional else 1)
        own_weights = weights[number * count : (number + 1) * count]
        own = (data, *own_states, *tensors[3:SINGLE], *own_weights)
        data, *others = of_present(layer, own, call(layer, *own))
        of_layers.append(others)
        if masks := tensors[layout.weights_end + number :]:
            data = data * (masks[0].transpose(0, 1) if layout.batch_first else masks[0])
    of_all = zip(*of_layers, strict=True)
    return [data, *(None if each[0] is None else torch.cat(each) for each in of_all)]


def _of_layer(states: Sequence[Tensor | None], number: int, directions: int) -> list[Tensor | None]:
    own = slice(number * directions, (number + 1) * directions)
    return [None if state is None else state[own] for state in states]


class _Recurrence(torch.autograd.Function):
    """``recurrence_forward`` for ``torch.func``."""

    @staticmethod
    def forward(layout: Layout, *tensors: Tensor | None) -> Any:
        return torch.ops.fastrnn.recurrence_forward(*layout.arguments(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        layout, *tensors = inputs
        y, *_, kept = output
        ctx.mark_non_differentiable(kept)
        save(ctx, layout, [y, *tensors], kept)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, y, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        places = ctx.layout.trained
        layout = replace(ctx.layout, needed=tuple(needs[place] for place in places))
        found = iter(
            _RecurrenceBackward.apply(  # type: ignore[no-untyped-call]
                layout, kept, y, *of_present(layout, tensors, d_outputs), *tensors
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
            axes = _row_axes_of_outputs(layout, _first_of(dims, tensors))
            outputs, out_dims = _unfolded(V, outputs, axes)
            return (*outputs, kept), (*out_dims, None)
        return _one_by_one(V, dims, tensors, lambda *one: apply(layout, *one))


class _RecurrenceBackward(torch.autograd.Function):
    """``recurrence_backward`` for ``torch.func``: the needed gradients alone.

    What comes of y matters only to the gradients of weights for each sample.
    """

    @staticmethod
    def forward(layout: Layout, kept: Tensor, y: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
        d_outputs, inputs = tensors[:5], tensors[5:]
        arguments = layout.arguments(inputs)
        return tuple(
            torch.ops.fastrnn.recurrence_backward(kept, *d_outputs, layout.needed, *arguments)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        layout, _, _, *tensors = inputs
        ctx.layout = layout
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *d_gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        d_outputs, tensors = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        dd_outputs, d_inputs = pulled_back_twice(layout, tensors, d_outputs, d_gradients)
        of = dict(zip(layout.trained, d_inputs, strict=True))
        return None, None, None, *dd_outputs, *(of.get(place) for place in range(len(tensors)))

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, layout: Layout, kept: Tensor, y: Tensor, *tensors: Any
    ) -> Any:
        V, of_kept, of_y, dims = info.batch_size, in_dims[1], in_dims[2], in_dims[3:]
        apply: Any = _RecurrenceBackward.apply
        if of_kept is not None or not _folds(layout, dims[5:]):
            everything = (of_kept, of_y, *dims), (kept, y, *tensors)
            return _one_by_one(V, *everything, lambda *one: apply(layout, *one))
        with_weights = any(layout.needed[3:])
        if with_weights and not samples.are_served(layout, tensors[5:]):
            return _one_by_one(V, dims, tensors, lambda *one: _from_the_start(layout, *one))
        first = _first_of(dims[5:], tensors[5:])
        axes = _row_axes_of_outputs(layout, first)
        d_outputs = [_spread(V, *entry) for entry in zip(tensors[:5], dims[:5], axes, strict=True)]
        wide_y: Any = _spread(V, y, of_y, axes[0])
        wide, inputs = _folded(layout, V, dims[5:], tensors[5:])

        def pull_back(layout: Layout, inputs: Sequence[Any]) -> Any:
            return apply(layout, kept, wide_y, *d_outputs, *inputs)

        if with_weights:
            gradients = samples.gradients(wide, V, wide_y, inputs, pull_back)
        else:
            gradients = pull_back(wide, inputs)
        row_axes = _row_axes(layout, first)[:3]
        axes = [axis for axis, need in zip(row_axes, layout.needed, strict=False) if need]
        of_rows, out_dims = _unfolded(V, gradients[: len(axes)], axes)
        of_weights = gradients[len(axes) :]
        return (*of_rows, *of_weights), (*out_dims, *(0 for _ in of_weights))


def _from_the_start(layout: Layout, *tensors: Any) -> Any:
    """The gradients of one sample whose forward pass was folded with those of the others."""
    d_outputs, inputs = tensors[:5], tensors[5:]
    y, *_, kept = _Recurrence.apply(layout, *inputs)  # type: ignore[no-untyped-call]
    return _RecurrenceBackward.apply(  # type: ignore[no-untyped-call]
        layout, kept, y, *d_outputs, *inputs
    )


def _folds(layout: Layout, dims: Sequence[int | None]) -> bool:
    """Whether samples are rows of one larger batch: something is batched, and no weight is."""
    indices = dims[3:5]
    weights = dims[SINGLE : layout.weights_end]
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


def _row_axes(layout: Layout, tensors: Sequence[Any]) -> list[int]:
    """Where the rows of each tensor of a call stand, but for those of weights."""
    data, _, _, batch_sizes, _, lengths, _ = tensors[:SINGLE]
    flat = data.dim() == 2
    of_data = 0 if flat or layout.batch_first else 1
    of_state = 0 if is_single_step(data, batch_sizes) else 1
    of_mask = 0 if flat or lengths is not None else 1
    of_masks = [of_mask] * (len(tensors) - layout.weights_end)
    return [of_data, of_state, of_state, 0, 0, 0, 1, *[0] * layout.num_weights, *of_masks]


def _row_axes_of_outputs(layout: Layout, tensors: Sequence[Any]) -> list[int | None]:
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
    layout: Layout, V: int, dims: Sequence[int | None], tensors: Sequence[Any]
) -> tuple[Any, ...]:
    """The layout and the tensors of one call for all samples: row b of sample v is row b V + v."""
    axes = _row_axes(layout, _first_of(dims, tensors))
    spread = [_spread(V, *entry) for entry in zip(tensors, dims, axes, strict=True)]
    spread[SINGLE : layout.weights_end] = tensors[SINGLE : layout.weights_end]
    batch_sizes, row_index = tensors[3:5]
    if batch_sizes is not None:
        spread[3] = batch_sizes * V
    if row_index is not None:
        spread[4] = (row_index[:, None] * V + torch.arange(V, device=row_index.device)).flatten()
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
