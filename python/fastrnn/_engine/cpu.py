"""The engine on the CPU: plans, blocks of what is kept, and tensors as addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .. import _core, _torch
from .._call.arguments import Arguments, Kept
from .._call.batch import Batch, Memory
from .._call.spec import Outputs, Spec, cell_of
from .._call.weights import Weights, by_direction
from .._program.program import Program
from . import native
from .addresses import (
    Place,
    block_of,
    place,
    place_inputs,
    place_masks,
    place_new,
    place_outputs,
)
from .memory import new_kept

__all__ = ["BACKEND", "place_rows", "run_forward", "unread"]

_INTEGERS = Memory(torch.int64, torch.device("cpu"))
_FLAGS = Memory(torch.bool, torch.device("cpu"))


class Cpu:
    """`Backend` that hands addresses to `fastrnn._core`."""

    computes_half = False
    is_differentiable = False
    time_first = True
    masks_by_entry = False

    @property
    def multiplies_bfloat16(self) -> bool:
        return _now_multiplies_bfloat16()

    def refuses(self, spec: Spec) -> str | None:
        return None

    def kept_bytes(self, spec: Spec, dtype: torch.dtype, rows: int, dropout: bool) -> int:
        """What the engine keeps grows with the rows, but for the alignment of each piece.

        To that sixteen rows need nothing added. One byte says which instruction set has laid it
        out.
        """
        return (rows + 15) // 16 * _kept_of_sixteen(spec, dtype, dropout) + 1

    def unread(self, batch: Batch, needed: tuple[bool, ...]) -> Sequence[int]:
        return unread(batch.spec, batch.T == 1, needed)

    def forward(
        self, batch: Batch, arguments: Arguments, keep: bool, room: int | None
    ) -> tuple[Outputs, Kept | None]:
        plan = make_plan(batch, keep, bool(arguments.masks))
        kept = Kept(_make_block(plan.saved_bytes, room), plan) if keep else None
        return run_forward(plan, batch, arguments, kept), kept

    def backward(
        self,
        batch: Batch,
        arguments: Arguments,
        kept: Kept,
        d_outputs: Outputs,
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        block, plan = kept
        if plan is None:
            plan = make_plan(batch, True, bool(arguments.masks), _laid_out_by(block))
        gradients = batch.new_gradients(needed)
        x, h0, c0, *of_weights = place_inputs(batch, arguments.inputs())
        of_masks = place_masks(batch, arguments.masks)
        of_y, of_h_n, of_c_n, of_h_all, of_c_all = place_outputs(batch, d_outputs)
        d_x, d_h0, d_c0, *d_weights = place_new(gradients)
        memory = Memory(block.dtype, batch.memory.device)
        of_kept = block_of("what forward kept", block, plan.saved_bytes, memory)
        plan.backward(
            x=x.strides(batch.batch_first),
            h0=h0.address,
            c0=c0.address,
            weights=[w.address for w in of_weights],
            masks=[m.address for m in of_masks],
            d_y=of_y.strides(batch.batch_first),
            d_h_n=of_h_n.address,
            d_c_n=of_c_n.address,
            d_h_all=of_h_all.address,
            d_c_all=of_c_all.address,
            d_x=d_x.strides(batch.batch_first),
            d_h0=d_h0.address,
            d_c0=d_c0.address,
            d_weights=[d.address for d in d_weights],
            saved=of_kept.address,
        )
        return gradients


BACKEND = Cpu()


def run_forward(
    plan: _core.Plan,
    batch: Batch,
    arguments: Arguments,
    kept: Kept | None = None,
    *,
    weights: bool = True,
) -> Outputs:
    """What a plan computes; without ``weights`` it has its own, packed."""
    outputs = batch.new_outputs(arguments.data, BACKEND.time_first)
    x, h0, c0, *of_weights = place_inputs(batch, arguments.inputs(), weights=weights)
    of_masks = place_masks(batch, arguments.masks)
    reached = outputs._replace(h_n=outputs.y) if batch.single_step else outputs
    of_y, of_h_n, of_c_n, of_h_all, of_c_all = place_new(reached)
    plan.forward(
        x=x.strides(batch.batch_first),
        y=of_y.strides(batch.batch_first),
        h0=h0.address,
        c0=c0.address,
        h_n=of_h_n.address,
        c_n=of_c_n.address,
        h_all=of_h_all.address,
        c_all=of_c_all.address,
        weights=[w.address for w in of_weights],
        masks=[m.address for m in of_masks],
        saved=0 if kept is None else kept.block.data_ptr(),
    )
    return outputs


def place_rows(batch: Batch) -> tuple[Place, Place, Place]:
    """Where lies what says which rows there are at which step: batch_sizes, row_index, resets."""
    batch_sizes, row_index = batch.in_falling_order()
    return (
        place("batch_sizes", batch_sizes, (batch.T,), _INTEGERS),
        place("sorted_indices", row_index, (batch.B,), _INTEGERS),
        place("resets", batch.resets, (batch.T, batch.B), _FLAGS),
    )


def make_plan(batch: Batch, save: bool, dropout: bool, isa: str | None = None) -> _core.Plan:
    """The engine's plan, for the instruction set that is active or for another."""
    spec = batch.spec
    cell, program = native.cell_and_program(spec)
    sizes, order, resets = place_rows(batch)
    isa = _core.isa_active() if isa is None else isa
    in_bfloat16 = spec.products == "bfloat16" and _multiplies_bfloat16(isa)
    return _core.Plan(
        cell=cell,
        dtype=native.DTYPES[batch.memory.dtype],
        T=batch.T,
        B=batch.B,
        I=spec.input_size,
        H=spec.hidden_size,
        P=spec.proj_size,
        layers=spec.num_layers,
        directions=spec.directions,
        bias=spec.bias,
        reverse=spec.variant.reverse,
        save=save,
        dropout=dropout,
        states=batch.states,
        threads=torch.get_num_threads(),
        packed=batch.packed,
        batch_sizes=sizes.address,
        row_index=order.address,
        resets=resets.address,
        isa=isa,
        program=program,
        format=_core.Format.bfloat16_products if in_bfloat16 else _core.Format.float32,
    )


