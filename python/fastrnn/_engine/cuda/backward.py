"""The backward pass of a call on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Outputs
from ..._call.weights import each_direction
from ..addresses import rows_contiguous
from .engine import runs_of
from .passes import Pass
from .placement import Placement

__all__ = ["BackwardPass"]


@dataclass
class Side:
    """One direction of a layer in backward, and the tensors that its addresses point to."""

    of: Any
    w_hh: Any = None
    w_hr: Any = None
    c0: Any = None
    d_y: Any = None
    d_cell: Any = None
    d_h: Any = None
    d_c: Any = None
    d_pre: Any = None
    d_projected: Any = None
    h_prev: Any = None


class BackwardPass(Pass):
    """Layers from the last to the lowest that anyone asks about."""

    def __init__(
        self,
        placement: Placement,
        arguments: Arguments,
        kept: Tensor,
        d_outputs: Outputs,
        gradients: Sequence[Tensor | None],
    ) -> None:
        super().__init__(placement, arguments)
        self.h0, self.c0 = self.by_row(arguments.hx), self.by_row(arguments.cx)
        self.pieces = self.kept.in_block(kept)
        self.d_y, d_h_n, d_c_n, self.d_h_all, self.d_c_all = d_outputs
        self.d_h_n, self.d_c_n = self.by_row(d_h_n), self.by_row(d_c_n)
        self.d_data, self.d_hx, self.d_cx, *d_weights = gradients
        self.d_weights = each_direction(self.spec, d_weights)

    def by_row(self, state: Tensor | None) -> Tensor | None:
        """A state in the order of the rows, one direction after another without gaps."""
        ordered = self.placement.by_row(state)
        return None if ordered is None else ordered.resolve_neg().contiguous()

    def lowest_layer(self) -> int:
        if any(d is not None for d in (self.d_data, self.d_hx, self.d_cx)):
            return 0
        asked = [any(d is not None for d in w) for w in self.d_weights]
        return asked.index(True) // self.placement.directions

    def run(self) -> None:
        placement, lowest = self.placement, self.lowest_layer()
        above = None if self.d_y is None else rows_contiguous(self.d_y)
        for layer in range(self.spec.num_layers - 1, lowest - 1, -1):
            sides = [self.side(layer, d, above) for d in range(placement.directions)]
            initial = self.d_hx is not None or self.d_cx is not None
            self.engine.backward(
                self.precision,
                self.sequence,
                self.shape,
                initial,
                [side.of for side in sides],
                self.stream,
            )
            d_x = self.input_gradient(layer, sides, wanted=layer > lowest)
            for d, side in enumerate(sides):
                self.weight_gradients(layer, d, side)
            if layer > lowest and d_x is not None:
                dropped = placement.masked(layer - 1, d_x, self.masks)
                above = placement.like_data(dropped, self.data)

    def side(self, layer: int, d: int, above: Tensor | None) -> Side:
        placement, spec, data = self.placement, self.spec, self.data
        index = layer * placement.directions + d
        side = Side(self.engine.Backward())
        of, w, K = side.of, self.weights[index], self.out
        rows, H = self.kept.rows, spec.hidden_size

        runs = [w.w_hh[g * H : (g + n) * H] for _, g, n in self.hidden_runs()]
        side.w_hh = (runs[0] if len(runs) == 1 else torch.cat(runs)).t().contiguous()
        of.w_hh = side.w_hh.data_ptr()
        side.d_pre = data.new_empty((rows, self.layout.slots * H))
        of.d_pre = placement.at(side.d_pre, data)
        side.d_h = self.running(self.d_h_n, index, K)
        of.d_h = side.d_h.data_ptr()
        if self.h0 is not None:
            of.h0 = self.h0[index].data_ptr()
        of.gates = placement.at(self.pieces["gates", index], data)
        of.extra = placement.at(self.pieces.get(("extra", index)), data)
        of.y = placement.at(self.pieces["outputs", layer], data, d * K)
        side.d_y = self.output_gradient(index, d, above)
        of.d_y = placement.at(side.d_y, data)
        if self.d_weights[index].w_hh is not None:
            side.h_prev = data.new_empty((rows, K))
            of.h_prev = placement.at(side.h_prev, data)
        if placement.has_cell_state:
            self.add_cell_state(side, index)
        if spec.proj_size:
            side.w_hr = w.w_hr.t().contiguous()
            side.d_projected = data.new_empty((rows, K))
            of.w_hr = side.w_hr.data_ptr()
            of.d_projected = placement.at(side.d_projected, data)
        return side

    def add_cell_state(self, side: Side, index: int) -> None:
        placement, data, of = self.placement, self.data, side.of
        side.d_c = self.running(self.d_c_n, index, self.spec.hidden_size)
        of.d_c = side.d_c.data_ptr()
        of.cell = placement.at(self.pieces["cell", index], data)
        if self.c0 is not None:
            side.c0 = self.c0[index].to(self.sums)
            of.c0 = side.c0.data_ptr()
        if self.d_c_all is not None:
            side.d_cell = rows_contiguous(placement.gathered_states(self.d_c_all[index], data))
            of.d_cell = placement.at(side.d_cell, data)

    def running(self, final: Tensor | None, index: int, width: int) -> Tensor:
        """A running gradient, which starts as that of the final state."""
        running = self.data.new_zeros((self.placement.B, width), dtype=self.sums)
        return running if final is None else running.copy_(final[index])

    def output_gradient(self, index: int, d: int, above: Tensor | None) -> Tensor | None:
        """Of what one direction puts out: from above, and from the states after every step."""
        own = None if above is None else above[..., d * self.out : (d + 1) * self.out]
        if self.d_h_all is None:
            return own
        states = self.placement.gathered_states(self.d_h_all[index], self.data)
        return rows_contiguous(states if own is None else own + states)

    def hidden_runs(self) -> tuple[tuple[int, int, int], ...]:
        return runs_of(self.layout, self.layout.hidden_slot)

    def input_gradient(self, layer: int, sides: Sequence[Side], wanted: bool) -> Tensor | None:
        """Rows of the gradient of a layer's input, if anyone asks for it."""
        if wanted:
            d_x = self.data.new_empty((self.kept.rows, self.placement.out))
        elif layer == 0 and self.d_data is not None:
            d_x = self.d_data.view(-1, self.spec.input_size)
        else:
            return None
        H, first = self.spec.hidden_size, self.layout.input_slot
        for d, side in enumerate(sides):
            d_gates = side.d_pre[:, first * H : (first + self.layout.gates) * H]
            w_ih = self.weights[layer * self.placement.directions + d].w_ih
            if d == 0:
                torch.mm(d_gates, w_ih, out=d_x)
            else:
                d_x.addmm_(d_gates, w_ih)
        return d_x

    def layer_input(self, layer: int) -> Tensor:
        if layer == 0:
            return self.input_rows()
        below = self.pieces["outputs", layer - 1]
        return self.placement.masked(layer - 1, below, self.masks)

    def weight_gradients(self, layer: int, d: int, side: Side) -> None:
        index = layer * self.placement.directions + d
        own, H = self.d_weights[index], self.spec.hidden_size
        x: Any = None if own.w_ih is None else self.layer_input(layer)
        for first, operand, d_w, d_b in (
            (self.layout.input_slot, x, own.w_ih, own.b_ih),
            (self.layout.hidden_slot, side.h_prev, own.w_hh, own.b_hh),
        ):
            for slot, gate, count in runs_of(self.layout, first):
                d_gates = side.d_pre[:, slot * H : (slot + count) * H]
                places = slice(gate * H, (gate + count) * H)
                if d_w is not None:
                    torch.mm(d_gates.t(), operand, out=d_w[places])
                if d_b is not None:
                    torch.sum(d_gates, 0, out=d_b[places])
        if own.w_hr is not None:
            torch.mm(side.d_projected.t(), self.pieces["raw", index], out=own.w_hr)
        for d_state, running in ((self.d_hx, side.d_h), (self.d_cx, side.d_c)):
            if d_state is not None and running is not None:
                into = d_state if self.placement.single_step else d_state[index : index + 1]
                self.placement.by_entry(running[None], into)
