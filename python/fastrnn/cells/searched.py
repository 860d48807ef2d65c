"""Cells that a search among many has found."""

from __future__ import annotations

from typing import Any

import torch

from .._layers.cell import Cell
from .initial import Parameters, identity

__all__ = ["MUT1", "MUT2", "MUT3", "NAS"]


class MUT1(Cell):
    """First of the mutants. Jozefowicz, Zaremba & Sutskever 2015, PMLR 37.

    ::

        z = sigmoid(W_z x + b_z)
        r = sigmoid(W_r x + U_r h' + b_r)
        n = tanh(U_n (r h') + tanh(W_n x) + b_n)
        h = z n + (1 - z) h'

    The paper has tanh(x), so as many features as units; here W_n begins as the identity where that
    is so.
    """

    gates = "z r n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z), torch.tanh(u.n + torch.tanh(x.n))
        return {"h": z * n + (1 - z) * s.h}

    def reset_parameters(self, parameters: Parameters) -> None:
        identity(self, parameters, "n")


class MUT2(Cell):
    """Second of the mutants. Jozefowicz, Zaremba & Sutskever 2015, PMLR 37.

    ::

        z = sigmoid(W_z x + U_z h' + b_z)
        r = sigmoid(W_r x + U_r h' + b_r)
        n = tanh(W_n x + U_n (r h') + b_n)
        h = z n + (1 - z) h'

    The paper has x in the place of W_r x, so as many features as units; here W_r begins as the
    identity where that is so.
    """

    gates = "z r n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z + u.z), torch.tanh(x.n + u.n)
        return {"h": z * n + (1 - z) * s.h}

    def reset_parameters(self, parameters: Parameters) -> None:
        identity(self, parameters, "r")


class MUT3(Cell):
    """Third of the mutants. Jozefowicz, Zaremba & Sutskever 2015, PMLR 37.

    ::

        z = sigmoid(W_z x + U_z tanh(h') + b_z)
        r = sigmoid(W_r x + U_r h' + b_r)
        n = tanh(W_n x + U_n (r h') + b_n)
        h = z n + (1 - z) h'
    """

    gates = "z r n"
    late = ["z", "n"]

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        return torch.tanh(s.h) if stage == 0 else torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z, n = torch.sigmoid(x.z + u.z), torch.tanh(x.n + u.n)
        return {"h": z * n + (1 - z) * s.h}


class NAS(Cell):
    """The cell of neural architecture search. Zoph & Le 2016, arXiv 1611.01578, appendix.

    With a_k = W_k x + U_k h' + b_k::

        l = tanh(sigmoid(a_0) relu(a_1))                   m = tanh(sigmoid(a_2) + relu(a_3))
        n = tanh(tanh(a_4) sigmoid(a_5))                   o = sigmoid(tanh(a_6) + sigmoid(a_7))
        c = tanh(l + c') m
        h = tanh(c tanh(n + o))

    As TensorFlow's ``NASCell``.
    """

    gates = "a0 a1 a2 a3 a4 a5 a6 a7"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        leaves = torch.tanh(torch.sigmoid(x.a0 + u.a0) * torch.relu(x.a1 + u.a1))
        m = torch.tanh(torch.sigmoid(x.a2 + u.a2) + torch.relu(x.a3 + u.a3))
        n = torch.tanh(torch.tanh(x.a4 + u.a4) * torch.sigmoid(x.a5 + u.a5))
        o = torch.sigmoid(torch.tanh(x.a6 + u.a6) + torch.sigmoid(x.a7 + u.a7))
        c = torch.tanh(leaves + s.c) * m
        return {"h": torch.tanh(c * torch.tanh(n + o)), "c": c}
