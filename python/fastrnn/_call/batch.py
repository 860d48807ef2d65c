"""The sizes of one call's tensors, and which rows it has at which step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .arguments import Arguments, Layout, is_single_step, present, steps_of
from .spec import Outputs, Spec
from .weights import shapes_of_weights

__all__ = ["Batch", "Memory"]


class Memory(NamedTuple):
    """What the tensors of a call have in common."""

    dtype: torch.dtype
    device: torch.device


class Batch:
    """What a call was laid out for; every tensor that the engine meets is held to it.

    Of ``data`` only what it looks like is kept. ``entries`` is B, for callers that know it where a
    packed batch tells it as a value.
    """

    def __init__(
        self,
        spec: Spec,
        data: Tensor,
        *,
        batch_first: bool = False,
        batch_sizes: Tensor | None = None,
        row_index: Tensor | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        states: bool = False,
        entries: int | None = None,
    ) -> None:
        self.spec = spec
        self.data_shape = data.shape
        self.memory = Memory(data.dtype, data.device)
        self.directions = spec.directions
        self.out = self.directions * spec.out
        self.has_cell_state = spec.has_cell_state
        self.batch_first = batch_first
        self.batch_sizes = batch_sizes
        self.row_index = row_index
        self.lengths = lengths
        # Backward reads them again, when the caller's rollout buffer may have been filled anew.
        self.resets = None if resets is None else _copied(resets, data.device)
        self.states = states
        self.packed = batch_sizes is not None
        self.single_step = is_single_step(data, batch_sizes)
        self.T = 1 if self.single_step else steps_of(data, batch_first, batch_sizes)
        if batch_sizes is not None:
            self.B = int(batch_sizes[0]) if entries is None else entries
        else:
            self.B = data.shape[0 if self.single_step or batch_first else 1]

    @classmethod
    def of(
        cls,
        spec: Spec,
        arguments: Arguments,
        *,
        batch_first: bool,
        states: bool,
        entries: int | None = None,
    ) -> Batch:
        """That of a call with these arguments."""
        return cls(
            spec,
            arguments.data,
            batch_first=batch_first,
            batch_sizes=arguments.batch_sizes,
            row_index=arguments.row_index,
            lengths=arguments.lengths,
            resets=arguments.resets,
            states=states,
            entries=entries,
        )

    @classmethod
    def laid_out(cls, layout: Layout, arguments: Arguments) -> Batch:
        """That of a call of an operator."""
        known = {"batch_first": layout.batch_first, "states": layout.states}
        return cls.of(layout.spec, arguments, **known, entries=layout.batch)

    @property
    def layout(self) -> Layout:
        """What an operator's call of the same would have besides its tensors."""
        count = len(shapes_of_weights(self.spec))
        return Layout(self.spec, self.B, self.batch_first, self.states, count)

    def in_falling_order(self) -> tuple[Tensor | None, Tensor | None]:
        """``batch_sizes`` [T] and ``row_index`` [B], of ``lengths`` as torch packs such a batch.

        Equal lengths come in the same order as there, so that dropout masks fall on the same rows.
        """
        if self.lengths is None:
            return self.batch_sizes, self.row_index
        _, row_index = torch.sort(self.lengths, descending=True)
        ended = torch.bincount(self.lengths, minlength=self.T + 1)[: self.T].cumsum(0)
        return len(self.lengths) - ended, row_index

    @property
    def rows(self) -> int:
        """Of all steps that there are."""
        if self.lengths is not None:
            return sum(self.lengths.tolist())  # which tracers do not record
        return int(self.data_shape[0]) if self.packed else self.T * self.B

    def rows_of_masks(self, by_entry: bool) -> tuple[int, ...]:
        """What a dropout mask is drawn for: rows in order of time, or steps and entries.

        ``by_entry``: the latter even for a batch with lengths.
        """
        if self.packed or (self.lengths is not None and not by_entry):
            return (self.rows,)
        return self.T, self.B

    @cached_property
    def state_shapes(self) -> list[tuple[int, ...]]:
        """Of h and c, which a single step has without a dimension of layers."""
        before = () if self.single_step else (self.spec.num_layers * self.directions,)
        return [(*before, self.B, width) for width in (*self.spec.widths, 0)[:2]]

    @cached_property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Of data, hx, cx and the weights."""
        return [tuple(self.data_shape), *self.state_shapes, *shapes_of_weights(self.spec)]

    @cached_property
    def output_shapes(self) -> Outputs:
        """None for an output that there is not, or that is y."""
        h, c = self.state_shapes
        h_all = c_all = None
        if self.states:
            h_all, c_all = ((*final[:1], self.T, *final[1:]) for final in (h, c))
        y = (*self.data_shape[:-1], self.out)
        return present(self.spec, self.states, self.single_step, (y, h, c, h_all, c_all))

    def new_outputs(self, data: Tensor, time_first: bool) -> Outputs:
        """Room for the outputs of a call with ``data``; ``time_first``: y lies as [T, B, D*K].

        With ``batch_first`` torch's layers return a view of such a y. What follows may go through
        memory as it lies, as a draw of random numbers does.
        """
        shape, *others = self.output_shapes
        swapped = time_first and self.batch_first and not (self.single_step or self.packed)
        strides = (self.out, self.B * self.out, 1)
        y = data.new_empty_strided(shape, strides) if swapped else data.new_empty(shape)
        return Outputs(y, *(None if own is None else data.new_empty(own) for own in others))

    def new_gradients(self, needed: Sequence[bool], make: Any = torch.empty) -> list[Any]:
        """Room for the gradients of data, hx, cx and the weights, None for one not needed."""
        dtype, device = self.memory
        return [
            make(shape, dtype=dtype, device=device) if need else None
            for shape, need in zip(self.input_shapes, needed, strict=True)
        ]


def _copied(resets: Tensor, device: torch.device) -> Tensor:
    return resets.to(device, copy=True, memory_format=torch.contiguous_format)
