"""Cells that somebody writes, and the judge of what becomes of them: their methods in a loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from cases import flat, seed
from torch import Tensor

import fastrnn


class LSTM(fastrnn.Cell):
    gates = "i f g o"
    states = "h c"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f, o = (torch.sigmoid(getattr(x, g) + getattr(u, g)) for g in "ifo")
        c = f * s.c + i * torch.tanh(x.g + u.g)
        return {"h": o * torch.tanh(c), "c": c}


class GRU(fastrnn.Cell):
    gates = "r z n"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        r, z = torch.sigmoid(x.r + u.r), torch.sigmoid(x.z + u.z)
        n = torch.tanh(x.n + r * u.n)
        return {"h": (1 - z) * n + z * s.h}


class ResetBefore(GRU):
    """The GRU as its paper has it."""

    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.r + u.r) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z = torch.sigmoid(x.z + u.z)
        return {"h": (1 - z) * torch.tanh(x.n + u.n) + z * s.h}


class MGU(fastrnn.Cell):
    gates = "f n"
    late = "n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return torch.sigmoid(x.f + u.f) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f = torch.sigmoid(x.f + u.f)
        return {"h": (1 - f) * s.h + f * torch.tanh(x.n + u.n)}


class SLSTM(fastrnn.Cell):
    """Four states, one of which starts with ones, exponential gates, and blocks."""

    gates = "i f z o"
    states = "h c n m"
    recurrent = "heads"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        i, f = x.i + u.i, torch.nn.functional.logsigmoid(x.f + u.f)
        m = torch.maximum(f + s.m, i)
        i, f = torch.exp(i - m), torch.exp(f + s.m - m)
        c, n = f * s.c + i * torch.tanh(x.z + u.z), f * s.n + i
        return {"h": torch.sigmoid(x.o + u.o) * c / n, "c": c, "n": n, "m": m}

    def initial(self, s: Any) -> dict[str, Any]:
        return {"n": torch.ones_like(s.n)}


class Rotated(fastrnn.Cell):
    """One state, and an output that is another."""

    gates = "a b"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.a + u.a) + 0.5 * s.h}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        return torch.cos(new.h) * x.b + u.b


class TwoStatesAndOutput(fastrnn.Cell):
    gates = "a b"
    states = "h k"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        k = torch.sigmoid(x.b + u.b) * s.k + 1
        return {"h": torch.tanh(x.a + u.a) / k, "k": k}

    def output(self, x: Any, u: Any, s: Any, p: Any, new: Any) -> Any:
        return new.h * new.k + s.h

    def initial(self, s: Any) -> dict[str, Any]:
        return {"h": 0.25 * torch.ones_like(s.h), "k": torch.ones_like(s.k)}


class Decayed(fastrnn.Cell):
    """Inputs of every step beside the input, and vectors of all kinds."""

    gates = "a b"
    inputs = "dt mask"
    vectors = {"rate": "unit", "scale": "scalar", "peek": "gate"}  # noqa: RUF012

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        h = torch.exp(-torch.relu(p.rate * p.dt)) * s.h
        a = torch.sigmoid(x.a + u.a + p.peek.a * h)
        b = torch.tanh(x.b + u.b + p.peek.b * s.h) * p.mask
        return {"h": a * h + p.scale * (1 - a) * b}


class Blocks(fastrnn.Cell):
    gates = "a b"
    recurrent = 2
    late = "b"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return s.h * torch.sigmoid(u.a)

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.a + u.b) + 0.5 * torch.sin(x.b) * s.h}


class MinGRU(fastrnn.Cell):
    gates = "z n"
    recurrent = "none"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        z = torch.sigmoid(x.z)
        return {"h": (1 - z) * s.h + z * x.n}


class Normed(fastrnn.Cell):
    """Normalisation over units, with numbers that start as the cell says."""

    gates = "f n"
    vectors = {"gain": "unit"}  # noqa: RUF012

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f, n = fastrnn.layer_norm([x.f + u.f, x.n + u.n])
        f, n = torch.sigmoid(f), torch.tanh(p.gain * n)
        return {"h": fastrnn.rms_norm(f * s.h + (1 - f) * n)}

    def reset_parameters(self, parameters: dict[str, Tensor]) -> None:
        parameters["gain"].fill_(1)


class Chained(fastrnn.Cell):
    """Three products, each of what the one before gave."""

    gates = "a b c"
    late = ("b", "c")

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        return torch.tanh(x.a + u.a) if stage == 0 else torch.sigmoid(u.b) * s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": 0.5 * s.h + torch.tanh(x.c + u.c + x.b)}


class Scaled(fastrnn.Cell):
    """With a constructor parameter."""

    gates = "h"

    def __init__(self, dt: float) -> None:
        self.dt = dt

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": s.h + self.dt * torch.tanh(x.h + u.h)}


class Held(fastrnn.Cell):
    """Two states that a call keeps; no gradient of the step flows to the second."""

    gates = "f n"
    states = "h c gain factor"
    held = "gain factor"
    late = "f n"

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return s.h * s.gain

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        c = torch.sigmoid(x.f + u.f) * s.c + torch.tanh(x.n + u.n) * s.factor.detach()
        return {"h": torch.where(s.factor > 0.5, s.h, torch.tanh(c)), "c": c}

    def initial(self, s: Any) -> dict[str, Any]:
        return {"gain": 0.5 * torch.ones_like(s.gain), "c": torch.ones_like(s.c)}


ZOO: dict[str, tuple[Any, dict[str, Any]]] = {
    "LSTM": (LSTM, {}),
    "GRU": (GRU, {}),
    "reset before": (ResetBefore, {"bias": False}),
    "MGU": (MGU, {}),
    "sLSTM": (SLSTM, {"num_heads": 2}),
    "output": (Rotated, {}),
    "output of two states": (TwoStatesAndOutput, {}),
    "inputs and vectors": (Decayed, {}),
    "heads": (Blocks, {}),
    "none": (MinGRU, {}),
    "none without bias": (MinGRU, {"bias": False}),
    "normed": (Normed, {}),
    "chained": (Chained, {}),
    "parameter": (Scaled(0.3), {}),
    "held": (Held, {}),
}
"""Cells, and the options of a layer with them."""


def layer_of(name: str, sizes: tuple[int, int] = (3, 4), **options: Any) -> fastrnn.Recurrent:
    """A layer of 3 features and 4 units, in float64 unless told otherwise."""
    cell, own = ZOO[name]
    return fastrnn.Recurrent(cell, *sizes, **{"dtype": torch.float64} | own | options)


def inputs_of(layer: Any, *leading: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random per-step inputs: of the cells here the first for a row, the second for each unit."""
    shapes = (leading, (*leading, layer.hidden_size))
    names = layer.cell.inputs.split()
    return {n: torch.rand(shape, dtype=dtype) for n, shape in zip(names, shapes, strict=False)}


