"""Layers of a program as ONNX's Scan, whose body is a step; a single step is that alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from .._call.weights import Weights
from .onnx_export import Export, Reached
from .onnx_steps import Nodes, Product, Sources, outputs_of, step

__all__ = ["OfProgram"]

_INT64 = 7  # of onnx.TensorProto.DataType
_END = 2**63 - 1


class _Direction(NamedTuple):
    """What a direction of a layer brings to every step, out of its weights; its name is theirs."""

    name: str
    w_ih: Any
    b_ih: Any
    vectors: Sequence[Any]
    products: Sequence[Product | None]


class OfProgram(Export):
    """A Scan for each direction of a layer; the input's product is one for all steps, before it."""

    name = "Scan"

    def __init__(self, op: Any, arguments: Sequence[Any]) -> None:
        super().__init__(op, arguments)
        assert self.spec.program is not None
        self.program, self.H = self.spec.program, self.spec.hidden_size
        self.nodes = Nodes(self.data.dtype, _recorded(op))
        self.each = [self._direction(one) for of_layer in self.weights for one in of_layer]

    def outputs(self) -> list[Any]:
        if not self.single_step:
            return super().outputs()
        x, inputs = self._apart(self.data)
        own = self.each[0]
        states = self._states(self.hx, self.cx, self.op.Shape(x, start=0, end=1))
        sources = Sources(self._of_input(own, x), states, inputs, own.vectors, own.products)
        h, *others = step(self.program, self.H, self.nodes, sources)
        return self.of_single_step([h, *self._joined(others)])

    def steps_first(self) -> Any:
        x, self.inputs = self._apart(super().steps_first())
        self.batch = self.op.Shape(x, start=1, end=2)
        self.active = None if self.lengths is None else self._active(x)
        return x

    def layer(self, number: int, x: Any) -> Reached:
        directions = [self._scan(number, direction, x) for direction in range(self.directions)]
        finals, reached = zip(*directions, strict=True)
        return self._stacked(reached, axis=1), self._stacked(finals, axis=0)

    def _stacked(self, directions: Sequence[Sequence[Any]], axis: int) -> list[Any]:
        """h, and c where there is one, of all directions, out of the states of each of them."""
        each = [[h, *self._joined(others)] for h, *others in directions]
        return [
            self.concatenated([self.op.Unsqueeze(one, [axis]) for one in state], axis)
            for state in zip(*each, strict=True)
        ]

    def _joined(self, others: Sequence[Any]) -> list[Any]:
        """c, if there are states that it has side by side."""
        return [self.op.Concat(*others, axis=-1)] if len(others) > 1 else list(others)

    def _apart(self, data: Any) -> tuple[Any, list[Any]]:
        """The features that meet ``W_ih``, and the per-step inputs behind them."""
        if not self.program.inputs:
            return data, []
        widths = [self.spec.input_size, *(self.H if unit else 1 for _, unit in self.program.inputs)]
        ends = zip(widths, accumulate(widths), strict=True)
        x, *inputs = (self.op.Slice(data, [end - width], [end], [-1]) for width, end in ends)
        return x, inputs

    def _states(self, h: Any, c: Any, batch: Any) -> list[Any]:
        """`Program.internal_states`, each [B, H]; ``batch`` is [1], B."""
        others = len(self.program.internal_states) - 1
        zeros = None
        if h is None or (others and c is None):
            size = self.op.Concat(batch, self.nodes.constant([self.H]), axis=0)
            zeros = self.nodes("Expand", 0.0, size)
        in_c = self.nodes.split(c, others, axis=-1) if others and c is not None else ()
        return [zeros if h is None else h, *(in_c or [zeros] * others)]

    def _direction(self, weights: Weights) -> _Direction:
        w_ih = self.op.Transpose(weights.w_ih, perm=[1, 0])
        ends = range(self.H, (len(self.program.vector_slots) + 1) * self.H, self.H)
        vectors = [self.op.Slice(weights.w_ch, [end - self.H], [end], [0]) for end in ends]
        read = {node.name for node in self.program.nodes if node.operation == "u"}
        of_products = [[gate for gate in gates if gate in read] for gates in self.program.products]
        products = [self._product(gates, weights) if gates else None for gates in of_products]
        return _Direction(weights.w_ih.name, w_ih, weights.b_ih, vectors, products)

    def _product(self, gates: Sequence[str], weights: Weights) -> Product:
        heads, dense = self.program.heads, self.program.recurrent == "dense"
        units = self.H // heads
        places = [self.program.gates.index(gate) for gate in gates]
        block = [place * units + unit for place in places for unit in range(units)]
        w_hh = self.op.Gather(weights.w_hh, self.nodes.constant(block), axis=-2)
        w_hh = self.op.Transpose(w_hh, perm=[1, 0] if dense else [0, 2, 1])
        if weights.b_hh is None:
            return Product(gates, w_hh, None)
        rows: list[Any] = [
            [[place * self.H + head * units + unit for place in places for unit in range(units)]]
            for head in range(heads)
        ]
        bias = self.op.Gather(weights.b_hh, self.nodes.constant(rows[0][0] if dense else rows))
        return Product(gates, w_hh, bias)

    def _of_input(self, own: _Direction, x: Any) -> Any:
        """The input's share of the gates."""
        share = self.op.MatMul(x, own.w_ih)
        return share if own.b_ih is None else self.op.Add(share, own.b_ih)

    def _active(self, x: Any) -> Any:
        """[T, B, 1] bool, whether a sequence has the step."""
        steps = self.op.Squeeze(self.op.Shape(x, start=0, end=1))
        time = self.op.Unsqueeze(self.op.Range(0, steps, 1), [1])
        return self.op.Unsqueeze(self.op.Less(time, self.op.Cast(self.lengths, to=_INT64)), [2])

    def _forgets(self, reverse: bool) -> Any:
        """[T, B, 1] bool, whether a direction enters a step anew; None without resets.

        The reverse direction crosses the border before step t when it enters step t - 1. It has no
        border to cross where a sequence ends.
        """
        if self.resets is None:
            return None
        resets = self.op.Unsqueeze(self.resets, [2])
        if not reverse:
            return resets
        if self.active is not None:
            resets = self.op.And(resets, self.active)
        first = self.op.Slice(resets, [0], [1], [0])
        never = self.op.Xor(first, first)
        return self.op.Concat(self.op.Slice(resets, [1], [_END], [0]), never, axis=0)

    def _scan(self, number: int, direction: int, x: Any) -> tuple[list[Any], list[Any]]:
        """Of each state the last [B, H], and all [T, B, H]; without ``states`` all of h alone."""
        place = number * self.directions + direction
        own = self.each[place]
        h, c = (None if s is None else self.op.Gather(s, place, axis=0) for s in (self.hx, self.cx))
        states = self._states(h, c, self.batch)
        scanned = [self._of_input(own, x), *self.inputs]
        body = _Body(self.nodes.dtype)
        old = [body.input() for _ in states]
        x, *inputs = (body.input() for _ in scanned)
        flags = self._forgets(reverse=direction == 1), self.active
        forgets, active = (None if flag is None else body.input(flag=True) for flag in flags)
        before = old
        if forgets is not None:
            held = len(old) - len(self.program.held)
            begin = zip(self.program.internal_initial, old[:held], strict=False)
            before = [body.nodes("Where", forgets, initial, state) for initial, state in begin]
            before += old[held:]
        sources = Sources(x, before, inputs, own.vectors, own.products)
        new = step(self.program, self.H, body.nodes, sources)
        after, shown = new, new if self.states else new[:1]
        if active is not None:
            both = zip(new, old, strict=True)
            after = [body.nodes("Where", active, state, kept) for state, kept in both]
            shown = [body.nodes("Where", active, state, 0.0) for state in shown]
        scanned += [flag for flag in flags if flag is not None]
        first = self.op.Scan(
            *states,
            *scanned,
            body=body.graph([*after, *shown], f"{own.name}/step"),
            num_scan_inputs=len(scanned),
            scan_input_directions=[direction] * len(scanned),
            scan_output_directions=[direction] * len(shown),
        )
        outputs = outputs_of(first, len(after) + len(shown))
        return list(outputs[: len(after)]), list(outputs[len(after) :])


