"""A program on torch's tensors: differentiable, on any device and in any dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .operations import OPERATIONS
from .program import Program

__all__ = ["step"]


class _Weights(Protocol):
    """What a step reads of `fastrnn._call.weights.Weights`."""

    @property
    def w_ih(self) -> Tensor: ...
    @property
    def w_hh(self) -> Tensor | None: ...
    @property
    def b_ih(self) -> Tensor | None: ...
    @property
    def b_hh(self) -> Tensor | None: ...
    @property
    def w_hr(self) -> Tensor | None: ...
    @property
    def w_ch(self) -> Tensor | None: ...


def step(
    program: Program, x: Tensor, states: Sequence[Tensor], weights: _Weights
) -> tuple[Tensor, ...]:
    """One step of a program.

    Parameters
    ----------
    program : Program
    x : Tensor [B, I + E]
        The step's input; behind its features the per-step inputs in order, each 1 or H wide.
    states : sequence of Tensor [B, H]
        The `Program.internal_states` before the step; the first is [B, P] with a projection.
    weights : fastrnn._call.weights.Weights
        w_ih [G * H, I], w_hh [G * H, H] or [heads, G * H / heads, H / heads], b_ih, b_hh [G * H],
        w_ch [V * H]; gates, or vectors, one after the other. No ``w_hh`` without a recurrent
        product. With a projection w_hr [P, H], and then w_hh is [G * H, P].

    Returns
    -------
    tuple of Tensor [B, H]
        The `Program.internal_states` after it. The first is the output, [B, P] with a projection.
    """
    return _Step(program, x, states, weights).results()


class _Step:
    def __init__(
        self, program: Program, x: Tensor, states: Sequence[Tensor], weights: _Weights
    ) -> None:
        self.program, self.weights = program, weights
        self.shape = x.shape[0], weights.w_ih.shape[0] // len(program.gates)
        self.own = list(states[len(states) - len(program.states) :])
        features = weights.w_ih.shape[1]
        gates = torch.nn.functional.linear(x[:, :features], weights.w_ih, weights.b_ih)
        self.sources = self._by_gate("x", gates)
        self.sources |= {("s", n): v for n, v in zip(program.states, self.own, strict=True)}
        if weights.w_ch is not None:
            blocks = weights.w_ch.reshape(len(program.vector_slots), -1)
            names = zip(program.vector_slots, blocks, strict=True)
            self.sources |= {("p", name): block for name, block in names}
        self._add_inputs(x[:, features:])
        self.values: dict[int, Tensor] = {}

    def _by_gate(self, kind: str, gates: Tensor) -> dict[tuple[str, str], Tensor]:
        blocks = gates.chunk(len(self.program.gates), -1)
        return {(kind, g): b for g, b in zip(self.program.gates, blocks, strict=True)}

    def _add_inputs(self, extras: Tensor) -> None:
        at = 0
        for name, per_unit in self.program.inputs:
            width = self.shape[-1] if per_unit else 1
            self.sources["e", name] = extras[:, at : at + width]
            at += width

    def results(self) -> tuple[Tensor, ...]:
        operands = [None, *self.program.operands]
        for gates, operand in zip(self.program.products, operands, strict=True):
            if gates:
                meets = self.own[0] if operand is None else self._value(operand)
                self._multiply(gates, meets)
        h, *others = (self._value(result) for result in self.program.internal_results)
        w_hr = self.weights.w_hr
        return (h if w_hr is None else h @ w_hr.t()), *others

    def _multiply(self, gates: Sequence[str], operand: Tensor) -> None:
        """Add a product's gates to the sources."""
        w_hh, b_hh = self.weights.w_hh, self.weights.b_hh
        assert w_hh is not None
        G, heads = len(self.program.gates), self.program.heads
        rows = [self.program.gates.index(gate) for gate in gates]
        blocks = _selected(w_hh.reshape(heads, G, -1, w_hh.shape[-1]), rows, 1)
        inner = operand.reshape(-1, heads, w_hh.shape[-1])
        shares = torch.einsum("bhk,hgjk->gbhj", inner, blocks).reshape(len(rows), *self.shape)
        if b_hh is not None:
            shares = shares + _selected(b_hh.reshape(G, 1, -1), rows, 0)
        self.sources |= {("u", gate): share for gate, share in zip(gates, shares, strict=True)}

    def _value(self, result: int) -> Tensor:
        """Of a node, for every row and unit."""
        return self._computed(result).expand(self.shape)

    def _computed(self, result: int) -> Tensor:
        waiting = [result]
        while waiting:
            index = waiting[-1]
            node = self.program.nodes[index]
            missing = [one for one in node.operands if one not in self.values]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            self.values[index] = self._evaluated(index)
        return self.values[result]

    def _evaluated(self, index: int) -> Tensor:
        node = self.program.nodes[index]
        if node.operation == "constant":
            return self.own[0].new_full((), node.value)
        if not node.operands:
            return self.sources[node.operation, node.name]
        operands = [self.values[one] for one in node.operands]
        if node.operation == "row_sum":
            return operands[0].expand(self.shape).sum(-1, keepdim=True)
        return OPERATIONS[node.operation].tensors(*operands)


def _selected(tensor: Tensor, rows: Sequence[int], dim: int) -> Tensor:
    """Some rows, in order, without a tensor of indices, which no exported graph has a place for."""
    if len(rows) == tensor.shape[dim]:
        return tensor
    return torch.stack([tensor.select(dim, row) for row in rows], dim)