def states_of(layer: Any, *batch: int, dtype: torch.dtype = torch.float64) -> Any:
    """Random ``hx``."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (count, *batch, layer.hidden_size)
    states = tuple(torch.rand(shape, dtype=dtype) for _ in layer.cell.states.split())
    return states[0] if len(states) == 1 else states


class Loop:
    """A layer's call, one sequence after the other, a step after the other, by the cell's methods.

    Takes what `fastrnn.Recurrent.forward` takes with time first, and returns the same.
    """

    def __init__(self, layer: Any) -> None:
        self.layer, self.cell = layer, layer.cell
        self.parameters = layer.parameters
        self.gates = self.cell.gates.split()
        self.states = self.cell.states.split()

    def __call__(
        self,
        x: Tensor,
        hx: Any = None,
        *,
        lengths: Any = None,
        resets: Tensor | None = None,
        return_states: bool = False,
        **inputs: Tensor,
    ) -> tuple[Any, ...]:
        T, B, _ = x.shape
        ends = [T] * B if lengths is None else [int(n) for n in lengths]
        given = (hx,) if isinstance(hx, Tensor) else hx
        of_rows = []
        for b, n in enumerate(ends):
            hx_of_row = None if given is None else [state[:, b] for state in given]
            resets_of_row = None if resets is None else resets[:n, b]
            inputs_of_row = {name: value[:n, b] for name, value in inputs.items()}
            y, finals, everything = self.sequence(x[:n, b], hx_of_row, resets_of_row, inputs_of_row)
            padding = x.new_zeros(T - n, y.shape[-1])
            y = torch.cat([y, padding])
            padding = x.new_zeros(len(finals[0]), T - n, self.layer.hidden_size)
            of_rows.append((y, finals, [torch.cat([one, padding], 1) for one in everything]))
        of_y, of_finals, of_all = zip(*of_rows, strict=True)
        finals = [torch.stack(one, 1) for one in zip(*of_finals, strict=True)]
        everything = [torch.stack(one, 2) for one in zip(*of_all, strict=True)]
        results = (finals, everything) if return_states else (finals,)
        states = (one[0] if len(one) == 1 else tuple(one) for one in results)
        return torch.stack(of_y, 1), *states

    def sequence(
        self, x: Tensor, hx: Any, resets: Any, inputs: dict[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """y [T, D*H], the final states [L*D, H], and all of them [L*D, T, H]."""
        finals, everything = [], []
        for layer in range(self.layer.num_layers):
            outputs = []
            for direction in range(2 if self.layer.bidirectional else 1):
                suffix = f"_l{layer}{'_reverse' if direction else ''}"
                begin = self.initial(x) if hx is None else [s[len(finals)][None] for s in hx]
                y, final, after = self.direction(x, begin, resets, inputs, suffix)
                outputs.append(y)
                finals.append(final)
                everything.append(after)
            x = torch.cat(outputs, -1)
        each = zip(*finals, strict=True), zip(*everything, strict=True)
        of_finals, of_all = ([torch.stack(one) for one in of_states] for of_states in each)
        return x, of_finals, of_all

    def initial(self, like: Tensor) -> list[Tensor]:
        zeros = {name: like.new_zeros(1, self.layer.hidden_size) for name in self.states}
        method = getattr(self.cell, "initial", None)
        own = {} if method is None else method(SimpleNamespace(**zeros))
        return [own.get(name, zeros[name]) for name in self.states]

    def direction(
        self, x: Tensor, states: list[Tensor], resets: Any, inputs: dict[str, Tensor], suffix: str
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        steps = len(x)
        reverse = suffix.endswith("_reverse")
        outputs: list[Any] = [None] * steps
        after: list[Any] = [None] * steps
        for t in sorted(range(steps), reverse=reverse):
            border = t + 1 if reverse else t
            if resets is not None and border < steps and resets[border]:
                states = self.after_reset(states)
            outputs[t], states = self.step(x[t : t + 1], states, self.named(inputs, t), suffix)
            after[t] = states
        H = self.layer.hidden_size
        y = torch.cat(outputs) if outputs else x.new_zeros(0, H)
        count = len(self.states)
        each = [[of_step[k] for of_step in after] for k in range(count)]
        return y, [s[0] for s in states], [torch.cat(s) if s else x.new_zeros(0, H) for s in each]

    def after_reset(self, states: list[Tensor]) -> list[Tensor]:
        held = self.cell.held.split()
        each = zip(self.states, states, self.initial(states[0]), strict=True)
        return [state if name in held else begin for name, state, begin in each]

    def named(self, inputs: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        return {name: value[t].reshape(1, -1) for name, value in inputs.items()}

    def step(
        self, x: Tensor, states: list[Tensor], inputs: dict[str, Tensor], suffix: str
    ) -> tuple[Tensor, list[Tensor]]:
        """The output and the states after a step of one row."""
        cell, gates = self.cell, self.gates
        s = SimpleNamespace(**dict(zip(self.states, states, strict=True)))
        w_ih, b_ih = self.parameter("weight_ih", suffix), self.parameter("bias_ih", suffix)
        assert w_ih is not None
        of_x = x @ w_ih.t() + (0 if b_ih is None else b_ih)
        of_gates = SimpleNamespace(**dict(zip(gates, of_x.chunk(len(gates), -1), strict=True)))
        p = SimpleNamespace(**inputs)
        for name, kind in cell.vectors.items():
            vector: Any = self.parameter(name, suffix)
            if kind == "gate":
                parts = vector.chunk(len(gates))
                vector = SimpleNamespace(**dict(zip(gates, parts, strict=True)))
            setattr(p, name, vector)
        u = SimpleNamespace()
        chain = [cell.late] if isinstance(cell.late, str) else cell.late
        late = [gate for stage in chain for gate in stage.split()]
        self.multiply(u, [gate for gate in gates if gate not in late], states[0], suffix)
        for number, stage in enumerate(chain):
            if stage:
                more = () if isinstance(cell.late, str) else (number,)
                self.multiply(u, stage.split(), cell.operand(of_gates, u, s, p, *more), suffix)
        new = cell.step(of_gates, u, s, p)
        after = [new[name] if name in new else getattr(s, name) for name in self.states]
        if not hasattr(cell, "output"):
            return after[0], after
        return cell.output(of_gates, u, s, p, SimpleNamespace(**new)), after

    def multiply(self, u: Any, gates: list[str], operand: Tensor, suffix: str) -> None:
        w_hh, b_hh = self.parameter("weight_hh", suffix), self.parameter("bias_hh", suffix)
        if w_hh is None:
            return
        for gate in gates:
            at, count = self.gates.index(gate), len(self.gates)
            blocks = [w_hh] if w_hh.dim() == 2 else list(w_hh)
            own = torch.block_diag(*(block.chunk(count)[at] for block in blocks))
            bias = 0 if b_hh is None else b_hh.chunk(count)[at]
            setattr(u, gate, operand @ own.t() + bias)

    def parameter(self, name: str, suffix: str) -> Tensor | None:
        found: Tensor | None = getattr(self.layer, f"{name}{suffix}", None)
        return found


def results(layer: Any, x: Any, hx: Any, **keywords: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of one call, and the gradients of a fixed weighted sum of them.

    Gradients are those of x, the states, the per-step inputs and the parameters, in that order.
    """
    seed(1)  # dropout
    outputs = flat(layer(x, hx, **keywords))
    own = torch.Generator().manual_seed(2)
    factors = [torch.randn(y.shape, generator=own, dtype=torch.float64) for y in outputs]
    loss = sum((y * f.to(y)).sum() for y, f in zip(outputs, factors, strict=True))
    given = flat(x, hx, *(keywords[name] for name in layer.cell.inputs.split()))
    wanted = [t for t in [*given, *layer.parameters()] if t.requires_grad]
    return outputs, list(torch.autograd.grad(loss, wanted))  # type: ignore[arg-type]
