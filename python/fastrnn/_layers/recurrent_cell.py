"""`RecurrentCell`: a single step of a cell that is a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call import checks, program_inputs, program_states
from . import graphs
from .cell import Cell
from .of_program import OfProgram
from .run import run_program_step, run_program_step_directly

__all__ = ["RecurrentCell"]


class RecurrentCell(OfProgram):
    """One step of any cell.

    Parameters and errors are those of `Recurrent` as far as a single step has them; the parameters
    are called ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, and as the cell's vectors.
    """

    def __init__(
        self,
        cell: Cell | type[Cell],
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        num_heads: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, num_heads)
        checks.check_sizes(input_size, hidden_size, 0, 1, 0.0)
        self._register(input_size, "", device=device, dtype=dtype)
        self.reset_parameters()

    def forward(
        self, input: Tensor, hx: Tensor | Sequence[Tensor] | None = None, **inputs: Any
    ) -> Any:
        """Run one step.

        Parameters
        ----------
        input : Tensor
            [B, I], or [I] for one sequence.
        hx : Tensor or sequence of Tensor, optional
            The states before, each [B, H], or [H] for one sequence: one Tensor, or one for each of
            the cell's states in their order. If not given, zeros or what ``initial`` says.
        **inputs : Tensor
            The cell's per-step inputs by name, each [B] or [B, H], or [] or [H] for one sequence.

        Returns
        -------
        states : Tensor or tuple of Tensor
            The states after, as ``hx``. Of a cell with ``output`` (output [B, H], states).

        Raises
        ------
        ValueError, RuntimeError, AttributeError, TypeError, IndexError
            As `fastrnn.functional.lstm_cell`; a TypeError also where an input that the cell names
            is missing, or another was given.
        """
        program_inputs.check_names(self._inputs, inputs, "RecurrentCell.forward")
        return self._fastrnn_forward(input, hx, inputs)

    def _fastrnn_forward(self, input: Any, hx: Any, inputs: dict[str, Any]) -> Any:
        if _torch.is_fx_tracing():
            node = graphs.node_of(
                self, "_fastrnn_forward", input, hx, inputs, input=input, hx=hx, **inputs
            )
            if node is not None:
                return node
        program, new = self.program, None
        if not inputs and program_states.are_as_given(program, hx):
            new = self._run_directly(input, hx)
        if new is None:
            new = self._run_checked(input, hx, inputs)
        states = program_states.apart(program, new)
        return states if program.output is None else (new[0], states)

    def _run_checked(self, input: Any, hx: Any, inputs: dict[str, Any]) -> Any:
        """What the program returns, h or (h, c), for the arguments of `forward`."""
        text, program = self._text, self.program
        checks.check_rank(input, text, (1, 2), "Cell")
        shape = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            hx = program_states.initial(program, shape, input)
        else:
            hx = program_states.given(program, hx, shape, input)
        if inputs:
            text, input = self._with_inputs(input, inputs)
        return self._run(text, input, hx)

    def _sizes(self) -> tuple[int, int, bool]:
        return self.input_size, self.hidden_size, bool(self.bias)

    def _run_directly(self, input: Any, hx: Any) -> Any:
        """A step by the short way, with states as h and c; None if this call is none for it."""
        return run_program_step_directly(self._text, self._sizes(), input, hx, self._weights())

    def _run(self, text: str, input: Any, hx: Any) -> Any:
        """A step of the program with this text, with states as h and c."""
        return run_program_step(text, self._sizes(), input, hx, self._weights())


RecurrentCell.__module__ = "fastrnn"  # pickles name the package and not the room
