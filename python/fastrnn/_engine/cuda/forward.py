"""The forward pass of a call on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Outputs
from .engine import multiply
from .passes import Pass
from .placement import Placement

__all__ = ["ForwardPass"]


class ForwardPass(Pass):
    """Layers from the first to the last."""

    ROOM = 2**26  # bytes of the input's share of a direction, in inference

    def __init__(
        self, placement: Placement, arguments: Arguments, save: bool, size: int | None
    ) -> None:
        super().__init__(placement, arguments)
        self.h0, self.c0 = placement.by_row(arguments.hx), placement.by_row(arguments.cx)
        self.save = save
        self.block: Tensor | None = None
        self.pieces: dict[tuple[str, int], Tensor] = {}
        if save:
            size = self.kept.bytes if size is None else size
            self.block = self.data.new_empty(size, dtype=torch.uint8)
            self.pieces = self.kept.in_block(self.block)

    def piece(self, name: str, index: int) -> Tensor:
        """A tensor of rows: kept for backward, or the layer's own."""
        if self.save:
            return self.pieces[name, index]
        return self.room(name, index, self.kept.rows)

    def room(self, name: str, index: int, rows: int) -> Tensor:
        """A tensor of some rows as those of a piece."""
        width, dtype = self.kept.pieces[name, index]
        return self.data.new_empty((rows, width), dtype=dtype)

    def run(self, outputs: Outputs) -> None:
        """Fill the outputs, as far as they are there."""
        placement, layers = self.placement, self.spec.num_layers
        y, h_n, c_n, h_all, c_all = outputs
        finals: list[Side] = []
        x = self.input_rows()
        for layer in range(layers):
            last = layer + 1 == layers
            if last and not self.save:
                reached = y
            else:
                reached = placement.like_data(self.piece("outputs", layer), self.data)
            sides = self.run_layer(layer, x, reached)
            finals += sides
            rows = reached.view(-1, placement.out)
            self.deliver_states(layer, rows, sides, h_all, c_all)
            if last and self.save:
                y.copy_(reached)  # what is kept stays as it is when the caller changes y
            elif not last:
                x = placement.masked(layer, rows, self.masks)
        if h_n is not None:
            placement.stacked([side.h[placement.T % 2] for side in finals], h_n)
        if c_n is not None:
            placement.stacked([side.c for side in finals], c_n)

    def run_layer(self, layer: int, x: Tensor, y: Tensor) -> list[Side]:
        """Fill ``y``; what else the layer leaves is in the sides."""
        sides = [self.side(layer, d, y) for d in range(self.placement.directions)]
        spans = self.spans()
        for first, steps in spans:
            for d, side in enumerate(sides):
                if len(spans) == 1:
                    self.project(layer, d, side, x)
                else:
                    self.project_span(layer, d, side, x, y, first, steps)
            sequence = self.sequence if len(spans) == 1 else self.placement.span(steps)
            self.engine.forward(
                self.precision,
                sequence,
                self.shape,
                self.save,
                [side.of for side in sides],
                self.stream,
            )
        return sides

    def spans(self) -> list[tuple[int, int]]:
        """Runs of steps (first, count) in the order of a direction; all but the last are even.

        What is kept for backward, and batches whose rows differ, have one. Else the input's share
        of all steps, in float32, would be the largest tensor of a call.
        """
        placement = self.placement
        T, width = placement.T, self.layout.gates * self.spec.hidden_size
        fit = self.ROOM // max(1, placement.B * width * self.sums.itemsize)
        if self.save or fit >= T or not placement.is_uniform:
            return [(0, T)]
        count = max(2, fit - fit % 2)
        return [(first, min(count, T - first)) for first in range(0, T, count)]

    def project(self, layer: int, d: int, side: Side, x: Tensor) -> None:
        """The input's share of all steps."""
        placement, data = self.placement, self.data
        index = layer * placement.directions + d
        side.gates = self.piece("gates", index)
        multiply(x, self.weights[index].w_ih.t(), side.gates)
        side.of.gates = placement.at(side.gates, data)
        if self.spec.proj_size:
            side.raw = self.piece("raw", index)
            side.of.raw = placement.at(side.raw, data)

    def project_span(
        self, layer: int, d: int, side: Side, x: Tensor, y: Tensor, first: int, steps: int
    ) -> None:
        """The same of some steps, and where in ``y`` they lie."""
        placement, data = self.placement, self.data
        index = layer * placement.directions + d
        if placement.is_reversed(d):
            first = placement.T - first - steps
        part = placement.steps_of(placement.like_data(x, data), first, steps)
        rows = part.reshape(-1, part.shape[-1])
        if side.gates is None or len(side.gates) != len(rows):
            side.gates, side.raw = self.room("gates", index, len(rows)), None
            if self.spec.proj_size:
                side.raw = self.room("raw", index, len(rows))
        multiply(rows, self.weights[index].w_ih.t(), side.gates)
        side.of.gates = placement.at(placement.like_data(side.gates, part), data)
        if side.raw is not None:
            side.of.raw = placement.at(placement.like_data(side.raw, part), data)
        own = placement.steps_of(y, first, steps)
        side.of.y = placement.at(own, data, d * self.out)

    def side(self, layer: int, d: int, y: Tensor) -> Side:
        placement, data = self.placement, self.data
        index = layer * placement.directions + d
        w = self.weights[index]
        side = Side(self.engine.Forward())
        of = side.of
        side.h = data.new_zeros((2, placement.B, self.out))
        if self.h0 is not None:
            side.h[0].copy_(self.h0[index])
        of.h, of.y = side.h.data_ptr(), placement.at(y, data, d * self.out)
        of.w_hh = w.w_hh.data_ptr()
        of.b_ih, of.b_hh = self.address(w.b_ih), self.address(w.b_hh)
        if self.save and ("extra", index) in self.kept.pieces:
            of.extra = placement.at(self.piece("extra", index), data)
        if placement.has_cell_state:
            self.add_cell_state(side, index)
        if self.spec.proj_size:
            of.w_hr = w.w_hr.data_ptr()
        return side

    def add_cell_state(self, side: Side, index: int) -> None:
        placement = self.placement
        side.c = self.data.new_zeros((placement.B, self.spec.hidden_size), dtype=self.sums)
        if self.c0 is not None:
            side.c.copy_(self.c0[index])
        side.of.c = side.c.data_ptr()
        if self.save or placement.states:
            side.cell = self.piece("cell", index)
            side.of.cell = placement.at(side.cell, self.data)

    def deliver_states(
        self,
        layer: int,
        y: Tensor,
        sides: Sequence[Side],
        h_all: Tensor | None,
        c_all: Tensor | None,
    ) -> None:
        """A layer's states after every step, to the caller's tensors."""
        for d, side in enumerate(sides):
            index = layer * self.placement.directions + d
            if h_all is not None:
                own = y[:, d * self.out : (d + 1) * self.out]
                self.placement.spread_states(own, h_all[index], self.data)
            if c_all is not None:
                self.placement.spread_states(side.cell, c_all[index], self.data)


@dataclass
class Side:
    """One direction of a layer, and the tensors that its addresses point to."""

    of: Any
    gates: Any = None
    raw: Any = None
    cell: Any = None
    h: Any = None
    c: Any = None
