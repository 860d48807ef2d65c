"""Layers and cells whose weights were packed once: inference alone.

`fastrnn.freeze` turns a layer into one of these, the same object with another class, and its
parameters into buffers in the format's numbers. The engine's panels are made of these when a call
first wants them, and belong to no copy or pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any, NoReturn
from weakref import ref

import torch
from torch import Tensor

from .. import _torch
from .._call.number_formats import restored
from .._call.regularised import norm_sizes
from .._call.spec import PLAIN, Spec
from .._call.weights import (
    NAMES,
    Expected,
    Weights,
    expected_of_cell,
    expected_of_layer,
    flat,
    weights_of_cell,
)
from . import graphs
from .frozen_norms import as_program
from .initial_states import for_batch
from .masked_weights import Direction
from .modules import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .plan import cell_plan, layer_plan, spec_of, spec_of_cell
from .recurrent import Recurrent
from .recurrent_cell import RecurrentCell
from .regularised import directions_of
from .run_frozen import FrozenPlan, outside_graphs

__all__ = ["FROZEN_OF", "NOT_FINITE", "OWN_STATE", "Frozen", "infinite"]

OWN_STATE = ("_frozen_plans", "_frozen_loads")
"""What neither copies nor pickles have."""


@dataclass(frozen=True, eq=False)
class _Plans:  # no tuple, in which torch.export would find tensors
    """What the calls of a layer have packed, and of which tensors."""

    buffers: tuple[Tensor | None, ...]
    of_program: dict[str | None, FrozenPlan]


class Frozen(torch.nn.Module):
    """What all frozen layers and cells share.

    Attributes
    ----------
    number_format : str
        "float32", "bfloat16" or "int8".
    """

    number_format: str
    _thawed: tuple[type, torch.dtype, tuple[str, ...], tuple[str, ...]]
    """The class, the dtype and the names of the parameters that the layer had, and of those of
    them without gradients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"{type(self).__name__}: fastrnn.freeze(model) makes frozen layers")

    def _names(self) -> Sequence[str]:
        """Those of the weights in the order of a call."""
        raise NotImplementedError

    def _plan_of(
        self,
        program: str | None,
        expect: Callable[[], Expected],
        *,
        one_step: bool = False,
        weights: Callable[[Any], list[Tensor]] | None = None,
    ) -> FrozenPlan:
        """That of a program with this text, or of torch's cell; ``expect`` what it is held to.

        ``weights`` has those of a layer's call where they are no `_restored_weights`. Plans are of
        what the buffers are now: ``torch.func.functional_call`` puts others in their places for a
        while. They know the layer weakly: what it has packed goes with it at once.
        """
        buffers = self._buffers.values()
        plans: _Plans | None = vars(self).get("_frozen_plans")
        if plans is None or not all(map(is_, plans.buffers, buffers)):
            plans = vars(self)["_frozen_plans"] = _Plans(tuple(buffers), {})
        plan = plans.of_program.get(program)
        if plan is None:
            of: Callable[[Any], list[Tensor]] = weights or type(self)._restored_weights
            layer = ref(self)
            own = expect(), self.number_format, lambda: of(layer())
            plan = plans.of_program[program] = FrozenPlan(*own, one_step=one_step)
        return plan

    def _restored_weights(self) -> list[Tensor]:
        """All weights of a call in float32."""
        raise NotImplementedError

    def _restored(self, name: str) -> Any:
        """One of them; None where it is none."""
        kept: Any = self._buffers
        return None if kept.get(name) is None else restored(name, kept)

    # ---- what does not change ----

    def train(self, mode: bool = True) -> Any:
        """RuntimeError unless ``mode`` is False."""
        if mode:
            raise RuntimeError(
                f"{type(self).__name__} does not train: call eval() on the model, or train that of "
                "fastrnn.thaw(model)"
            )
        return super().train(False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._buffers and "_frozen_loads" not in vars(self):
            self._refuse(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._buffers:
            self._refuse(name)
        super().__delattr__(name)

    def register_buffer(self, name: str, *given: Any, **more: Any) -> None:
        """RuntimeError where that is one of the weights, which torch would exchange."""
        if name in self._buffers and "_frozen_loads" not in vars(self):
            self._refuse(name)
        super().register_buffer(name, *given, **more)

    def _refuse(self, name: str) -> NoReturn:
        raise RuntimeError(
            f"{name}: the weights of a frozen layer do not change; those of fastrnn.thaw(model) do"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Keep the numbers' dtypes, which are the format's; RuntimeError for another device."""
        for name, own in self._buffers.items():
            if own is not None and not fn(own).is_cpu:
                raise RuntimeError(
                    f"{name}: frozen layers stay on the CPU; thaw the model to move it"
                )
        return self

    # ---- what is kept ----

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *rest: Any, **keywords: Any
    ) -> None:
        errors: list[str] = rest[-1]
        for name, own in self._buffers.items():
            given = state_dict.get(prefix + name)
            if own is not None and isinstance(given, Tensor) and given.dtype is not own.dtype:
                errors.append(
                    f"{prefix}{name}: expected {own.dtype}, got {given.dtype}: load what a model "
                    f"frozen with weights={self.number_format!r} has, or freeze the one of this"
                )
                return
        with self._loading():
            super()._load_from_state_dict(state_dict, prefix, *rest, **keywords)
        errors += (f"{prefix}{name}: {NOT_FINITE}" for name in infinite(self._buffers))

    @contextmanager
    def _loading(self) -> Iterator[None]:
        vars(self)["_frozen_loads"] = True
        try:
            yield
        finally:
            del vars(self)["_frozen_loads"]
            vars(self).pop("_frozen_plans", None)

    def __getstate__(self) -> dict[str, Any]:
        above = getattr(super(), "__getstate__", None)
        state: dict[str, Any] = above() if above is not None else vars(self)  # Python 3.10
        return {name: value for name, value in state.items() if name not in OWN_STATE}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weights={self.number_format!r}"


NOT_FINITE = "expected finite numbers, got an infinity or NaN, which no format of weights keeps"


def infinite(tensors: dict[str, Any]) -> list[str]:
    """The names of those with an infinity or NaN."""
    return [
        name
        for name, one in tensors.items()
        if one is not None and one.is_floating_point() and not one.isfinite().all()
    ]


class _FrozenLayer(Frozen):
    """LSTM, GRU and RNN."""

    def _names(self: Any) -> Sequence[str]:
        names: Sequence[str] = self._flat_weights_names
        return names

    def _restored_weights(self) -> list[Tensor]:
        return self._computed()[1]

    def _computed(self: Any) -> tuple[Spec, list[Tensor]]:
        """What a call computes, and the weights of it."""
        spec, options = spec_of(self), self._fastrnn_regularised
        weights = [self._restored(name) for name in self._names()]
        if options is None or not options.is_at_work(training=False):
            return spec, weights
        read = partial(map, self._restored)
        directions = directions_of(spec, options, weights, read)
        return as_program(spec, options, directions)

    def _fastrnn_forward(
        self: Any, input: Any, hx: Any, lengths: Any, resets: Any, return_states: bool
    ) -> tuple[Any, ...]:
        if _torch.is_fx_tracing():
            known = dict(zip(_FORWARD, (input, hx, lengths, resets, return_states), strict=True))
            node: tuple[Any, ...] | None = graphs.node_of(
                self, "_fastrnn_forward", *known.values(), **known
            )
            if node is not None:
                return node
        if torch.compiler.is_dynamo_compiling():
            given = input, hx, lengths, resets, return_states
            apart: tuple[Any, ...] = outside_graphs(self._fastrnn_forward)(*given)
            return apart
        if hx is None and self._fastrnn_initial_state:
            # What is learned stays float32, whatever the input is: nothing is rounded but results.
            hx = for_batch(self, input, cast=_torch.is_any_autocast_enabled())
        plan = self._plan_of(None, lambda: expected_of_layer(self._computed()[0]))
        done: tuple[Any, ...] = plan.run_layer(
            input, hx, self.batch_first, lengths, resets, return_states
        )
        return done


_FORWARD = ("input", "hx", "lengths", "resets", "return_states")


class _FrozenCell(Frozen):
    """LSTMCell, GRUCell and RNNCell."""

    def _names(self: Any) -> Sequence[str]:
        variant = getattr(self, "_fastrnn_variant", None) or PLAIN  # torch's have none
        peepholes = NAMES[5:] if variant.peephole else ()
        without = [name for name, parameter in self._parameters.items() if parameter is None]
        return [name for name in (*NAMES[:4], *peepholes) if name not in without]

    def _computed(self: Any, cell: str) -> tuple[Spec, list[Tensor]]:
        """What a call computes, and the weights of it."""
        w_ih, w_hh, b_ih, b_hh, _, w_ch = map(self._restored, NAMES)
        weights = Weights(*weights_of_cell(w_ih, w_hh, b_ih, b_hh))._replace(w_ch=w_ch)
        sizes, has_bias = (self.input_size, self.hidden_size), weights.b_ih is not None
        spec = spec_of_cell(cell, *sizes, has_bias, self._fastrnn_variant or PLAIN)
        options = self._fastrnn_regularised
        if options is None or not options.is_at_work(training=False):
            return spec, flat([weights])
        norms = norm_sizes(options, len(spec.gates), spec.hidden_size)
        own = Direction(weights, {name: self._restored(name) for name in norms})
        return as_program(spec, options, [own])

    def _fastrnn_step(self: Any, cell: str, input: Any, hx: Any) -> Any:
        if _torch.is_fx_tracing():
            node = graphs.node_of(self, "_fastrnn_step", cell, input, hx, input=input, hx=hx)
            if node is not None:
                return node
        if torch.compiler.is_dynamo_compiling():
            return outside_graphs(self._fastrnn_step)(cell, input, hx)
        plan = self._plan_of(
            None,
            lambda: expected_of_cell(self._computed(cell)[0]),
            one_step=True,
            weights=lambda layer: layer._computed(cell)[1],
        )
        return plan.run_step(input, hx)


class _FrozenProgram(Frozen):
    """Recurrent and RecurrentCell."""

    def _names(self: Any) -> Sequence[str]:
        names: Sequence[str] = self._weight_names
        return names

    def _restored_weights(self: Any) -> list[Tensor]:
        by_name = {name: self._restored(name) for name in self._names()}
        weights: list[Tensor] = self._in_order(list(by_name.values()))
        return weights


class FrozenLSTM(_FrozenLayer, LSTM):
    """`fastrnn.LSTM` with packed weights; `fastrnn.freeze` makes it."""


class FrozenGRU(_FrozenLayer, GRU):
    """`fastrnn.GRU` with packed weights; `fastrnn.freeze` makes it."""


class FrozenRNN(_FrozenLayer, RNN):
    """`fastrnn.RNN` with packed weights; `fastrnn.freeze` makes it."""


class FrozenLSTMCell(_FrozenCell, LSTMCell):
    """`fastrnn.LSTMCell` with packed weights; `fastrnn.freeze` makes it."""


class FrozenGRUCell(_FrozenCell, GRUCell):
    """`fastrnn.GRUCell` with packed weights; `fastrnn.freeze` makes it."""


class FrozenRNNCell(_FrozenCell, RNNCell):
    """`fastrnn.RNNCell` with packed weights; `fastrnn.freeze` makes it."""


class FrozenRecurrent(_FrozenProgram, Recurrent):
    """`fastrnn.Recurrent` with packed weights; `fastrnn.freeze` makes it."""

    def _fastrnn_forward(self, *given: Any) -> tuple[Any, ...]:
        if torch.compiler.is_dynamo_compiling():
            apart: tuple[Any, ...] = outside_graphs(super()._fastrnn_forward)(*given)
            return apart
        return super()._fastrnn_forward(*given)

    def _run(
        self, text: str, input: Any, hx: Any, lengths: Any, resets: Any, return_states: bool
    ) -> tuple[Any, ...]:
        plan = self._plan_of(text, lambda: layer_plan(*self._layer_options(text)).expected)
        return plan.run_layer(input, hx, self.batch_first, lengths, resets, return_states)


class FrozenRecurrentCell(_FrozenProgram, RecurrentCell):
    """`fastrnn.RecurrentCell` with packed weights; `fastrnn.freeze` makes it."""

    def _fastrnn_forward(self, *given: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return outside_graphs(super()._fastrnn_forward)(*given)
        return super()._fastrnn_forward(*given)

    def _run_directly(self, input: Any, hx: Any) -> Any:
        return self._plan_of_step(self._text).run_step_directly(input, hx)

    def _run(self, text: str, input: Any, hx: Any) -> Any:
        return self._plan_of_step(text).run_step(input, hx)

    def _plan_of_step(self, text: str) -> Any:
        sizes = self._sizes()
        return self._plan_of(text, lambda: cell_plan(text, *sizes).expected, one_step=True)


FROZEN_OF: dict[type, type[Frozen]] = {
    torch.nn.LSTM: FrozenLSTM,
    torch.nn.GRU: FrozenGRU,
    torch.nn.RNN: FrozenRNN,
    torch.nn.LSTMCell: FrozenLSTMCell,
    torch.nn.GRUCell: FrozenGRUCell,
    torch.nn.RNNCell: FrozenRNNCell,
    LSTM: FrozenLSTM,
    GRU: FrozenGRU,
    RNN: FrozenRNN,
    LSTMCell: FrozenLSTMCell,
    GRUCell: FrozenGRUCell,
    RNNCell: FrozenRNNCell,
    Recurrent: FrozenRecurrent,
    RecurrentCell: FrozenRecurrentCell,
}
for _class in FROZEN_OF.values():
    _class.__module__ = "fastrnn"  # pickles name the package and not the room
