"""torch's cells with the options of `fastrnn.regularised`, around the methods of those without."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch

from .. import _torch
from .._program.norms import layer_norm, rms_norm
from .._program.tracing import trace
from . import written
from .regularised import Parts
from .spec import CELLS, Variant

__all__ = ["GRU", "LSTM", "RNN", "program_of"]


class _Regularised:
    """Norms of the shares, masks of the recurrent dropout, zoneout.

    Masks are states that a call keeps, or inputs of every step; no gradient flows to them.
    """

    gates: str
    late: Any
    states: str
    vectors: dict[str, str]

    def __init__(self, cell: str, variant: Variant, parts: Parts) -> None:
        super().__init__(cell, variant)  # type: ignore[call-arg]
        self.parts = parts
        letters = "".join(self.gates.split())
        held = parts.held(letters)
        self.states = " ".join([self.states, *held])
        self.held = " ".join(held)
        self.inputs = " ".join(parts.inputs(letters))
        self.vectors = {**self.vectors, **parts.vectors()}
        self.reset_before = bool(self.late)
        if parts.on == "h" and parts.separate:
            self.late = list(letters)
        elif parts.on == "h":
            first = " ".join(letters.replace(self.late, "") if self.reset_before else letters)
            self.late = [first, self.late] if self.reset_before else [first]

    def mask(self, name: str, s: Any, p: Any) -> Any:
        return getattr(p if self.parts.per_step else s, name).detach()

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int = 0) -> Any:
        gates = self.late[stage] if isinstance(self.late, list) else self.late
        if self.parts.on == "h":
            name = f"mask_{gates}" if self.parts.separate else "mask_h"
            s = SimpleNamespace(h=s.h * self.mask(name, s, p))
        if not (self.reset_before and gates == "n"):
            return s.h
        return super().operand(*self.shares(x, u, p), s, p)  # type: ignore[misc]

    def shares(self, x: Any, u: Any, p: Any) -> tuple[Any, Any]:
        """What enters the gates: the two shares, as far as there are any, with their norms."""
        norm = rms_norm if self.parts.centred else layer_norm
        if self.parts.norm_input:
            normed = self.normalised(x, "norm_ih_weight", norm, p)
            if self.parts.moved:
                normed = {g: one + getattr(p.norm_ih_bias, g) for g, one in normed.items()}
            x = SimpleNamespace(**normed)
        if not (self.parts.norm or self.parts.shifted):
            return x, u
        of_gates = {gate: getattr(u, gate) for gate in self.gates.split() if gate in dir(u)}
        if self.parts.norm:
            of_gates = self.normalised(u, "norm_hh_weight", norm, p)
        if self.parts.shifted and "n" in of_gates:
            of_gates["n"] = of_gates["n"] + p.shift_n
        return x, SimpleNamespace(**of_gates)

    def normalised(self, share: Any, weight: str, norm: Any, p: Any) -> dict[str, Any]:
        """The gates that a share has, by name."""
        parts, gates = self.parts, [gate for gate in self.gates.split() if gate in dir(share)]
        values = [getattr(share, gate) for gate in gates]
        gamma = [getattr(getattr(p, weight), gate) if parts.gamma else 1 for gate in gates]
        if parts.norm_over == "all":
            return dict(zip(gates, norm(values, gamma, None, parts.eps), strict=True))
        each = zip(gates, values, gamma, strict=True)
        return {gate: norm(value, own, None, parts.eps) for gate, value, own in each}

    def candidate(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        candidate = super().candidate(x, u, s, p)  # type: ignore[misc]
        on = self.parts.on == "candidate"
        return candidate * self.mask("mask_candidate", s, p) if on else candidate

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        new = super().step(*self.shares(x, u, p), s, p)  # type: ignore[misc]
        return {name: self.zoned(name, getattr(s, name), value, p) for name, value in new.items()}

    def zoned(self, name: str, before: Any, after: Any, p: Any) -> Any:
        """A state after the step, of which zoneout may have kept what was there before."""
        rate = getattr(self.parts, f"zoneout_{name}")
        if not rate:
            return after
        if not self.parts.drawn:
            return rate * before + (1 - rate) * after
        return torch.where(getattr(p, f"zoneout_{name}") != 0, before, after)


class LSTM(_Regularised, written.LSTM):
    """Its cell state may be normalised as well, where it is shown or for good."""

    def cell_norm(self, c: Any, p: Any) -> Any:
        gamma = p.norm_cell_weight if self.parts.gamma else 1
        return layer_norm(c, gamma, p.norm_cell_bias if self.parts.beta_cell else 0, self.parts.eps)

    def carry(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        c = super().carry(x, u, s, p)
        return self.cell_norm(c, p) if self.parts.norm_cell == "carried" else c

    def shown(self, c: Any, p: Any) -> Any:
        return self.cell_norm(c, p) if self.parts.norm_cell == "inside" else c


class GRU(_Regularised, written.GRU):
    """Its reset gate meets the masked state, and the update gate the state itself."""


class RNN(_Regularised, written.RNN):
    """A single gate, whose operand may be masked."""


_CELLS: dict[str, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


@lru_cache(maxsize=256)
def _text(cell: str, variant: tuple[Any, ...], parts: tuple[Any, ...]) -> str:
    own = _CELLS[CELLS[cell].kind](cell, Variant(*variant), Parts(*parts))
    return trace(own, [True] * len(own.inputs.split())).text


def program_of(cell: str, variant: tuple[Any, ...], parts: tuple[Any, ...]) -> str:
    """The text of the program of one of torch's cells with a `Variant` and `Parts`, as tuples.

    In which direction a layer goes is no matter of its cell's.
    """
    if torch.compiler.is_dynamo_compiling():  # rates, eps and clip are in the text
        variant, parts = (tuple(map(_torch.constant, each)) for each in (variant, parts))
    return _program_of(cell, variant, parts)


@_torch.constant_to_compilers  # trace no cells there
def _program_of(cell: str, variant: tuple[Any, ...], parts: tuple[Any, ...]) -> str:
    return _text(cell, variant, parts)
