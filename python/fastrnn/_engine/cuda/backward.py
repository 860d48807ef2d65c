"""The backward pass of a call on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._call.arguments import Arguments
from ..._call.spec import Outputs
from ..._call.weights import each_direction
from ..addresses import rows_contiguous
from .passes import Block, Pass, address
from .placement import Placement

__all__ = ["BackwardPass"]


class Side(NamedTuple):
    """What one direction of a layer leaves for torch's products: rows of all steps."""

    d_pre: Tensor
    h_prev: Tensor | None
    d_projected: Tensor | None


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
        dtype, H = self.data.dtype, self.spec.hidden_size
        self.h0, self.c0 = self.ordered(arguments.hx, dtype), self.ordered(arguments.cx, self.sums)
        self.kept = Block(self.pieces, kept, self.rows)
        self.d_y, d_h_n, d_c_n, self.d_h_all, self.d_c_all = d_outputs
        self.d_h_n, self.d_c_n = self.ordered(d_h_n, self.sums), self.ordered(d_c_n, self.sums)
        self.d_data, self.d_hx, self.d_cx, *d_weights = gradients
        self.d_weights = each_direction(self.spec, d_weights)
        self.d_h = self.running(self.d_hx, self.out, self.sums)
        self.d_c = self.running(self.d_cx, H, self.sums) if placement.has_cell_state else None

    def lowest_layer(self) -> int:
        if any(d is not None for d in (self.d_data, self.d_hx, self.d_cx)):
            return 0
        asked = [any(d is not None for d in w) for w in self.d_weights]
        return asked.index(True) // self.placement.directions

    def run(self) -> None:
        placement, lowest = self.placement, self.lowest_layer()
        above = None if self.d_y is None else rows_contiguous(self.d_y)
        initial = self.d_hx is not None or self.d_cx is not None
        for layer in range(self.spec.num_layers - 1, lowest - 1, -1):
            sides = self.run_layer(layer, above, initial)
            d_x = self.input_gradient(layer, sides, wanted=layer > lowest)
            for d, side in enumerate(sides):
                self.weight_gradients(layer, d, side)
            if layer > lowest and d_x is not None:
                dropped = placement.masked(layer - 1, d_x, self.masks)
                above = placement.like_data(dropped, self.data)
        self.deliver(self.d_h, self.d_hx)
        self.deliver(self.d_c, self.d_cx)

    def run_layer(self, layer: int, above: Tensor | None, initial: bool) -> list[Side]:
        """The recurrence; ``above`` is the gradient of what the layer puts out."""
        sides, addresses, held = [], [], []
        for d in range(self.placement.directions):
            index = layer * self.placement.directions + d
            own = self.weights_of_step(index)
            of_y = self.output_gradient(index, d, above)
            of_cell = self.cell_gradient(index)
            side = self.side(index)
            sides.append(side)
            addresses.append(self.addresses(layer, d, side, own, (of_y, of_cell)))
            held += [*own, of_y, of_cell]  # until their addresses are with the device
        self.engine.backward(
            self.precision, self.sequence, self.shape, initial, addresses, self.stream
        )
        return sides

    def weights_of_step(self, index: int) -> tuple[Tensor, Tensor | None]:
        """W_hh, its gates in the order of the slots, and W_hr; transposed."""
        w = self.weights[index]
        turned = self.turned(self.layout.hidden_slot)
        w_hh = torch.roll(w.w_hh, -turned, 0) if turned else w.w_hh
        return w_hh.t().contiguous(), None if w.w_hr is None else w.w_hr.t().contiguous()

    def side(self, index: int) -> Side:
        """Room for what the recurrence leaves."""
        make, rows, K = self.data.new_empty, self.rows, self.out
        return Side(
            make((rows, self.layout.slots * self.spec.hidden_size)),
            None if self.d_weights[index].w_hh is None else make((rows, K)),
            make((rows, K)) if self.spec.proj_size else None,
        )

    def addresses(
        self,
        layer: int,
        d: int,
        side: Side,
        weights: tuple[Tensor, Tensor | None],
        of_outputs: tuple[Tensor | None, Tensor | None],
    ) -> Any:
        placement, kept, at = self.placement, self.kept, self.placement.at
        index = layer * placement.directions + d
        H, K = self.spec.hidden_size, self.out
        w_hh, w_hr = weights
        d_y, d_cell = of_outputs
        return self.engine.Backward(
            w_hh.data_ptr(),
            address(w_hr),
            address(self.h0, index),
            address(self.c0, index),
            address(self.d_h_n, index),
            address(self.d_h, d if self.d_hx is None else index),
            address(self.d_c_n, index),
            address(self.d_c, d if self.d_cx is None else index),
            at(kept.address_of("gates", index), self.layout.gates * H),
            at(kept.address_of("extra", index), H),
            at(kept.address_of("cell", index), H),
            at(kept.address_of("outputs", layer) + d * K * self.item, placement.out),
            placement.at_own(d_y),
            placement.at_own(d_cell),
            at(side.d_pre.data_ptr(), self.layout.slots * H),
            at(address(side.d_projected), K),
            at(address(side.h_prev), K),
        )

    def cell_gradient(self, index: int) -> Tensor | None:
        """Of the cell states after every step."""
        if self.d_c_all is None:
            return None
        return rows_contiguous(self.placement.gathered_states(self.d_c_all[index], self.data))

    def output_gradient(self, index: int, d: int, above: Tensor | None) -> Tensor | None:
        """Of what one direction puts out: from above, and from the states after every step."""
        own = None if above is None else above[..., d * self.out : (d + 1) * self.out]
        if self.d_h_all is None:
            return own
        states = self.placement.gathered_states(self.d_h_all[index], self.data)
        return rows_contiguous(states if own is None else own + states)

    def input_gradient(self, layer: int, sides: Sequence[Side], wanted: bool) -> Tensor | None:
        """Rows of the gradient of a layer's input, if anyone asks for it."""
        if wanted:
            d_x = self.data.new_empty((self.rows, self.placement.out))
        elif layer == 0 and self.d_data is not None:
            d_x = self.d_data.view(-1, self.spec.input_size)
        else:
            return None
        first, gates = self.layout.input_slot, self.layout.gates
        for d, side in enumerate(sides):
            d_gates = self.columns(side.d_pre, first, gates)
            w_ih = self.weights[layer * self.placement.directions + d].w_ih
            if d == 0:
                torch.mm(d_gates, w_ih, out=d_x)
            else:
                d_x.addmm_(d_gates, w_ih)
        return d_x

    def columns(self, d_pre: Tensor, slot: int, count: int) -> Tensor:
        """Those of some slots."""
        if count == self.layout.slots:
            return d_pre
        H = self.spec.hidden_size
        return d_pre[:, slot * H : (slot + count) * H]

    def layer_input(self, layer: int) -> Tensor:
        if layer == 0:
            return self.input_rows()
        below = self.kept.piece("outputs", layer - 1)
        return self.placement.masked(layer - 1, below, self.masks)

    def weight_gradients(self, layer: int, d: int, side: Side) -> None:
        index = layer * self.placement.directions + d
        own, layout = self.d_weights[index], self.layout
        x: Any = None if own.w_ih is None else self.layer_input(layer)
        h_prev: Any = side.h_prev
        known = own.b_ih if layout.input_slot == layout.hidden_slot else None  # of both biases
        for first, operand, d_w, d_b, d_b_known in (
            (layout.input_slot, x, own.w_ih, own.b_ih, None),
            (layout.hidden_slot, h_prev, own.w_hh, own.b_hh, known),
        ):
            d_gates = self.columns(side.d_pre, first, layout.gates)
            if d_w is not None:
                self.fill(d_w, first, torch.mm, d_gates.t(), operand)
            if d_b is not None and d_b_known is not None:
                d_b.copy_(d_b_known)
            elif d_b is not None:
                self.fill(d_b, first, torch.sum, d_gates, 0)
        if own.w_hr is not None:
            d_projected: Any = side.d_projected
            torch.mm(d_projected.t(), self.kept.piece("raw", index), out=own.w_hr)

    def fill(self, gradient: Tensor, first: int, compute: Any, *operands: Any) -> None:
        """With what ``compute`` makes of the slots from ``first`` on, in the order of the gates."""
        turned = self.turned(first)
        if turned:
            gradient.copy_(torch.roll(compute(*operands), turned, 0))
        else:
            compute(*operands, out=gradient)

    def turned(self, first: int) -> int:
        """By how many rows the gates from slot ``first`` on are turned from torch's order."""
        return self.layout.gate_of_slot[first] * self.spec.hidden_size
