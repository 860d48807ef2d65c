"""One step of a program in ONNX's operators: what `fastrnn._program.tensors` computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._program.graph import reachable
from .._program.program import Program

__all__ = ["OPERATIONS", "Nodes", "Product", "Sources", "outputs_of", "step"]

_BOOL = 9  # of onnx.TensorProto.DataType


class Nodes:
    """Makes nodes of one graph.

    Among the inputs a Python number is a constant of ``dtype``, and a list one of int64.
    ``make(operator, inputs, attributes)`` puts a node into the graph and returns its first output.
    """

    def __init__(self, dtype: Any, make: Callable[..., Any]) -> None:
        self.dtype, self.make = dtype, make

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> Any:
        values = [self.constant(one) if isinstance(one, (float, list)) else one for one in inputs]
        return self.make(operator, values, attributes)

    def constant(self, value: float | list[int]) -> Any:
        import onnx_ir

        dtype = onnx_ir.DataType.INT64 if isinstance(value, list) else self.dtype
        return self.make("Constant", [], {"value": onnx_ir.tensor(value, dtype=dtype)})

    def split(self, value: Any, count: int, axis: int) -> Sequence[Any]:
        """The value in as many equal parts."""
        if count == 1:
            return [value]
        return outputs_of(self("Split", value, axis=axis, num_outputs=count), count)


def outputs_of(first: Any, count: int) -> Sequence[Any]:
    """All outputs of the node whose first this is: who makes it knows not how many there are."""
    node = first.producer()
    node.resize_outputs(count)
    outputs: Sequence[Any] = node.outputs
    return outputs


class Product(NamedTuple):
    """A recurrent product, of those gates that somebody reads."""

    gates: Sequence[str]
    weight: Any
    """[H, gates * H]; of heads [heads, H / heads, gates * H / heads]."""
    bias: Any
    """[gates * H]; of heads [heads, 1, gates * H / heads]; or None."""


class Sources(NamedTuple):
    """What a step is computed from."""

    x: Any
    """[B, G * H], the input's share of the gates."""
    states: Sequence[Any]
    """`Program.internal_states`, each [B, H]."""
    inputs: Sequence[Any]
    """The per-step inputs, each [B, 1] or [B, H]."""
    vectors: Sequence[Any]
    """`Program.vector_slots`, each [H]."""
    products: Sequence[Product | None]
    """One for each of `Program.products`."""


def step(program: Program, hidden_size: int, nodes: Nodes, sources: Sources) -> list[Any]:
    """The new `Program.internal_states`, each [B, H]."""
    return _Step(program, hidden_size, nodes, sources).results()


class _Value(NamedTuple):
    """A quantity of the step, and whether its elements differ from row to row, and unit to unit."""

    value: Any
    rows: bool = True
    units: bool = True