@_torch.constant_to_compilers
def _now_multiplies_bfloat16() -> bool:
    return _multiplies_bfloat16(_core.isa_active())


@lru_cache(maxsize=16)
def _multiplies_bfloat16(isa: str) -> bool:
    """Whether an extension of the instruction set has products of bfloat16, and is on."""
    own = (one for one in _core.extensions() if one.isa == isa and one.on)
    return any(one.format == _core.Format.bfloat16_products for one in own)


@lru_cache(maxsize=256)
def _kept_of_sixteen(spec: Spec, dtype: torch.dtype, dropout: bool) -> int:
    """Enough for every instruction set: a graph may run with another one than it was made with."""
    batch = Batch(spec, torch.empty((16, 1, spec.input_size), dtype=dtype, device="meta"))
    return max(make_plan(batch, True, dropout, isa).saved_bytes for isa in _core.isa_built())


def _make_block(size: int, room: int | None) -> Tensor:
    """A block for what backward needs; with ``room`` its last byte says which set laid it out."""
    if room is None:
        return new_kept(size, torch.uint8)
    if size >= room:
        raise RuntimeError(f"expected at least {size + 1} bytes for backward, got {room}")
    block = new_kept(room, torch.uint8)
    block[-1] = _core.isa_built().index(_core.isa_active())
    return block


def _laid_out_by(block: Tensor) -> str:
    """The instruction set with which forward went."""
    number, built = int(block[-1]), _core.isa_built()
    if number >= len(built):
        raise RuntimeError("forward was computed by another backend than backward is to be")
    return built[number]


@lru_cache(maxsize=1024)
def unread(spec: Spec, single_step: bool, needed: tuple[bool, ...]) -> tuple[int, ...]:
    """Which of data, hx, cx and the weights backward does not read, for the ``needed`` gradients.

    ``single_step``: there is one step, so that no gradient goes from one to the one before unless
    that of hx is wanted.
    """
    needs_data, needs_hx, _, *needs_weights = needed
    of_layers = by_direction(spec, needs_weights)
    of_w_hh = [own.w_hh for layer in of_layers for own in layer]
    reads = [
        any(own.w_ih for own in of_layers[0]) or spec.inputs_size > 0,
        cell_of(spec.cell).reads_hidden or any(of_w_hh),
        True,
    ]
    program = spec.program
    chained = not spec.variant.reset_after if program is None else _multiplies_others(program)
    reads_w_hh = needs_hx or not single_step or chained
    for number, layer in enumerate(of_layers):
        of_weights = Weights(needs_data or number > 0, reads_w_hh, False, False, True, True)
        for own in layer:
            both = zip(own, of_weights, strict=True)
            reads += [read for need, read in both if need is not None]
    return tuple(place for place, read in enumerate(reads) if not read)


def _multiplies_others(program: Program) -> bool:
    """Whether a product is of something else than hx: an operand, or a state behind an output."""
    return len(program.products) > 1 or program.output is not None
