"""`LSTM`, `GRU`, `RNN` and their cells: subclasses of ``torch.nn``'s that compute with the engine.

Constructors, attributes, parameters, ``state_dict``, ``repr`` and helper methods are the
inherited ones, as long as none of the options of `fastrnn.variants` is used. Only ``forward`` is
new, and with it where the weights come from: they are read by name at every call, so a change by
whatever road (``.data``, parametrization, either ``weight_norm``, pruning, ``functional_call``,
plain assignment) is seen by the very next call.

Classes that somebody derived from torch's have a ``_forward`` or a ``variant`` of their own, and
are to work derived from these: what a call goes through and asks is named ``_fastrnn_``.

torch's compiler refuses instances of torch's recurrent layers, and with them these, until
``torch._dynamo.config.allow_rnn = True``. Each layer is one node of the graph then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch, functional  # noqa: F401 (what classes and modes see of a call)
from .._call.checks import rnn_cell_of
from .._call.spec import CELLS, Variant
from .._call.weights import NAMES
from .._engine import backends
from ..regularised import Regularised, describe_regularised, take_regularised
from ..variants import ALL_OPTIONS, check_directions, describe, make_variant, take_nonlinearity
from . import graphs, regularised
from .initial_states import for_batch, new_states
from .options import Option, Registering
from .parameters import are_own, by_name
from .plan import spec_of
from .run import run_cell, run_layer

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

_CELL_OF_MODE = {name.upper(): name for name in CELLS}
_CELL_WEIGHTS = NAMES[:4]
_FORWARD = ("input", "hx", "lengths", "resets", "return_states")


class _WithOptions(Registering):
    """What layers and cells share: the options that torch's lack.

    Without options a module is what torch's constructor makes, and nothing else.
    """

    variant, regularised, forget_bias = Option(), Option(), Option()
    _fastrnn_variant: Variant | None = None
    _fastrnn_regularised: Regularised | None = None
    _fastrnn_options = ""  # of a regularised layer: all of them, for compilers
    _fastrnn_forget_bias: float | None = None
    hidden_size: int
    bias: bool

    def __init__(
        self, *args: Any, device: Any = None, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> None:
        # Named, because torch.nn.utils.skip_init takes modules with a device in their signature.
        named = {"device": device, "dtype": dtype}
        kwargs |= {name: value for name, value in named.items() if value is not None}
        options = {name: kwargs.pop(name) for name in ALL_OPTIONS if name in kwargs}
        kind = next(own.__name__ for own in type(self).__mro__ if own in _PUBLIC)
        forget_bias = options.pop("forget_bias", None) if kind in ("LSTM", "LSTMCell") else None
        nonlinearity = take_nonlinearity(options) if kind in ("RNN", "RNNCell") else None
        if nonlinearity is not None and len(args) > 3:
            args = (*args[:3], nonlinearity, *args[4:])
        elif nonlinearity is not None:
            kwargs["nonlinearity"] = nonlinearity
        of_masks = take_regularised(kind, kwargs)
        variant = make_variant(kind, options)
        super().__init__(*args, **kwargs)
        if variant is not None:
            self._fastrnn_variant = variant
            self._check_variant(variant)
            if variant.peephole:
                self._add_peepholes(len(variant.peephole))
        if of_masks is not None:
            regularised.give(self, of_masks)
        if forget_bias is not None:
            if not self.bias:
                raise ValueError(f"forget_bias: expected None with bias=False, got {forget_bias}")
            self._fastrnn_forget_bias = float(forget_bias)
            self._set_forget_bias(self._fastrnn_forget_bias)

    def _check_variant(self, variant: Variant) -> None:
        """Refuse what cannot go together."""

    def _add_peepholes(self, letters: int) -> None:
        raise NotImplementedError

    def _new_peepholes(self, name: str, like: Tensor, letters: int) -> None:
        bound = max(self.hidden_size, 1) ** -0.5
        weight = like.new_empty(letters * self.hidden_size).uniform_(-bound, bound)
        self.register_parameter(name, torch.nn.Parameter(weight))

    def _set_forget_bias(self, value: float) -> None:
        first = CELLS["lstm"].gates.index("f") * self.hidden_size
        forget = slice(first, first + self.hidden_size)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("bias_"):
                    parameter[forget] = value if name.startswith("bias_ih") else 0.0

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as the constructor did."""
        super().reset_parameters()  # type: ignore[misc]
        if self._fastrnn_regularised is not None:
            regularised.reset_norms(self)
        if self._fastrnn_forget_bias is not None:
            self._set_forget_bias(self._fastrnn_forget_bias)

    def extra_repr(self) -> str:
        options = describe(self._fastrnn_variant, self._fastrnn_forget_bias)
        own = describe_regularised(self._fastrnn_regularised)
        return ", ".join([super().extra_repr(), *options, *own])


