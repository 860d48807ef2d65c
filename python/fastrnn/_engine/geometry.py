"""The sizes of one call's tensors, and where those lie that have them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._call.spec import Spec
from .._call.weights import shapes_of_weights
from .addresses import Memory, Place, block_of, check, place

__all__ = ["Geometry"]


class Geometry:
    """What a call was laid out for; every tensor that the engine meets is held to it."""

    batch_sizes: Tensor | None

    def __init__(
        self, spec: Spec, data: Tensor, batch_first: bool, batch_sizes: Tensor | None, states: bool
    ) -> None:
        self.spec = spec
        self.data_shape = data.shape
        self.memory = Memory(data.dtype, data.device)
        self.directions = 2 if spec.bidirectional else 1
        self.out = self.directions * (spec.proj_size or spec.hidden_size)
        self.has_cell_state = spec.cell == "lstm"
        self.batch_first = batch_first
        self.states = states
        self.packed = batch_sizes is not None
        self.single_step = batch_sizes is None and data.dim() == 2
        if batch_sizes is not None:
            self.T, self.B = len(batch_sizes), int(batch_sizes[0])
        elif self.single_step:
            self.T, self.B = 1, data.shape[0]
        elif batch_first:
            self.B, self.T, _ = data.shape
        else:
            self.T, self.B, _ = data.shape

    @property
    def state_shapes(self) -> list[tuple[int, ...]]:
        """Of h and c, which a single step has without a dimension of layers."""
        before = () if self.single_step else (self.spec.num_layers * self.directions,)
        widths = (self.spec.proj_size or self.spec.hidden_size, self.spec.hidden_size)
        return [(*before, self.B, width) for width in widths]

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Of data, hx, cx and the weights."""
        return [tuple(self.data_shape), *self.state_shapes, *shapes_of_weights(self.spec)]

    @property
    def output_shapes(self) -> list[tuple[int, ...] | None]:
        """Of y, h_n, c_n, h_all and c_all; None for one that there is not, or that is y."""
        h, c = self.state_shapes
        h_all, c_all = ((*final[:1], self.T, *final[1:]) for final in (h, c))
        return [
            (*self.data_shape[:-1], self.out),
            None if self.single_step else h,
            c if self.has_cell_state else None,
            h_all if self.states else None,
            c_all if self.states and self.has_cell_state else None,
        ]

    def check_inputs(self, tensors: Sequence[Tensor | None]) -> None:
        """RuntimeError if data, hx, cx or a weight is another tensor than it has to be."""
        for number, (tensor, shape) in enumerate(zip(tensors, self.input_shapes, strict=True)):
            if tensor is not None:
                check(_name(number), tensor, shape, self.memory)

    def place_inputs(self, tensors: Sequence[Tensor | None]) -> list[Place]:
        """Where data, hx, cx and the weights lie, or their gradients."""
        return [
            place(_name(number), tensor, shape, self.memory, rows=number == 0)
            for number, (tensor, shape) in enumerate(zip(tensors, self.input_shapes, strict=True))
        ]

    def place_outputs(self, tensors: Sequence[Tensor | None]) -> list[Place]:
        """Where y, h_n, c_n, h_all and c_all lie, or their gradients; h_n may be y."""
        y, _, c, *everything = self.output_shapes
        shapes = [y, self.state_shapes[0], c, *everything]
        return [
            place("output", tensor, shape or (), self.memory, rows=number == 0)
            for number, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True))
        ]

    def place_masks(self, masks: Sequence[Tensor]) -> list[Place]:
        """Where the masks lie; one may be drawn for more rows than there are."""
        if not masks:
            return []
        rows = self.T * self.B if self.batch_sizes is None else int(self.batch_sizes.sum())
        size = rows * self.out * self.memory.dtype.itemsize
        return [block_of("dropout mask", mask, size, self.memory) for mask in masks]


def _name(number: int) -> str:
    return ("input", "hx", "cx")[number] if number < 3 else f"weights[{number - 3}]"
