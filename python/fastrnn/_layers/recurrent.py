"""`Recurrent`: a stack of layers of a cell that is a program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .._call import checks, program_inputs, program_states
from .._call.arguments import batch_of
from .._call.weights import name_of
from . import graphs
from .cell import Cell
from .of_program import OfProgram
from .plan import Options
from .run import run_layer

__all__ = ["Recurrent"]


class Recurrent(OfProgram):
    """A stack of layers of any cell, in one direction or both.

    Parameters
    ----------
    cell : Cell or type of one
        What a step computes; a type is called without arguments.
    input_size, hidden_size : int
        I and H.
    num_layers, bias, batch_first, dropout, bidirectional
        As in ``torch.nn.LSTM``.
    num_heads : int, optional
        Blocks on the diagonal of the recurrent weights, of a cell with ``recurrent = "heads"``.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    weight_ih_l0 : Parameter [G * H, I]
        Rows by gate in the order of ``cell.gates``; [G * H, D * H] in later layers, which are named
        as torch names them: ``weight_ih_l1``, and ``weight_ih_l0_reverse`` of the other direction.
    weight_hh_l0 : Parameter [G * H, H]
        [heads, G * H / heads, H / heads] with heads: the rows of a block by gate, too. Absent
        without a recurrent product.
    bias_ih_l0, bias_hh_l0 : Parameter [G * H]
        Only with ``bias``, the second only with ``weight_hh_l0``.
    <vector>_l0 : Parameter
        One for each of the cell's vectors: [H], [G * H] or [1].
    program : Program
        What the cell was traced to; ``print(rnn.program.text)`` shows it.

    Raises
    ------
    TypeError
        The cell uses an operation that there is not, or Python's control flow on a value.
    ValueError
        A size is out of range, or a declaration, a name or a shape of the cell's is wrong.
    """

    def __init__(
        self,
        cell: Cell | type[Cell],
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        num_heads: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, num_heads)
        _check_dropout(dropout, num_layers)
        checks.check_sizes(input_size, hidden_size, 0, num_layers, dropout)
        taken = _FORWARD & set(self._inputs)
        if taken:
            raise ValueError(f"inputs: {min(taken)!r} is an argument of every layer's already")
        self.num_layers, self.batch_first = num_layers, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        directions = 2 if bidirectional else 1
        for place, suffix in enumerate(self._suffixes()):
            size = input_size if place < directions else directions * hidden_size
            self._register(size, suffix, device=device, dtype=dtype)
        self.reset_parameters()

    def _suffixes(self) -> Sequence[str]:
        directions = range(2 if self.bidirectional else 1)
        return [name_of("", layer, d) for layer in range(self.num_layers) for d in directions]

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | Sequence[Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        return_states: bool = False,
        **inputs: Any,
    ) -> tuple[Any, ...]:
        """Run the layers over whole sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence.
        hx : Tensor or sequence of Tensor, optional
            The states that the layers begin with, each [L*D, B, H], without B for one sequence: one
            Tensor, or one for each of the cell's states in their order. If not given, zeros or what
            the cell's ``initial`` says.
        lengths : Tensor [B] of integers or sequence of int, optional
            The steps of each sequence, 0 to T, in any order. What lies beyond them is not read.
        resets : Tensor bool, shaped like ``input`` without its features, optional
            True at step t: nothing passes from step t - 1 to step t, in either direction, which
            begins anew with zeros or what the cell's ``initial`` says.
        return_states : bool
            Return the states after every step, too.
        **inputs : Tensor or PackedSequence
            The cell's per-step inputs by name, each shaped like ``input`` without its features, one
            number for a row, or with H numbers there, one for each unit. Every layer sees them.

        Returns
        -------
        output : Tensor or PackedSequence
            Like ``input``, with D*H features; zero past a sequence's length.
        states : Tensor or tuple of Tensor
            Final states, as ``hx``, after each sequence's own last step.
        all_states : Tensor or tuple of Tensor
            Only with ``return_states``: each [L*D, T, B, H], without B for one sequence, time first
            even with ``batch_first``.

        Raises
        ------
        TypeError
            An input that the cell names is missing, or another was given.
        ValueError, RuntimeError, AttributeError, TypeError, IndexError
            As `fastrnn.functional.lstm`.
        """
        program_inputs.check_names(self._inputs, inputs, "Recurrent.forward")
        return self._fastrnn_forward(input, hx, lengths, resets, return_states, inputs)

    def _fastrnn_forward(
        self,
        input: Any,
        hx: Any,
        lengths: Any,
        resets: Any,
        return_states: bool,
        inputs: dict[str, Any],
    ) -> tuple[Any, ...]:
        if _torch.is_fx_tracing():
            inner = input, hx, lengths, resets, return_states, inputs
            known = dict(zip(_ORDER, inner, strict=False))
            node: tuple[Any, ...] | None = graphs.node_of(
                self, "_fastrnn_forward", *inner, **known, **inputs
            )
            if node is not None:
                return node
        hx = self._states(input, hx)
        text = self._text
        if inputs:
            checks.check_rank(_data_of(input), text, (2, 3))
            text, input = self._with_inputs(input, inputs)
        output, *states = self._run(text, input, hx, lengths, resets, return_states)
        return output, *(program_states.apart(self.program, each) for each in states)

    def _run(
        self, text: str, input: Any, hx: Any, lengths: Any, resets: Any, return_states: bool
    ) -> tuple[Any, ...]:
        """A call of the program with this text, with states as h and c."""
        options = self._layer_options(text)
        weights = self._weights()
        return run_layer(
            options, input, hx, weights, self.batch_first, lengths, resets, return_states
        )

    def _layer_options(self, text: str) -> Options:
        return (
            text,
            self.input_size,
            self.hidden_size,
            0,
            self.num_layers,
            self.bias,
            self.bidirectional,
            self.dropout if self.training else 0.0,
            None,
        )

    def _states(self, input: Any, hx: Any) -> Any:
        """h, or (h, c), that a call begins with; None for zeros."""
        if hx is None and not any(self.program.initial):
            return None
        data = _data_of(input)
        if not isinstance(data, Tensor):
            return None  # to be refused
        count = self.num_layers * (2 if self.bidirectional else 1)
        form = "batched 3-D"
        shape: tuple[int, ...]
        if isinstance(input, PackedSequence):
            first = hx if hx is None or isinstance(hx, Tensor) else hx[0]
            batch = batch_of(data, first, False, input.batch_sizes, input.sorted_indices)
            shape = count, batch, self.hidden_size
        elif data.dim() == 3:
            shape = count, data.shape[0 if self.batch_first else 1], self.hidden_size
        elif data.dim() == 2:
            form, shape = "unbatched 2-D", (count, self.hidden_size)
        else:
            return None  # to be refused
        if hx is None:
            return program_states.initial(self.program, shape, data)
        return program_states.given(self.program, hx, shape, data, form=form)

    def _options(self) -> list[str]:
        defaults = {"num_layers": 1, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        own = {name: getattr(self, name) for name in defaults}
        return [f"{name}={own[name]}" for name, value in defaults.items() if own[name] != value]


def _data_of(input: Any) -> Any:
    return input.data if isinstance(input, PackedSequence) else input


def _check_dropout(dropout: Any, num_layers: int) -> None:
    """ValueError for what is no probability, and a warning where it does nothing, as torch's."""
    number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element "
            f"being zeroed, got {dropout!r}"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and num_layers=1",
            stacklevel=3,
        )


_ORDER = ("input", "hx", "lengths", "resets", "return_states")
_FORWARD = {*_ORDER, "self"}

Recurrent.__module__ = "fastrnn"  # pickles name the package and not the room