def _recorded(op: Any) -> Callable[..., Any]:
    """What makes nodes of the graph that torch's exporter builds, for `Nodes`."""

    def make(operator: str, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        made = getattr(op, operator)(*inputs, **attributes)
        return made[0] if isinstance(made, Sequence) else made

    return make


class _Body:
    """The body of a Scan: a graph of its own that sees the values of the one around it."""

    def __init__(self, dtype: Any) -> None:
        from onnx_ir.tape import Tape

        self.tape = Tape()
        self.inputs: list[Any] = []
        self.nodes = Nodes(dtype, self.tape.op)

    def input(self, *, flag: bool = False) -> Any:
        """A state, or one step of a sequence: [B, anything]."""
        import onnx_ir

        element = onnx_ir.DataType.BOOL if flag else self.nodes.dtype
        shape, type = onnx_ir.Shape([None, None]), onnx_ir.TensorType(element)
        self.inputs.append(onnx_ir.Value(shape=shape, type=type))
        return self.inputs[-1]

    def graph(self, results: Sequence[Any], name: str) -> Any:
        """Of these outputs; its values have names that no graph around it has."""
        import onnx_ir

        outputs: list[Any] = []
        for result in results:
            # An output may be no input, nor the same as another.
            twice = result.producer() is None or any(result is other for other in outputs)
            outputs.append(self.nodes("Identity", result) if twice else result)
        made = [value for node in self.tape.nodes for value in node.outputs]
        for place, value in enumerate([*self.inputs, *made]):
            value.name = f"{name}/{place}"
        return onnx_ir.Graph(self.inputs, outputs, nodes=self.tape.nodes, name=name)
