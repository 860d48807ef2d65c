"""The forward pass of a call on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Outputs
from .engine import multiply
from .passes import Block, Pass, address
from .placement import Placement

__all__ = ["ForwardPass"]


class ForwardPass(Pass):
    """Layers from the first to the last."""

    ROOM = 2**26  # bytes of the input's share of a direction, in inference

    def __init__(
        self, placement: Placement, arguments: Arguments, save: bool, size: int | None
    ) -> None:
        super().__init__(placement, arguments)
        self.h0 = self.ordered(arguments.hx, self.data.dtype)
        self.c0 = self.ordered(arguments.cx, self.sums)
        self.save = save
        self.block: Tensor | None = None
        if save:
            size = self.pieces.bytes(self.rows) if size is None else size
            self.block = self.data.new_empty(size, dtype=torch.uint8)
            self.kept = Block(self.pieces, self.block, self.rows)
        self.held: dict[tuple[str, int], Tensor] = {}  # of a layer, of what is not kept

    def piece(self, name: str, index: int) -> Tensor:
        """A tensor of rows: kept for backward, or the layer's own."""
        if self.save:
            return self.kept.piece(name, index)
        if (name, index) not in self.held:
            width, dtype = self.pieces.widths[name, index]
            # A layer's output is of all steps, the rest of those that a span has at the most.
            all_steps = name == "outputs" or len(self.spans) == 1
            rows = self.rows if all_steps else self.spans[0][1] * self.placement.B
            self.held[name, index] = self.data.new_empty((rows, width), dtype=dtype)
        return self.held[name, index]

    def address_of(self, name: str, index: int) -> int:
        """Where one lies; 0 for one that the cell has not, or nobody wants."""
        if self.save:
            return self.kept.address_of(name, index)
        wanted = name == "raw" or (name == "cell" and self.placement.states)
        if not wanted or (name, index) not in self.pieces.widths:
            return 0
        return self.piece(name, index).data_ptr()

    def run(self, outputs: Outputs) -> None:
        """Fill the outputs, as far as they are there."""
        placement, layers = self.placement, self.spec.num_layers
        y, h_n, c_n, h_all, c_all = outputs
        self.spans = self.spans_of_steps()
        self.h_n = None if h_n is None else self.running(h_n, self.out, self.data.dtype)
        self.c = None if c_n is None else self.running(c_n, self.spec.hidden_size, self.sums)
        sizes = placement.directions, 2, placement.B, self.out
        self.between = self.data.new_empty(sizes) if placement.T > 1 else None
        x = self.input_rows()
        for layer in range(layers):
            last = layer + 1 == layers
            reached = y if last and not self.save else self.piece("outputs", layer)
            self.run_layer(layer, x, reached)
            if h_all is not None:
                self.deliver_states(layer, reached.view(-1, placement.out), h_all, c_all)
            self.held.clear()
            if not last:
                x = placement.masked(layer, reached, self.masks)
            elif self.save:
                y.copy_(reached.view_as(y))  # what is kept stays as it is when the caller changes y
        self.deliver(self.h_n, h_n)
        self.deliver(self.c, c_n)

    def spans_of_steps(self) -> list[tuple[int, int]]:
        """Runs of steps (first, count) in the order of a direction.

        What is kept for backward, and batches whose rows differ, have one. Else the input's share
        of all steps, in float32, would be the largest tensor of a call.
        """
        placement = self.placement
        T, width = placement.T, self.layout.gates * self.spec.hidden_size
        if self.save or not placement.is_uniform:
            return [(0, T)]
        fit = max(1, self.ROOM // max(1, placement.B * width * self.sums.itemsize))
        return [(first, min(fit, T - first)) for first in range(0, T, fit)]

    def run_layer(self, layer: int, x: Tensor, reached: Tensor) -> None:
        """Fill what a layer puts out."""
        placement = self.placement
        one = len(self.spans) == 1
        ends = [self.h_n] if one else self.ends_of_spans()
        h0, c0 = self.h0, self.c0
        for (first, steps), h_n in zip(self.spans, ends, strict=True):
            sides = [
                self.side(layer, d, (x, reached), (first, steps), (h0, c0, h_n))
                for d in range(placement.directions)
            ]
            sequence = self.sequence if one else placement.span(steps)
            self.engine.forward(self.precision, sequence, self.shape, self.save, sides, self.stream)
            h0, c0 = h_n, self.c

    def ends_of_spans(self) -> list[Tensor | None]:
        """Where each of several spans leaves its hidden states: not where it found them."""
        count = self.spec.num_layers * self.placement.directions
        two = [self.data.new_empty((count, self.placement.B, self.out)) for _ in range(2)]
        return [*(two[number % 2] for number in range(len(self.spans) - 1)), self.h_n]

    def side(
        self,
        layer: int,
        d: int,
        ends: tuple[Tensor, Tensor],
        span: tuple[int, int],
        states: tuple[Tensor | None, Tensor | None, Tensor | None],
    ) -> Any:
        """One direction of a layer, with the input's share of a span of steps.

        ``ends``: the rows of what it takes, and what it fills. ``states``: h0, c0 and h_n.
        """
        placement, at, H = self.placement, self.placement.at, self.spec.hidden_size
        index = layer * placement.directions + d
        w, (x, reached), (h0, c0, h_n) = self.weights[index], ends, states
        gates = self.piece("gates", index)
        y, step, row = at(reached.data_ptr() + d * self.out * self.item, placement.out)
        first, steps = span
        if steps < placement.T:
            if placement.is_reversed(d):
                first = placement.T - first - steps
            x = placement.steps_of(placement.like_data(x, self.data), first, steps)
            x = x.reshape(-1, x.shape[-1])
            gates = gates[: len(x)]
            y += first * step * self.item
        multiply(x, w.w_ih.t(), gates)
        return self.engine.Forward(
            w.w_hh.data_ptr(),
            address(w.b_ih),
            address(w.b_hh),
            address(w.w_hr),
            address(h0, index),
            address(self.between, d),
            address(h_n, index),
            address(c0, index),
            address(self.c, index),
            at(gates.data_ptr(), self.layout.gates * H, steps),
            at(self.address_of("extra", index), H, steps),
            at(self.address_of("cell", index), H, steps),
            at(self.address_of("raw", index), H, steps),
            (y, step, row),
        )

    def deliver_states(
        self, layer: int, y: Tensor, h_all: Tensor | None, c_all: Tensor | None
    ) -> None:
        """A layer's states after every step, to the caller's tensors."""
        for d in range(self.placement.directions):
            index = layer * self.placement.directions + d
            if h_all is not None:
                own = y[:, d * self.out : (d + 1) * self.out]
                self.placement.spread_states(own, h_all[index], self.data)
            if c_all is not None:
                self.placement.spread_states(self.piece("cell", index), c_all[index], self.data)
