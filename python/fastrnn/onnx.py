"""Export of models with these layers to ONNX, as ONNX's own LSTM, GRU and RNN.

torch's exporter takes a table of translations for operators that it does not know::

    torch.onnx.export(
        model,
        (x,),
        "model.onnx",
        dynamo=True,
        custom_translation_table=fastrnn.onnx.translations(),
    )

Each layer of a stack becomes one node. Weights keep torch's names and layout in the file; nodes
next to them bring them into ONNX's, which a runtime does once, when it loads the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ._autograd import operators  # noqa: F401  (defines torch.ops.fastrnn)
from ._call.arguments import taken_apart
from ._call.spec import CELLS
from ._call.weights import Weights, by_direction
from ._interop.onnx_layout import (
    PEEPHOLES,
    activations_to_onnx,
    biases_from_onnx,
    biases_to_onnx,
    gates_from_onnx,
    gates_to_onnx,
    rows_in_onnx,
)
from .variants import own_activation

__all__ = [
    "biases_from_onnx",
    "biases_to_onnx",
    "gates_from_onnx",
    "gates_to_onnx",
    "translations",
]

_INT32 = 6  # of onnx.TensorProto.DataType


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What to give to ``torch.onnx.export`` as its ``custom_translation_table``.

    Layers and cells are exported with every option but ``proj_size``, with or without initial
    states, and with ``lengths`` if that is a Tensor. Batch and time may be dynamic.

    Returns
    -------
    dict
        From an operator of ``torch.ops.fastrnn`` to a function that builds its nodes.

    Raises
    ------
    ImportError
        onnxscript is not installed, which torch's exporter needs, too.
    NotImplementedError
        The model uses what ONNX's operators do not have: a `fastrnn.Recurrent`, ``proj_size``,
        ``resets``, a PackedSequence, an LSTM's ``return_states``, or dropout that is at work.
        torch's exporter raises it as the cause of an error of its own.
    """
    from onnxscript import opset18

    def recurrence(*arguments: Any) -> Sequence[Any]:
        return _Recurrence(opset18, arguments).outputs()

    return {torch.ops.fastrnn.recurrence.default: recurrence}


class _Recurrence:
    """One call of ``torch.ops.fastrnn.recurrence`` as nodes, which ``op`` makes.

    Tensors are values of the exporter's here: they have a shape, and no elements.
    """

    def __init__(self, op: Any, arguments: Sequence[Any]) -> None:
        layout, tensors = taken_apart(arguments)
        self.data, self.hx, self.cx, self.batch_sizes, _, self.lengths, self.resets, *_ = tensors
        self.op = op
        self.spec = layout.spec
        self.directions = layout.spec.directions
        self.batch_first = layout.batch_first
        self.states = layout.states
        self.weights = by_direction(layout.spec, tensors.weights)
        self.masks = tensors.masks
        self.single_step = len(self.data.shape) == 2
        self._refuse_what_onnx_lacks()

    def _refuse_what_onnx_lacks(self) -> None:
        peephole = self.spec.variant.peephole
        lacking = {
            "a PackedSequence (lengths= can be exported)": self.batch_sizes is not None,
            "a cell that is a program (fastrnn.Recurrent)": self.spec.program is not None,
            "resets": self.resets is not None,
            "proj_size": self.spec.proj_size > 0,
            "return_states of an LSTM": self.states and self.spec.has_cell_state,
            "dropout (call model.eval() first)": bool(self.masks),
            f"peephole={peephole!r}": not set(peephole) <= set(PEEPHOLES),
        }
        for what, used in lacking.items():
            if used:
                raise NotImplementedError(f"ONNX's {self.spec.name} has nothing like {what}")

    def outputs(self) -> list[Any]:
        """y, h_n, c_n, h_all and c_all, empty ones for those that there are not."""
        x = self._steps_first()
        lengths = None if self.lengths is None else self.op.Cast(self.lengths, to=_INT32)
        each_y, each_h_n, each_c_n = [], [], []
        for layer in range(self.spec.num_layers):
            last = layer == self.spec.num_layers - 1
            y, h_n, *c_n = self._layer(layer, x, lengths)
            x = self._directions_joined(y, self.batch_first and last)
            each_y.append(y)
            each_h_n.append(h_n)
            each_c_n += c_n
        h_n, c_n = self._finals(each_h_n), self._finals(each_c_n)
        if self.single_step:
            return [h_n, self._nothing(), c_n, self._nothing(), self._nothing()]
        h_all = self._all_states(each_y) if self.states else self._nothing()
        return [x, h_n, c_n, h_all, self._nothing()]

    def _steps_first(self) -> Any:
        """x: [T, B, I], whose T is 1 for a single step."""
        if self.single_step:
            return self.op.Unsqueeze(self.data, [0])
        return self.op.Transpose(self.data, perm=[1, 0, 2]) if self.batch_first else self.data

    def _layer(self, layer: int, x: Any, lengths: Any) -> Sequence[Any]:
        """y [T, D, B, H] and the final states [D, B, H]."""
        of_cell = (self.hx, self.cx)[: len(self.spec.widths)]
        initial = [self._initial(state, layer) for state in of_cell]
        weights, peepholes = self._weights(layer)
        recurrence = getattr(self.op, CELLS[self.spec.cell].kind)  # ONNX's names are torch's
        y, *finals = recurrence(
            x,
            *weights,
            lengths,
            *initial,
            *peepholes,
            hidden_size=self.spec.hidden_size,
            **self._attributes(),
        )
        return y, *(self._kept_if_empty(*of_one) for of_one in zip(finals, initial, strict=True))

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
        return self._concatenated([self.op.Unsqueeze(w, [0]) for w in gathered])

    def _stacked(self, of_directions: Sequence[Any]) -> Any:
        """A weight or bias of every direction, gates in ONNX's order."""
        rows = rows_in_onnx(self.spec.cell, self.spec.hidden_size)
        if rows != sorted(rows):
            of_directions = [self.op.Gather(w, rows, axis=0) for w in of_directions]
        return self._concatenated([self.op.Unsqueeze(w, [0]) for w in of_directions])

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

    def _directions_joined(self, y: Any, batch_first: bool) -> Any:
        """y [T, D, B, H] as torch's layers have it, [T, B, D*H] or [B, T, D*H]."""
        joined = self.op.Transpose(y, perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
        return self.op.Reshape(joined, [0, 0, -1])

    def _finals(self, of_layers: Sequence[Any]) -> Any:
        """[L*D, B, H], of a single step [B, H]."""
        if not of_layers:
            return self._nothing()
        if self.single_step:
            return self.op.Squeeze(of_layers[0], [0])
        return self._concatenated(of_layers)

    def _all_states(self, each_y: Sequence[Any]) -> Any:
        """[L*D, T, B, H]."""
        return self._concatenated([self.op.Transpose(y, perm=[1, 0, 2, 3]) for y in each_y])

    def _concatenated(self, values: Sequence[Any]) -> Any:
        return values[0] if len(values) == 1 else self.op.Concat(*values, axis=0)

    def _nothing(self) -> Any:
        return self.op.ConstantOfShape([0])