class _Layer(_WithOptions, torch.nn.RNNBase):
    """What the three layers share."""

    initial_state = Option()
    _fastrnn_initial_state: bool = False
    _fastrnn_given: list[Any] | None = None  # weights that compute in the place of its own

    def __init__(
        self,
        *args: Any,
        initial_state: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, device=device, dtype=dtype, **kwargs)
        if initial_state:
            self._fastrnn_initial_state = True
            for name, state in new_states(self).items():
                self.register_parameter(name, torch.nn.Parameter(state))

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as the constructor did; initial states are zeros again."""
        super().reset_parameters()
        if self._fastrnn_initial_state:
            with torch.no_grad():
                for name in new_states(self):
                    getattr(self, name).zero_()

    def extra_repr(self) -> str:
        learned = ["initial_state=True"] if self._fastrnn_initial_state else []
        return ", ".join([super().extra_repr(), *learned])

    def _check_variant(self, variant: Variant) -> None:
        check_directions(variant, self.bidirectional)

    def _add_peepholes(self, letters: int) -> None:
        for names in self._all_weights:
            name = names[1].replace("weight_hh", "weight_ch")
            self._new_peepholes(name, getattr(self, names[1]), letters)
            names.append(name)
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()

    @property
    def _flat_weights(self) -> list[Any]:
        """The weights in torch's order, None for one that is missing.

        torch keeps this list and repairs it where it can; here none is kept but one that somebody
        stored with other tensors, so nothing that reads it ever sees a stale weight.
        """
        if self._fastrnn_given is not None:
            return self._fastrnn_given
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Any]) -> None:
        if are_own(self, self._flat_weights_names, weights):
            vars(self).pop("_fastrnn_given", None)
        else:
            vars(self)["_fastrnn_given"] = weights

    def _fastrnn_weights(self) -> tuple[Any, ...]:
        given = self._fastrnn_given
        return by_name(self, self._flat_weights_names) if given is None else tuple(given)

    def flatten_parameters(self) -> None:
        """Lay all weights out in one block where cuDNN may compute with them, and wants them so.

        The engine reads each weight where it lies: where it alone computes, this does nothing.
        """
        weight = self._parameters.get("weight_ih_l0")
        has_options = self._fastrnn_variant or self._fastrnn_regularised
        if weight is None or not weight.is_cuda or has_options:
            return
        if backends.may_be_torchs(weight, spec_of(self)):
            super().flatten_parameters()

    def _fastrnn_forward(
        self, input: Any, hx: Any, lengths: Any, resets: Any, return_states: bool
    ) -> tuple[Any, ...]:
        if _torch.is_fx_tracing():
            inner = input, hx, lengths, resets, return_states
            given = dict(zip(_FORWARD, inner, strict=True))
            node: tuple[Any, ...] | None = graphs.node_of(self, "_fastrnn_forward", *inner, **given)
            if node is not None:
                return node
        if hx is None and self._fastrnn_initial_state:
            hx = for_batch(self, input)
        own = self._fastrnn_regularised
        if own is not None and own.is_at_work(self.training):
            return regularised.forward(self, input, hx, lengths, resets, return_states)
        options = (
            _CELL_OF_MODE[self.mode],
            self.input_size,
            self.hidden_size,
            self.proj_size,
            self.num_layers,
            self.bias,
            self.bidirectional,
            self.dropout if self.training else 0.0,
            self._fastrnn_variant,
        )
        weights = self._fastrnn_weights()
        return run_layer(
            options, input, hx, weights, self.batch_first, lengths, resets, return_states, self
        )


class LSTM(_Layer, torch.nn.LSTM):
    """A stack of long short-term memory layers; takes the place of ``torch.nn.LSTM``.

    Constructor arguments, attributes and parameters are those of ``torch.nn.LSTM``; see there. The
    equations are in `fastrnn.reference.lstm_step`. The keywords ``activation``,
    ``recurrent_activation``, ``output_activation``, ``peephole``, ``cell_clip``, ``input_forget``,
    ``forget_bias`` and ``reverse`` come on top: see `fastrnn.variants`; and masks, zoneout and
    norms within the recurrence: see `fastrnn.regularised`. With ``initial_state=True`` the layer
    has the states that it begins with where none are given as parameters: ``h_0`` [L*D, 1, K] and
    ``c_0`` [L*D, 1, H], zeros at first.

    Compiled by ``torch.compile`` once ``torch._dynamo.config.allow_rnn`` is True.
    """

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over whole sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence.
        hx : (Tensor, Tensor), optional
            h_0 [L*D, B, K] and c_0 [L*D, B, H], without B for one sequence; if not given zeros, or
            with ``initial_state=True`` the layer's own, for every sequence.
        lengths : Tensor [B] of integers or sequence of int, optional
            The steps of each sequence, 0 to T, in any order. What lies beyond them is not read.
        resets : Tensor bool, shaped like ``input`` without its features, optional
            True at step t: nothing passes from step t - 1 to step t, in either direction.
        return_states : bool
            Return the states after every step, too.

        Returns
        -------
        output : Tensor or PackedSequence
            Like ``input``, with D*K features; zero past a sequence's length.
        (h_n, c_n) : (Tensor, Tensor)
            Final states, shaped like ``hx``, after each sequence's own last step.
        (h_all, c_all) : (Tensor, Tensor)
            Only with ``return_states``: [L*D, T, B, K] and [L*D, T, B, H], without B for one
            sequence, time first even with ``batch_first``.

        Raises
        ------
        ValueError, RuntimeError, AttributeError, TypeError, IndexError
            As `fastrnn.functional.lstm`.
        """
        return self._fastrnn_forward(input, hx, lengths, resets, return_states)


