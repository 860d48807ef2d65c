"""torch's cells as their options have them, written like a user's and traced to a program.

The methods are ordinary torch code, as those of a `fastrnn.Cell`, and get the same: x and u, the
two shares of a pre-activation, s, the states before, and p, the vectors. `fastrnn.reference` has
the equations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

from .._program.tracing import trace
from .activations import own_activation, parse_activation
from .spec import CELLS, Variant

__all__ = ["GRU", "LSTM", "RNN", "activate", "program_of", "written"]


def _hard_sigmoid(a: Any, alpha: float, beta: float) -> Any:
    return torch.clamp(alpha * a + beta, 0, 1)


_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_onnx": _hard_sigmoid,
    "softsign": F.softsign,
    "softplus": F.softplus,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "identity": lambda a: a,
    "affine": lambda a, alpha, beta: alpha * a + beta,
    "scaled_tanh": lambda a, alpha, beta: alpha * torch.tanh(beta * a),
    "thresholded_relu": lambda a, alpha: torch.where(a <= alpha, 0, a),
}


def activate(name: str, a: Any) -> Any:
    """The activation of that name in `fastrnn.variants.ACTIVATIONS`, of a value of a cell."""
    kind, parameters = parse_activation(name)
    return _ACTIVATIONS[kind](a, *parameters)


class _Written:
    """What the cells have in common: from two shares to what a gate is."""

    states = "h"
    late = ""

    def __init__(self, cell: str, variant: Variant) -> None:
        self.gates = " ".join(CELLS[cell].gates)
        self.variant = variant
        self.own = own_activation(cell, variant)
        self.vectors: dict[str, str] = {}

    def pre(self, gate: str, x: Any, u: Any, s: Any, p: Any) -> Any:
        """The pre-activation of a gate that adds its two shares."""
        return getattr(x, gate) + getattr(u, gate)

    def limited(self, a: Any) -> Any:
        """A pre-activation as an activation gets it."""
        clip = self.variant.cell_clip
        return torch.clamp(a, -clip, clip) if clip else a

    def activated(self, name: str, a: Any) -> Any:
        """The activation of that name of a pre-activation."""
        return activate(name, self.limited(a))

    def gate(self, gate: str, x: Any, u: Any, s: Any, p: Any) -> Any:
        return self.activated(self.variant.recurrent_activation, self.pre(gate, x, u, s, p))


class LSTM(_Written):
    """i, f, g and o, each of which may see the cell state through a vector ``w_c<gate>``."""

    states = "h c"

    def __init__(self, cell: str, variant: Variant) -> None:
        super().__init__(cell, variant)
        self.vectors = {f"w_c{letter}": "unit" for letter in variant.peephole}

    def seeing(self, gate: str, a: Any, c: Any, p: Any) -> Any:
        """A pre-activation, and what its gate sees of a cell state."""
        return a + getattr(p, f"w_c{gate}") * c if gate in self.variant.peephole else a

    def pre(self, gate: str, x: Any, u: Any, s: Any, p: Any) -> Any:
        a = super().pre(gate, x, u, s, p)
        return a if gate == "o" else self.seeing(gate, a, s.c, p)

    def candidate(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return self.activated(self.own, self.pre("g", x, u, s, p))

    def carry(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        """The new cell state."""
        i = self.gate("i", x, u, s, p)
        f = 1 - i if self.variant.input_forget else self.gate("f", x, u, s, p)
        return f * s.c + i * self.candidate(x, u, s, p)

    def put_out(self, c: Any, x: Any, u: Any, s: Any, p: Any) -> Any:
        """The new hidden state, of the new cell state."""
        a = self.seeing("o", self.pre("o", x, u, s, p), c, p)
        o = self.activated(self.variant.recurrent_activation, a)
        return o * activate(self.variant.output_activation, self.shown(c, p))

    def shown(self, c: Any, p: Any) -> Any:
        """What the activation of the output gets of the cell state."""
        return c

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        c = self.carry(x, u, s, p)
        return {"h": self.put_out(c, x, u, s, p), "c": c}


class GRU(_Written):
    """r, z and n, with r after the product of n or before it."""

    def __init__(self, cell: str, variant: Variant) -> None:
        super().__init__(cell, variant)
        self.late = "" if variant.reset_after else "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return self.gate("r", x, u, s, p) * s.h

    def candidate(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        after = self.variant.reset_after
        share = self.gate("r", x, u, s, p) * u.n if after else u.n
        return self.activated(self.own, x.n + share)

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z = self.gate("z", x, u, s, p)
        return {"h": (1 - z) * self.candidate(x, u, s, p) + z * s.h}


class RNN(_Written):
    """A single gate, which is the new state."""

    def candidate(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return self.activated(self.own, self.pre("h", x, u, s, p))

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": self.candidate(x, u, s, p)}


_CELLS: dict[str, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def written(cell: str, variant: Variant) -> LSTM | GRU | RNN:
    """One of torch's cells, by its name in a `Spec`, with these options."""
    return _CELLS[CELLS[cell].kind](cell, variant)


@lru_cache(maxsize=256)
def program_of(cell: str, variant: Variant) -> str:
    """The text of the program that computes one of torch's cells with these options.

    In which direction a layer goes is no matter of its cell's.
    """
    return trace(written(cell, variant)).text
