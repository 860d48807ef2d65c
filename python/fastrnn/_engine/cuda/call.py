"""A call with tensors on a GPU: how its batch is laid out, and what torch's autograd sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._call.spec import Spec
from .. import calls, cuda
from ..addresses import Place
from .backward import BackwardPass
from .engine import ABSENT, cell_of
from .forward import ForwardPass
from .passes import Kept

__all__ = ["CudaCall"]


class CudaCall(calls.Call):
    """`fastrnn._engine.calls.Call` for tensors on a GPU."""

    def _order_rows(self) -> None:
        """Rows stay where they are: each knows on the device whether it takes part in a step."""

    def _mask_shape(self, data: Tensor) -> tuple[int, ...]:
        return (*data.shape[:-1],) if self.packed else (self.T, self.B)

    def prepare_backward(self, kept: Tensor) -> None:
        """Nothing is planned ahead here."""

    def unread(self, needed: tuple[bool, ...]) -> Sequence[int]:
        return ()

    @staticmethod
    def kept_bytes(spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        """Bytes that backward needs of so many rows."""
        sixteen = Kept(spec, dtype, Kept.ROWS).bytes
        return (rows + Kept.ROWS - 1) // Kept.ROWS * sixteen

    def _masks_of_rows(self, masks: Sequence[Tensor]) -> Sequence[Tensor]:
        """With ``lengths`` those of the rows that there are, in the order of a packed batch."""
        if self.lengths is None or not masks:
            return masks
        lengths, order = torch.sort(self.lengths, descending=True)
        steps = torch.arange(self.T, device=lengths.device)
        active = steps[:, None] < lengths
        return [mask.view(self.T, self.B, -1)[:, order][active] for mask in masks]

    # ---- what both passes need ----

    def prepared(self, data: Tensor) -> Tensor:
        """The input with zeros where nothing may be read."""
        if self.lengths is None:
            return data
        steps = torch.arange(self.T, device=data.device)
        past = steps[:, None] >= self.lengths
        return data.masked_fill((past.t() if self.batch_first else past)[..., None], 0)

    def sequence(self) -> Any:
        sizes = self.batch_sizes.tolist() if self.packed and self.batch_sizes is not None else []
        lengths = 0 if self.lengths is None else self.lengths.data_ptr()
        resets = ABSENT if self.resets is None else (self.resets.data_ptr(), self.B, 1)
        return cuda.extension().Sequence(self.T, self.B, sizes, lengths, resets)

    def layer_shape(self) -> Any:
        spec = self.spec
        return cuda.extension().LayerShape(
            cell_of(spec), spec.hidden_size, spec.proj_size, spec.variant.reverse
        )

    def like_data(self, rows: Tensor, data: Tensor) -> Tensor:
        return rows.view(*data.shape[:-1], rows.shape[-1])

    def at(self, rows: Tensor | None, data: Tensor, offset: int = 0) -> tuple[int, int, int]:
        """Where columns from ``offset`` on of a tensor of all steps lie."""
        if rows is None:
            return ABSENT
        laid_out = rows if rows.dim() == data.dim() else self.like_data(rows, data)
        address, step, row = Place(laid_out, laid_out.data_ptr()).strides(self.batch_first)
        return address + offset * rows.element_size(), step, row

    def by_row(self, states: Tensor | None) -> Tensor | None:
        """States [L*D, B, ...] in the order of the rows."""
        if states is None or self.single_step:
            return None if states is None else states[None]
        return states if self.row_index is None else states.index_select(1, self._order)

    def by_entry(self, states: Tensor, into: Tensor) -> None:
        """The inverse of `by_row`, into a tensor of the caller's."""
        into = into[None] if self.single_step else into
        if self.row_index is None:
            into.copy_(states)
        else:
            into.index_copy_(1, self._order, states.to(into.dtype))

    @property
    def _order(self) -> Tensor:
        assert self.row_index is not None
        return self.row_index

    def masked(self, layer: int, y: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """A layer's output, or the gradient of its dropped one, times the mask; rows.

        Masks are drawn by step and batch entry, whatever the layout of the input.
        """
        if not masks:
            return y
        mask = masks[layer]
        if self.batch_first:
            mask = mask.view(self.T, self.B, self.out).transpose(0, 1)
        return (y.view(mask.shape) * mask).view(y.shape)

    # ---- forward ----

    @calls.profiled
    def forward(
        self,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        weights: Sequence[Tensor],
        saved: list[Tensor] | None,
    ) -> tuple[Tensor, ...]:
        self.check_inputs((data, hx, cx, *weights))
        spec, out = self.spec, self.spec.proj_size or self.spec.hidden_size
        count = spec.num_layers * self.directions
        finals = (self.B,) if self.single_step else (count, self.B)
        y = data.new_empty((*data.shape[:-1], self.out))
        h_n = y if self.single_step else data.new_empty((*finals, out))
        c_n = data.new_empty((*finals, spec.hidden_size)) if self.has_cell_state else None
        h_all = c_all = None
        if self.states:
            h_all = data.new_zeros((count, self.T, self.B, out))
            if self.has_cell_state:
                c_all = data.new_zeros((count, self.T, self.B, spec.hidden_size))
        if y.numel():
            ForwardPass(self, data, weights, saved).run(hx, cx, (y, h_n, c_n, h_all, c_all))
        outputs = (y,) if self.single_step else (y, h_n)
        return (*outputs, *(o for o in (c_n, h_all, c_all) if o is not None))

    def _packed_places(self, device: torch.device) -> Tensor:
        """Where each packed row lies in [T * B], by step and batch entry."""
        assert self.batch_sizes is not None
        steps = torch.repeat_interleave(torch.arange(self.T, device="cpu"), self.batch_sizes)
        first = torch.cumsum(self.batch_sizes, 0) - self.batch_sizes
        rows = (torch.arange(len(steps), device="cpu") - first[steps]).to(device, non_blocking=True)
        entries = rows if self.row_index is None else self._order[rows]
        return steps.to(device, non_blocking=True) * self.B + entries

    def spread_states(self, rows: Tensor, into: Tensor, data: Tensor) -> None:
        """States of all rows, to [T, B, width] by batch entry."""
        if self.packed:
            places = self._packed_places(data.device)
            into.view(-1, into.shape[-1]).index_copy_(0, places, rows.to(into.dtype))
        else:
            steps = rows.view(*data.shape[:-1], rows.shape[-1])
            into.copy_(steps.transpose(0, 1) if self.batch_first else steps)

    def gathered_states(self, states: Tensor, data: Tensor) -> Tensor:
        """The inverse of `spread_states`, laid out as the input is."""
        if self.packed:
            places = self._packed_places(data.device)
            return states.reshape(-1, states.shape[-1]).index_select(0, places)
        return states.transpose(0, 1) if self.batch_first else states

    # ---- backward ----

    @calls.profiled
    def backward(
        self,
        data: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        weights: Sequence[Tensor],
        kept: Tensor,
        masks: Sequence[Tensor],
        d_y: Tensor | None,
        d_h_n: Tensor | None,
        d_c_n: Tensor | None,
        d_h_all: Tensor | None,
        d_c_all: Tensor | None,
        gradients: list[Tensor | None],
    ) -> None:
        self.check_inputs((data, hx, cx, *weights))
        d_states = (d_h_n, d_c_n, d_h_all, d_c_all)
        BackwardPass(self, data, (hx, cx), weights, kept, masks, d_states, gradients).run(d_y)
