"""Layers and single steps of torch's cells as ONNX's own LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._call.spec import CELLS
from .._call.weights import Weights
from ..variants import own_activation
from .onnx_export import Export, Reached
from .onnx_layout import PEEPHOLES, activations_to_onnx, rows_in_onnx

__all__ = ["OfOperators"]

_INT32 = 6  # of onnx.TensorProto.DataType


class OfOperators(Export):
    """A node for each layer, whose directions it has."""

    @property
    def name(self) -> str:
        return CELLS[self.spec.cell].kind  # ONNX's names are torch's

    def lacking(self) -> dict[str, bool]:
        peephole = self.spec.variant.peephole
        return super().lacking() | {
            "resets": self.resets is not None,
            "proj_size": self.spec.proj_size > 0,
            "return_states of an LSTM": self.states and self.spec.has_cell_state,
            f"peephole={peephole!r}": not set(peephole) <= set(PEEPHOLES),
        }

    def layer(self, number: int, x: Any) -> Reached:
        of_cell = (self.hx, self.cx)[: len(self.spec.widths)]
        initial = [self._initial(state, number) for state in of_cell]
        weights, peepholes = self._weights(number)
        lengths = None if self.lengths is None else self.op.Cast(self.lengths, to=_INT32)
        y, *finals = getattr(self.op, self.name)(
            x,
            *weights,
            lengths,
            *initial,
            *peepholes,
            hidden_size=self.spec.hidden_size,
            **self._attributes(),
        )
        pairs = zip(finals, initial, strict=True)
        return [y], [self._kept_if_empty(final, before) for final, before in pairs]

    def _kept_if_empty(self, final: Any, initial: Any) -> Any:
        """The initial state for sequences of length 0, of which ONNX says nothing."""
        if self.lengths is None or initial is None:
            return final
        empty = self.op.Unsqueeze(self.op.Equal(self.lengths, 0), [1])  # [B, 1]
        return self.op.Where(empty, initial, final)

    def _attributes(self) -> dict[str, Any]:
        """Those that say which cell it is, and in which direction it runs."""
        variant = self.spec.variant
        own = own_activation(self.spec.cell, variant)
        of_gates = [] if self.spec.cell.startswith("rnn") else [variant.recurrent_activation]
        of_output = [variant.output_activation] if self.spec.has_cell_state else []
        names, alphas, betas = activations_to_onnx([*of_gates, own, *of_output] * self.directions)
        one = "reverse" if variant.reverse else "forward"
        attributes: dict[str, Any] = {
            "direction": "bidirectional" if self.directions == 2 else one,
            "activations": names,
        }
        optional: dict[str, Any] = {
            "activation_alpha": alphas,
            "activation_beta": betas,
            "clip": variant.cell_clip,
            "input_forget": int(variant.input_forget),
            "linear_before_reset": int(self.spec.cell == "gru" and variant.reset_after),
        }
        return attributes | {name: value for name, value in optional.items() if value}

    def _weights(self, layer: int) -> tuple[list[Any], list[Any]]:
        """W [D, G*H, I], R [D, G*H, H] and B [D, 2*G*H], None without biases; and P [D, 3*H]."""
        each = Weights(*zip(*self.weights[layer], strict=True))
        w, r = self._stacked(each.w_ih), self._stacked(each.w_hh)
        peepholes = [self._peepholes(each.w_ch)] if self.spec.variant.peephole else []
        if not self.spec.bias:
            return [w, r, None], peepholes
        both = self._stacked(each.b_ih), self._stacked(each.b_hh)
        return [w, r, self.op.Concat(*both, axis=1)], peepholes

    def _peepholes(self, of_directions: Sequence[Any]) -> Any:
        """P [D, 3*H], with zeros for the gates that have no peephole."""
        H, letters = self.spec.hidden_size, self.spec.variant.peephole
        padded = [self.op.Pad(w, [0, H]) for w in of_directions]  # a block of zeros as the last
        blocks = [letters.find(gate) % (len(letters) + 1) for gate in PEEPHOLES]
        rows = [block * H + unit for block in blocks for unit in range(H)]
        gathered = [self.op.Gather(w, rows, axis=0) for w in padded]
        return self.concatenated([self.op.Unsqueeze(w, [0]) for w in gathered])

    def _stacked(self, of_directions: Sequence[Any]) -> Any:
        """A weight or bias of every direction, gates in ONNX's order."""
        rows = rows_in_onnx(self.spec.cell, self.spec.hidden_size)
        if rows != sorted(rows):
            of_directions = [self.op.Gather(w, rows, axis=0) for w in of_directions]
        return self.concatenated([self.op.Unsqueeze(w, [0]) for w in of_directions])

    def _initial(self, state: Any, layer: int) -> Any:
        """The part [D, B, H] of an initial state [L*D, B, H] that is the layer's."""
        if state is None:
            return None
        if self.single_step:
            return self.op.Unsqueeze(state, [0])
        if self.spec.num_layers == 1:
            return state
        start = layer * self.directions
        return self.op.Slice(state, [start], [start + self.directions], [0])