class _Step:
    def __init__(self, program: Program, hidden_size: int, nodes: Nodes, sources: Sources) -> None:
        self.program, self.H, self.nodes = program, hidden_size, nodes
        self.products = sources.products
        self.own = sources.states[-len(program.states) :]
        x = nodes.split(sources.x, len(program.gates), axis=-1)
        self.sources = {
            **{("x", name): _Value(v) for name, v in zip(program.gates, x, strict=True)},
            **{("s", name): _Value(v) for name, v in zip(program.states, self.own, strict=True)},
        }
        for slot, vector in zip(program.vector_slots, sources.vectors, strict=True):
            self.sources["p", slot] = _Value(vector, rows=False)
        for (name, per_unit), value in zip(program.inputs, sources.inputs, strict=True):
            self.sources["e", name] = _Value(value, units=per_unit)
        self.values: dict[int, _Value] = {}

    def results(self) -> list[Any]:
        operands = (None, *self.program.operands)
        for product, operand in zip(self.products, operands, strict=True):
            if product is not None:
                self._multiply(product, self.own[0] if operand is None else self._full(operand))
        return [self._full(result) for result in self.program.internal_results]

    def _multiply(self, product: Product, operand: Any) -> None:
        """Add a product's gates to the sources."""
        nodes, in_heads = self.nodes, self.program.recurrent != "dense"
        if in_heads:
            sizes = [0, self.program.heads, self.H // self.program.heads]
            operand = nodes("Transpose", nodes("Reshape", operand, sizes), perm=[1, 0, 2])
        shares = nodes("MatMul", operand, product.weight)
        if product.bias is not None:
            shares = nodes("Add", shares, product.bias)
        parts = nodes.split(shares, len(product.gates), axis=-1)
        for gate, part in zip(product.gates, parts, strict=True):
            if in_heads:
                part = nodes("Reshape", nodes("Transpose", part, perm=[1, 0, 2]), [0, self.H])
            self.sources["u", gate] = _Value(part)

    def _full(self, result: int) -> Any:
        """Of a node of the program, for every row and unit."""
        for index in reachable(self.program.nodes, [result]):
            if index not in self.values:
                self.values[index] = self._evaluated(index)
        value, rows, units = self.values[result]
        shape = None if rows and units else self.nodes("Shape", self.own[0])
        return value if shape is None else self.nodes("Expand", value, shape)

    def _evaluated(self, index: int) -> _Value:
        node = self.program.nodes[index]
        if node.operation == "constant":
            return _Value(self.nodes.constant(node.value), rows=False, units=False)
        if not node.operands:
            return self.sources[node.operation, node.name]
        operands = [self.values[one] for one in node.operands]
        rows, units = any(one.rows for one in operands), any(one.units for one in operands)
        if node.operation == "row_sum":
            return _Value(self._row_sum(operands[0]), rows, units=False)
        computed = OPERATIONS[node.operation](self.nodes, *(one.value for one in operands))
        return _Value(computed, rows, units)

    def _row_sum(self, of: _Value) -> Any:
        if of.units:
            return self.nodes("ReduceSum", of.value, [-1], keepdims=1)
        return self.nodes("Mul", of.value, float(self.H))


def _one_node(operator: str) -> Callable[..., Any]:
    return lambda nodes, *operands: nodes(operator, *operands)


def _comparison(operator: str) -> Callable[..., Any]:
    """1 or 0, of the operands' dtype."""
    return lambda nodes, a, b: nodes("Cast", nodes(operator, a, b), to=int(nodes.dtype))


def _where(nodes: Nodes, condition: Any, a: Any, b: Any) -> Any:
    return nodes("Where", nodes("Cast", condition, to=_BOOL), a, b)


def _sign(nodes: Nodes, a: Any) -> Any:
    """Of NaN torch's is 0, of which ONNX says nothing."""
    less = _comparison("Less")
    return nodes("Sub", less(nodes, 0.0, a), less(nodes, a, 0.0))


def _small(nodes: Nodes, a: Any) -> Any:
    """Where the digits of ``a`` would be lost in 1 + a and in exp(a) - 1."""
    return nodes("Less", nodes("Abs", a), 1.0)


def _expm1(nodes: Nodes, a: Any) -> Any:
    """With t = tanh(a / 2) of a small ``a`` it is 2 * t / (1 - t)."""
    t = nodes("Tanh", nodes("Mul", a, 0.5))
    of_small = nodes("Div", nodes("Mul", t, 2.0), nodes("Sub", 1.0, t))
    return nodes("Where", _small(nodes, a), of_small, nodes("Sub", nodes("Exp", a), 1.0))


def _log1p(nodes: Nodes, a: Any) -> Any:
    """The logarithm of u = 1 + a, and for a small ``a`` what was lost of it in u, over u."""
    u = nodes("Add", a, 1.0)
    log = nodes("Log", u)
    lost = nodes("Sub", a, nodes("Sub", u, 1.0))
    return nodes("Where", _small(nodes, a), nodes("Add", log, nodes("Div", lost, u)), log)


def _softplus(nodes: Nodes, a: Any) -> Any:
    """Without an exponential that overflows, as ONNX's own may."""
    rest = nodes("Exp", nodes("Neg", nodes("Abs", a)))
    return nodes("Add", nodes("Max", a, 0.0), _log1p(nodes, rest))


def _where_positive(nodes: Nodes, a: Any, otherwise: Any) -> Any:
    return nodes("Where", nodes("Less", 0.0, a), a, otherwise)


def _elu(nodes: Nodes, a: Any, alpha: Any) -> Any:
    below = _expm1(nodes, nodes("Min", a, 0.0))  # whose exponential is finite
    return _where_positive(nodes, a, nodes("Mul", alpha, below))


def _leaky_relu(nodes: Nodes, a: Any, slope: Any) -> Any:
    return _where_positive(nodes, a, nodes("Mul", slope, a))


def _clamp(nodes: Nodes, a: Any, low: Any, high: Any) -> Any:
    return nodes("Min", nodes("Max", a, low), high)


def _same(nodes: Nodes, a: Any) -> Any:
    return a


def _rsqrt(nodes: Nodes, a: Any) -> Any:
    return nodes("Reciprocal", nodes("Sqrt", a))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "neg": _one_node("Neg"),
    "exp": _one_node("Exp"),
    "expm1": _expm1,
    "log": _one_node("Log"),
    "log1p": _log1p,
    "sqrt": _one_node("Sqrt"),
    "sigmoid": _one_node("Sigmoid"),
    "tanh": _one_node("Tanh"),
    "softplus": _softplus,
    "sin": _one_node("Sin"),
    "cos": _one_node("Cos"),
    "erf": _one_node("Erf"),
    "abs": _one_node("Abs"),
    "sign": _sign,
    "relu": _one_node("Relu"),
    "reciprocal": _one_node("Reciprocal"),
    "rsqrt": _rsqrt,
    "one_minus": lambda nodes, a: nodes("Sub", 1.0, a),
    "add": _one_node("Add"),
    "sub": _one_node("Sub"),
    "mul": _one_node("Mul"),
    "div": _one_node("Div"),
    "minimum": _one_node("Min"),
    "maximum": _one_node("Max"),
    "lt": _comparison("Less"),
    "le": _comparison("LessOrEqual"),
    "eq": _comparison("Equal"),
    "where": _where,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
    "clamp_min": _one_node("Max"),
    "clamp_max": _one_node("Min"),
    "stationary": _same,
    "detach": _same,
}
"""Those of `fastrnn._program.operations` that a step may have, but for ``row_sum``.

Each takes `Nodes` and the operands.
"""
