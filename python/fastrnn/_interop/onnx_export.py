"""A call of ``torch.ops.fastrnn.recurrence`` as nodes of ONNX: what all cells share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._call.arguments import taken_apart
from .._call.weights import by_direction

__all__ = ["Export", "Reached"]

Reached = tuple[Sequence[Any], Sequence[Any]]
"""Of a layer, for h and for c where there is one: all states [T, D, B, H], final ones [D, B, H]."""


class Export:
    """One call as nodes, which ``op`` makes; a layer's are those of a derived class.

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
        for what, used in self.lacking().items():
            if used:
                raise NotImplementedError(f"ONNX's {self.name} has nothing like {what}")

    @property
    def name(self) -> str:
        """What ONNX calls what a layer becomes."""
        raise NotImplementedError

    def lacking(self) -> dict[str, bool]:
        """What ONNX lacks, by name, and whether the call has it."""
        return {
            "a PackedSequence (lengths= can be exported)": self.batch_sizes is not None,
            "dropout (call model.eval() first)": bool(self.masks),
        }

    def layer(self, number: int, x: Any) -> Reached:
        """The states of a layer with the input ``x`` [T, B, I]."""
        raise NotImplementedError

    def outputs(self) -> list[Any]:
        """y, h_n, c_n, h_all and c_all, empty ones for those that there are not."""
        x, reached, finals = self.steps_first(), [], []
        for number in range(self.spec.num_layers):
            last = number == self.spec.num_layers - 1
            states, final = self.layer(number, x)
            x = self._directions_joined(states[0], self.batch_first and last)
            reached.append(states)
            finals.append(final)
        of_layers = map(self.concatenated, zip(*finals, strict=True))
        if self.single_step:
            return self.of_single_step([self.op.Squeeze(state, [0]) for state in of_layers])
        h_n, c_n = self._h_and_c(of_layers)
        everything = map(self._all_states, zip(*reached, strict=True)) if self.states else ()
        return [x, h_n, c_n, *self._h_and_c(everything)]

    def of_single_step(self, states: Iterable[Any]) -> list[Any]:
        """The `outputs` of a step whose new states are these."""
        h, c = self._h_and_c(states)
        return [h, self._nothing(), c, self._nothing(), self._nothing()]

    def steps_first(self) -> Any:
        """The input [T, B, I], whose T is 1 for a single step."""
        if self.single_step:
            return self.op.Unsqueeze(self.data, [0])
        return self.op.Transpose(self.data, perm=[1, 0, 2]) if self.batch_first else self.data

    def concatenated(self, values: Sequence[Any], axis: int = 0) -> Any:
        return values[0] if len(values) == 1 else self.op.Concat(*values, axis=axis)

    def _directions_joined(self, y: Any, batch_first: bool) -> Any:
        """y [T, D, B, H] as torch's layers have it, [T, B, D*H] or [B, T, D*H]."""
        joined = self.op.Transpose(y, perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
        return self.op.Reshape(joined, [0, 0, -1])

    def _all_states(self, of_layers: Sequence[Any]) -> Any:
        """[L*D, T, B, H]."""
        return self.concatenated([self.op.Transpose(y, perm=[1, 0, 2, 3]) for y in of_layers])

    def _h_and_c(self, values: Iterable[Any]) -> list[Any]:
        return [*values, self._nothing(), self._nothing()][:2]

    def _nothing(self) -> Any:
        return self.op.ConstantOfShape([0])
