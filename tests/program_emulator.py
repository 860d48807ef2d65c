"""What the engine does with a lowered program, step by step in plain torch operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrnn._program.lowering import engine_arguments
from fastrnn._program.program import Program

BINARY: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "lt": lambda a, b: (a < b).double(),
    "le": lambda a, b: (a <= b).double(),
    "eq": lambda a, b: (a == b).double(),
    "d_sigmoid": lambda a, b: a * b * (1 - b),
    "d_tanh": lambda a, b: a * (1 - b * b),
    "d_relu": lambda a, b: torch.where(b <= 0, 0.0, a),
}
UNARY: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in ("neg", "exp", "expm1", "log", "log1p", "sqrt")},
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "sin", "cos", "erf", "abs")},
    **{name: getattr(torch, name) for name in ("sign", "relu", "reciprocal")},
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "one_minus": lambda a: 1 - a,
    "spread": lambda a: a,
}
TERNARY: dict[str, Callable[..., Tensor]] = {
    "where": lambda a, b, c: torch.where(a != 0, b, c),
    "fma": lambda a, b, c: a * b + c,
}


class Step:
    """One step of a lowered program, forward and then backward.

    Every value is [B, H] in float64. Backward starts from the gradients of all new states and adds
    to those of the weights.
    """

    def __init__(self, program: Program, H: int, weights: Any) -> None:
        self.own = engine_arguments(program, H)
        self.program, self.H, self.weights = program, H, weights
        self.gates = list(self.own["gate_of_slot"])

    def blocks(self, slots: range) -> Tensor:
        """The recurrent weights of some slots: [slots, H, H], zero beyond a head's own block."""
        G, heads = self.own["gates"], self.own["heads"]
        parts = self.weights.w_hh.reshape(heads, G, self.H // heads, self.H // heads)
        return torch.stack([torch.block_diag(*parts[:, self.gates[slot]]) for slot in slots])

    def slots_of(self, product: int) -> range:
        first, count = self.own["products"][product]
        return range(first, first + count)

    def input_slots(self) -> range:
        first, count = self.own["input_slots"]
        return range(first, first + count)

    def forward(self, x: Tensor, states: Sequence[Tensor], saving: bool) -> list[Tensor]:
        self.x, self.before, self.saving = x, list(states), saving
        self.features = self.weights.w_ih.shape[1]
        G, H, B = self.own["gates"], self.H, x.shape[0]
        self.input = (x[:, : self.features] @ self.weights.w_ih.T + self.weights.b_ih).reshape(
            B, G, H
        )
        self.hidden: dict[int, Tensor] = {}
        self.operand: dict[int, Tensor] = {0: states[0]}
        self.new: dict[int, Tensor] = {}
        self.kept: dict[int, Tensor] = {}
        self.sums: dict[int, Tensor] = {}
        self.stage_of_input: int | None = None
        for number, stage in enumerate(self.own["forward_saving" if saving else "forward"]):
            if stage[0] >= 0:
                self._multiply(stage[0])
            self._run(stage, self._forward_source, self._forward_sink, number)
            self.hidden = {}
        count = self.own["states"]
        self.new |= {k: self.before[k] for k in range(count - self.own["held"], count)}
        return [self.new[k] for k in range(count)]

    def _multiply(self, product: int) -> None:
        slots = self.slots_of(product)
        shares = torch.einsum("bk,sjk->sbj", self.operand[product], self.blocks(slots))
        biases = self.weights.b_hh.reshape(self.own["gates"], self.H)
        for slot, share in zip(slots, shares, strict=True):
            # An input slot's bias, both of them, belongs to the input's share.
            both = slot in self.input_slots()
            self.hidden[slot] = share if both else share + biases[self.gates[slot]]

    def _run(self, stage: Any, source: Any, sink: Any, number: int) -> None:
        _, registers, code = stage
        held: list[Any] = [None] * registers
        added: dict[int, Tensor] = {}
        for name, to, a, b, c in code:
            if name == "each_unit":
                continue
            if name in UNARY:
                held[to] = UNARY[name](held[a])
            elif name in BINARY:
                held[to] = BINARY[name](held[a], held[b])
            elif name in TERNARY:
                held[to] = TERNARY[name](held[a], held[b], held[c])
            elif name == "add_to_sum":
                added[to] = held[a].sum(1, keepdim=True).expand(-1, self.H)
            elif not sink(name, to, held[a] if registers and a < registers else None):
                held[to] = source(name, a, number)
        self.sums |= added

    def _common_source(self, name: str, a: int) -> Tensor:
        full = self.before[0].new_zeros(self.before[0].shape)
        if name == "constant":
            return full + self.own["constants"][a]
        if name == "state":
            return self.before[a]
        if name == "vector":
            return full + self.weights.w_ch.reshape(-1, self.H)[a]
        if name == "extra":
            offset, per_unit = self.own["extras"][a]
            first = self.features + offset
            return full + self.x[:, first : first + (self.H if per_unit else 1)]
        if name == "sum":
            return self.sums[a]
        return {"kept": self.kept, "temp": getattr(self, "temps", {})}[name][a]

    def _input(self, slot: int) -> Tensor:
        gate = self.gates[slot]
        share = self.input[:, gate]
        there = any(slot in self.slots_of(p) for p in range(len(self.own["products"])))
        return share + self.weights.b_hh.reshape(-1, self.H)[gate] if there else share

    def _forward_source(self, name: str, a: int, number: int) -> Tensor:
        if name in ("input", "pre"):
            assert self.stage_of_input in (None, number)  # registers may be all that has it
            self.stage_of_input = number
            assert a in self.input_slots()
            return self._input(a) + (self.hidden[a] if name == "pre" else 0)
        return self.hidden[a] if name == "hidden" else self._common_source(name, a)

    def _forward_sink(self, name: str, to: int, value: Tensor) -> bool:
        places = {"set_state": self.new, "set_operand": self.operand, "keep": self.kept}
        if name not in places:
            return False
        if name == "keep":
            assert to < self.own["saved" if self.saving else "kept"]
        places[name][to] = value
        return True

    def backward(self, d_new: Sequence[Tensor]) -> dict[str, Any]:
        """Gradients by name: "states", "x" and those of the weights."""
        self.d_new, self.sums = list(d_new), {}
        self.temps: dict[int, Tensor] = {}
        self.d_pre: dict[int, Tensor] = {}
        self.d_operand: dict[int, Tensor] = {}
        count = self.own["states"]
        held = range(count - self.own["held"], count)
        self.d_state: dict[int, Tensor] = {k: self.d_new[k] for k in held}
        self.d_extra: dict[int, Tensor] = {}
        self.d_vector: dict[int, Tensor] = {}
        for number, stage in enumerate(self.own["backward"]):
            self._run(stage, self._backward_source, self._backward_sink, number)
            if stage[0] >= 0:
                self._multiply_back(stage[0])
        assert sorted(self.d_state) == list(range(self.own["states"]))
        assert sorted(self.d_pre) == list(range(self.own["slots"]))
        return self._gradients()

    def _multiply_back(self, product: int) -> None:
        slots = self.slots_of(product)
        d_pre = torch.stack([self.d_pre[slot] for slot in slots])
        gradient = torch.einsum("sbj,sjk->bk", d_pre, self.blocks(slots))
        if product:
            self.d_operand[product] = gradient
        else:
            self.d_state[0] = gradient + self.d_state.get(0, 0)

    def _backward_source(self, name: str, a: int, number: int) -> Tensor:
        if name == "after":
            return self.new[a]
        if name == "d_state":
            return self.d_new[a]
        return self.d_operand[a] if name == "d_operand" else self._common_source(name, a)

    def _backward_sink(self, name: str, to: int, value: Tensor) -> bool:
        if name == "add_d_extra":
            per_unit = self.own["extras"][to][1]
            self.d_extra[to] = value if per_unit else value.sum(1, keepdim=True)
            return True
        places = {
            "set_d_pre": self.d_pre,
            "set_d_state": self.d_state,
            "set_temp": self.temps,
            "add_d_vector": self.d_vector,
        }
        if name not in places:
            return False
        places[name][to] = value
        return True

    def _gradients(self) -> dict[str, Any]:
        own, G, H = self.own, self.own["gates"], self.H
        d_gates = self.x.new_zeros(self.x.shape[0], G, H)
        for slot in self.input_slots():
            d_gates[:, self.gates[slot]] = self.d_pre[slot]
        d_w_hh, d_b_hh = self.x.new_zeros(G, H, H), self.x.new_zeros(G, H)
        for product in range(len(own["products"])):
            for slot in self.slots_of(product):
                d_w_hh[self.gates[slot]] = self.d_pre[slot].T @ self.operand[product]
                d_b_hh[self.gates[slot]] = self.d_pre[slot].sum(0)
        d_gates = d_gates.reshape(-1, G * H)
        widths = [H if per_unit else 1 for _, per_unit in own["extras"]]
        d_extras = [
            self.d_extra.get(e, self.x.new_zeros(self.x.shape[0], width))
            for e, width in enumerate(widths)
        ]
        nothing = self.x.new_zeros(1, H)
        vectors = [self.d_vector.get(v, nothing).sum(0) for v in range(own["vectors"])]
        return {
            "states": [self.d_state[k] for k in range(own["states"])],
            "x": torch.cat([d_gates @ self.weights.w_ih, *d_extras], 1),
            "w_ih": d_gates.T @ self.x[:, : self.features],
            "w_hh": _blocks(d_w_hh, own["heads"]) if own["recurrent"] else None,
            "b_ih": d_gates.sum(0),
            "b_hh": d_b_hh.reshape(-1) if own["recurrent"] else None,
            "w_ch": torch.cat(vectors) if vectors else None,
        }


def _blocks(d_w_hh: Tensor, heads: int) -> Tensor:
    G, H, _ = d_w_hh.shape
    if heads == 1:
        return d_w_hh.reshape(G * H, H)
    parts = d_w_hh.reshape(G, heads, H // heads, heads, H // heads)
    own = torch.stack([parts[:, head, :, head] for head in range(heads)])
    return own.reshape(heads, G * H // heads, H // heads)