class GRU(_Layer, torch.nn.GRU):
    """A stack of gated recurrent units; takes the place of ``torch.nn.GRU``.

    Constructor arguments, attributes and parameters are those of ``torch.nn.GRU``; see there. The
    equations are in `fastrnn.reference.gru_step`. The keywords ``activation``,
    ``recurrent_activation``, ``cell_clip``, ``reset_after`` and ``reverse`` come on top: see
    `fastrnn.variants`; those of `fastrnn.regularised`; and ``initial_state``, as in `LSTM`, for
    ``h_0`` [L*D, 1, H].

    Compiled by ``torch.compile`` once ``torch._dynamo.config.allow_rnn`` is True.
    """

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over whole sequences, as `LSTM.forward` with one state [L*D, B, H]."""
        return self._fastrnn_forward(input, hx, lengths, resets, return_states)


class RNN(_Layer, torch.nn.RNN):
    """A stack of simple recurrent layers; takes the place of ``torch.nn.RNN``.

    Constructor arguments, attributes and parameters are those of ``torch.nn.RNN``; see there. The
    equations are in `fastrnn.reference.rnn_step`. The keywords ``activation``, which takes the
    place of ``nonlinearity``, ``cell_clip`` and ``reverse`` come on top: see `fastrnn.variants`;
    those of `fastrnn.regularised`; and ``initial_state``, as in `LSTM`, for ``h_0`` [L*D, 1, H].

    Compiled by ``torch.compile`` once ``torch._dynamo.config.allow_rnn`` is True.
    """

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over whole sequences, as `LSTM.forward` with one state [L*D, B, H]."""
        return self._fastrnn_forward(input, hx, lengths, resets, return_states)


class _Cell(_WithOptions, torch.nn.RNNCellBase):
    """What the three cells share."""

    def _add_peepholes(self, letters: int) -> None:
        self._new_peepholes("weight_ch", self.weight_hh, letters)

    def _fastrnn_step(self, cell: str, input: Any, hx: Any) -> Any:
        if _torch.is_fx_tracing():
            node = graphs.node_of(self, "_fastrnn_step", cell, input, hx, input=input, hx=hx)
            if node is not None:
                return node
        own = self._fastrnn_regularised
        if own is not None and own.is_at_work(self.training):
            return regularised.step(self, cell, input, hx)
        w_ch = None if self._fastrnn_variant is None else getattr(self, "weight_ch", None)
        weights: Any = by_name(self, _CELL_WEIGHTS)
        sizes = self.input_size, self.hidden_size
        return run_cell(cell, input, hx, weights, w_ch, self._fastrnn_variant, sizes, self)


class LSTMCell(_Cell, torch.nn.LSTMCell):
    """One step of long short-term memory; takes the place of ``torch.nn.LSTMCell``.

    The equations are in `fastrnn.reference.lstm_step`. Takes the options of `LSTM` but for
    ``reverse``.
    """

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run one step.

        Parameters
        ----------
        input : Tensor
            [B, I], or [I] for one sequence.
        hx : (Tensor, Tensor), optional
            h and c, both [B, H], or [H] for one sequence; zeros if not given.

        Returns
        -------
        (h', c') : (Tensor, Tensor)
            The next states.

        Raises
        ------
        ValueError, RuntimeError, AttributeError, TypeError
            As `fastrnn.functional.lstm_cell`.
        """
        pair: tuple[Tensor, Tensor] = self._fastrnn_step("lstm", input, hx)
        return pair


class GRUCell(_Cell, torch.nn.GRUCell):
    """One step of a gated recurrent unit; takes the place of ``torch.nn.GRUCell``.

    The equations are in `fastrnn.reference.gru_step`. Takes the options of `GRU` but for
    ``reverse``.
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Run one step, as `LSTMCell.forward` with one state [B, H] or [H]."""
        h: Tensor = self._fastrnn_step("gru", input, hx)
        return h


class RNNCell(_Cell, torch.nn.RNNCell):
    """One step of a simple recurrent cell; takes the place of ``torch.nn.RNNCell``.

    The equations are in `fastrnn.reference.rnn_step`. Takes the options of `RNN` but for
    ``reverse``.
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Run one step, as `LSTMCell.forward` with one state [B, H] or [H]."""
        h: Tensor = self._fastrnn_step(rnn_cell_of(self.nonlinearity), input, hx)
        return h


_PUBLIC = (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell)
for _class in _PUBLIC:
    _class.__module__ = "fastrnn"  # pickles name the package and not the room
