"""A call of a stack of layers with masks, norms and what else `fastrnn.regularised` has.

Masks are drawn first. Then the layers run one after the other, each as a layer of its own: with
masked weights and input, and with a cell that is written for what is to be done in its step. A
layer whose steps get masks has a call for each direction, which gets others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .._call import checks, precision, ragged_checks, state_checks
from .._call.arguments import as_returned, batch_of
from .._call.regularised import Parts
from .._call.regularised_cells import program_of
from .._call.spec import PLAIN, Spec, Variant
from .._call.weights import Expected, name_of
from . import masks
from .masked_weights import Call, Direction, met
from .run import run_layer

__all__ = ["Call", "Direction", "cell_of", "masked_input", "run_stack"]

_BACKWARDS = Variant(reverse=True)
_OF_VARIANT = tuple(field.name for field in fields(Variant) if field.name != "reverse")


def run_stack(
    call: Call,
    input: Any,
    hx: Any,
    directions: Sequence[Direction],
    given: Sequence[masks.OfLayer] | None = None,
) -> tuple[Any, ...]:
    """A stack of layers with the masks that are ``given``, one for each layer, or else drawn.

    Parameters
    ----------
    call : Call
    input : Tensor or PackedSequence
        As a layer takes it, as are ``hx``, ``lengths`` and ``resets``.
    hx : Tensor or (Tensor, Tensor), optional
    directions : sequence of Direction
        For each layer and in it for each direction.
    given : sequence of masks.OfLayer, optional
        In whose docstrings the shapes are: all time first, of a single sequence with B = 1.

    Returns
    -------
    (output, states), or (output, states, states after every step)
        As of a layer.
    """
    spec = call.spec
    weight = directions[0].weights.w_ih
    form = _Form(call, input, weight)
    h, c = form.states(hx)
    if given is None:
        given = masks.draw(spec, call.options, form.rows, form.data, call.training)
    parts = call.parts(call.training and weight.dtype in (torch.float32, torch.float64))
    data, reached = form.data, []
    for number, of_layer in enumerate(given):
        own = slice(number * spec.directions, (number + 1) * spec.directions)
        layer = _Layer(call, form, parts, directions[own], of_layer)
        data, *states = layer.run(data, *(None if one is None else one[own] for one in (h, c)))
        reached.append(states)
        if of_layer.output is not None:
            data = data * form.over_steps(of_layer.output, "step")
    return form.returned(data, [_joined(each) for each in zip(*reached, strict=True)])


class _Form:
    """The form of a call's batch: every one is a batch of sequences here, or a packed one."""

    def __init__(self, call: Call, input: Any, weight: Any) -> None:
        spec = call.spec
        self.call, self.packed = call, input if isinstance(input, PackedSequence) else None
        data = input if self.packed is None else input.data
        rank = None if self.packed else checks.check_rank(data, spec.cell, (2, 3))
        mismatch = RuntimeError if self.packed and spec.cell == "lstm" else ValueError
        if not _torch.is_any_autocast_enabled():
            asked = Expected(spec, (), (f"weights[0] ({name_of('weight_ih', 0, 0)})",))
            checks.check_input(data, asked, [weight], mismatch)
        checks.check_features(data, spec.input_size)
        self.rank, self.single = rank, rank == 2
        self.batch_first, self.resets = call.batch_first and rank == 3, call.resets
        if self.single and call.resets is not None:
            self.resets = ragged_checks.check_resets(call.resets, data.shape[:1]).unsqueeze(1)
        self.data: Tensor = data.unsqueeze(1) if self.single else data
        if self.packed is None:
            self.steps, self.batch = (
                self.data.shape[1::-1] if self.batch_first else self.data.shape[:2]
            )
            self.rows = masks.Rows((self.batch,), (self.steps, self.batch))
        else:
            order = self.packed.sorted_indices
            self.batch = batch_of(data, None, False, self.packed.batch_sizes, order)
            self.rows = masks.Rows((self.batch,), (len(data),))

    def states(self, hx: Any) -> tuple[Tensor | None, Tensor | None]:
        """h [L*D, B, K] and c [L*D, B, H]; None where they are zeros, or there is no c."""
        spec = self.call.spec
        h, c = state_checks.layer_states(spec.cell, hx, self.rank)
        if h is None:
            return None, None
        if self.single:
            h, c = h.unsqueeze(1), None if c is None else c.unsqueeze(1)
        state_checks.check_layer_states(spec, h, c, self.batch)
        state_checks.check_devices(h, c, self.data)
        if not _torch.is_any_autocast_enabled():
            state_checks.check_dtypes(h, c, self.data)
        return h, c

    def over_steps(self, mask: Tensor, per: str) -> Tensor:
        """A mask of every call or step as it meets the input of all steps."""
        if self.packed is None:
            if per == "call":
                return mask.unsqueeze(1 if self.batch_first else 0)
            return mask.transpose(0, 1) if self.batch_first else mask
        return mask if per == "step" else mask[self._sequences()]

    def _sequences(self) -> Tensor:
        """Which sequence each row of a packed batch is of."""
        assert self.packed is not None
        sizes = self.packed.batch_sizes.to(self.data.device)
        places = torch.arange(self.batch, device=self.data.device)
        place = (places < sizes[:, None]).nonzero()[:, 1]
        order = self.packed.sorted_indices
        return place if order is None else order[place]

    def as_input(self, data: Tensor) -> Any:
        return data if self.packed is None else PackedSequence(data, *self.packed[1:])

    def returned(self, data: Tensor, states: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """The outputs as a layer returns them."""
        h_n, c_n, h_all, c_all = (*states, None, None)[:4]
        assert h_n is not None
        if self.single:
            data, h_n = data.squeeze(1), h_n.squeeze(1)
            c_n, h_all, c_all = (
                None if one is None else one.squeeze(-2) for one in (c_n, h_all, c_all)
            )
        return as_returned(self.as_input(data), h_n, c_n, h_all, c_all)


class _Layer:
    """A call of one layer of a stack, with the masks that belong to it."""

    def __init__(
        self,
        call: Call,
        form: _Form,
        parts: Parts | None,
        directions: Sequence[Direction],
        of_layer: masks.OfLayer,
    ) -> None:
        self.call, self.form, self.parts = call, form, parts
        self.directions, self.masks = directions, of_layer
        self.cell, self.variant = cell_of(call.spec, parts)
        self.per_step = parts is not None and parts.per_step
        self.held = parts is not None and bool(parts.on) and not parts.per_step

    def run(self, data: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Any, ...]:
        """y, h_n and c_n, and if wanted h_all and c_all; None for a c that there is not."""
        data = masked_input(self.masks.input, data, self._over_input)
        count = len(self.directions)
        alike = not any(m.of_steps(self.per_step) for m in self.masks.directions)
        if count == 1 or alike:
            return self._run(data, h, c, range(count), self.variant)
        apart = []
        for d in range(count):
            own_h, own_c = (None if one is None else one[d : d + 1] for one in (h, c))
            way = _BACKWARDS if d else None
            apart.append(self._run(data, own_h, own_c, range(d, d + 1), way))
        (y, *states), (y_reverse, *reverse) = apart
        both = zip(states, reverse, strict=True)
        return precision.joined([y, y_reverse], -1), *(_joined(each) for each in both)

    def _over_input(self, mask: Tensor) -> Tensor:
        return self.form.over_steps(mask, self.call.options.input_dropout_per)

    def _run(
        self, data: Tensor, h: Any, c: Any, which: range, variant: Variant | None
    ) -> tuple[Any, ...]:
        """The same for some of the directions."""
        call, spec, form = self.call, self.call.spec, self.form
        of_steps: list[Tensor] = []
        if len(which) == 1:
            own = self.masks.directions[which[0]].of_steps(self.per_step)
            of_steps = [form.over_steps(mask, "step") for mask in own]
        each = [
            met(
                *(call, self.parts, self.directions[d], self.masks.directions[d]),
                *(data, len(self.masks.input), of_steps),
            )
            for d in which
        ]
        weights = [weight for one in each for weight in one.weights]
        data, features, _, bias = each[0]
        options = (
            *(self.cell, features, spec.hidden_size, spec.proj_size, 1, bias),
            *(len(which) == 2, 0.0, variant),
        )
        y, *states = run_layer(
            *(options, form.as_input(data), self._states(data, h, c, which), weights),
            *(form.batch_first, call.lengths, form.resets, call.states),
        )
        y = y if form.packed is None else y.data
        return y, *(own for each in states for own in self._own(each))

    def _states(self, data: Tensor, h: Any, c: Any, which: range) -> Any:
        """``hx`` of a call: what the cell has for c is c and the masks that it keeps."""
        spec = self.call.spec
        has_c = spec.has_cell_state
        if not self.held:
            return None if h is None else (h, c) if has_c else h
        each = [_together(self.masks.directions[d].recurrent) for d in which]
        of_each = [one.unsqueeze(0) for one in each]
        held = of_each[0] if len(each) == 1 else precision.joined(of_each)
        if h is None:
            h = held.new_zeros(len(which), self.form.batch, spec.out)
            c = held.new_zeros(len(which), self.form.batch, spec.hidden_size) if has_c else None
        return h, held if c is None else precision.joined([c, held], -1)

    def _own(self, states: Any) -> tuple[Tensor, Tensor | None]:
        """h and c without the masks."""
        if isinstance(states, Tensor):
            return states, None
        h, c = states
        if not self.call.spec.has_cell_state:
            return h, None
        return h, c[..., : self.call.spec.hidden_size].contiguous() if self.held else c


def cell_of(spec: Spec, parts: Parts | None) -> tuple[str, Variant | None]:
    """What computes a layer: a cell with its variant, or a program and which way it goes."""
    if parts is None:
        return spec.cell, None if spec.variant == PLAIN else spec.variant
    text = program_of(
        spec.cell, tuple(getattr(spec.variant, name) for name in _OF_VARIANT), tuple(parts)
    )
    return text, _BACKWARDS if spec.variant.reverse else None


def masked_input(of_input: Sequence[Tensor], data: Tensor, as_met: Any) -> Tensor:
    """The input of a layer, or those of its gates side by side."""
    if not of_input:
        return data
    return _together([data * as_met(mask) for mask in of_input])


def _together(parts: Sequence[Tensor]) -> Tensor:
    """What gates have apart, side by side."""
    return parts[0] if len(parts) == 1 else precision.joined(parts, -1)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return None if not there else there[0] if len(there) == 1 else precision.joined(there)
