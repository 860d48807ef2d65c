"""Where the recurrent nodes of an ONNX model are, and which constants each of them sees.

Graphs nest: the bodies of If, Loop and Scan see what the graphs around them have. A local function
is put in the place of its calls first, by onnx itself. What depends on no input is computed by
onnx's reference implementation of the operators, a node at a time and only if it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DOMAINS", "Found", "Scope", "choose", "recurrent_nodes"]

Array = np.ndarray[Any, Any]

DOMAINS = {
    "LSTM": ("", "ai.onnx"),
    "GRU": ("", "ai.onnx"),
    "RNN": ("", "ai.onnx"),
    "DynamicQuantizeLSTM": ("com.microsoft",),
}
"""The recurrent operators, and whose they are."""

_DRAWN = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
_REPEATING = ("Expand", "Tile")
_KEEPING = ("Identity", "Cast")
_MOVING = ("Slice", "Transpose")


@dataclass(frozen=True, eq=False)
class Found:
    """A recurrent node, the graph that it is in, and the way to it through bodies."""

    node: Any
    scope: Scope
    path: str

    def __str__(self) -> str:
        return f"{self.node.op_type} node {self.path!r}"


class Scope:
    """The names of one graph: the values behind them, of those that are constant."""

    def __init__(
        self,
        graph: Any,
        opsets: Any,
        outer: Scope | None = None,
        assumed: Mapping[str, Array] | None = None,
    ) -> None:
        self.graph, self.opsets, self.outer = graph, opsets, outer
        self.values = dict(assumed or {})
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.inputs = {value.name for value in graph.input}
        self.constants = {*self.values, *self.initializers}
        for node in graph.node:  # each after those that it reads
            if node.op_type not in _DRAWN and all(map(self.is_constant, _names_read(node))):
                self.constants |= set(node.output)

    def assuming(self, values: Mapping[str, Array]) -> Scope:
        """The same graph, in which these names have these values."""
        return Scope(self.graph, self.opsets, self.outer, values)

    def is_constant(self, name: str) -> bool:
        """Whether no input of a graph reaches what is behind a name."""
        if name in self.constants:
            return True
        inside = name in self.makers or name in self.inputs or self.outer is None
        return not inside and self.outer.is_constant(name)  # type: ignore[union-attr]

    def value(self, name: str) -> Array | None:
        """The constant of this name; None for what depends on an input.

        Raises
        ------
        ValueError
            It is constant, but onnx cannot compute it, or its data were not loaded.
        """
        if not self.is_constant(name):
            return None
        if name not in self.constants and self.outer is not None:
            return self.outer.value(name)
        if name not in self.values:
            self.values |= self._computed(name)
        return self.values[name]

    def value_for_any_batch(self, name: str) -> Array | None:
        """What is `value` but for how often it is repeated, which may depend on an input.

        Dimensions that are repeated are left out or have size 1: exporters write constant states
        of a dynamic batch as an Expand or Tile of a constant, or as a ConstantOfShape.
        """
        value = self.value(name)
        if value is not None:
            return value
        node = self.makers.get(name)
        if node is None:
            if name in self.inputs or self.outer is None:
                return None
            return self.outer.value_for_any_batch(name)
        if node.op_type == "ConstantOfShape":
            given = [_array(attribute.t) for attribute in node.attribute]
            return given[0] if given else np.zeros(1, np.float32)
        if node.op_type not in (*_REPEATING, *_KEEPING, *_MOVING):
            return None
        base = self.value_for_any_batch(node.input[0])
        if base is None or base.size == 1 or node.op_type in _REPEATING:
            return base
        if base.ndim != 3 and node.op_type in _MOVING:  # among dimensions that are left out
            return None
        return self.assuming({node.input[0]: base}).value(name)

    def sizes(self, name: str) -> Sequence[int]:
        """The dimensions that the graph says this name has, 0 for one that is not known."""
        for value in (*self.graph.value_info, *self.graph.input, *self.graph.output):
            if value.name == name:
                return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        return ()

    def _computed(self, name: str) -> dict[str, Array]:
        if name in self.initializers:
            return {name: _array(self.initializers[name])}
        node = self.makers[name]
        feeds = {read: self.value(read) for read in _names_read(node)}
        return _outputs(node, self.opsets, feeds)


def recurrent_nodes(model: Any) -> list[Found]:
    """All of a model's, in the order of the file, those in bodies where the bodies are.

    Raises
    ------
    ValueError
        There are none; the message says which operators there are.
    """
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    operators: Counter[str] = Counter()
    found = list(_walk(Scope(model.graph, model.opset_import), "", operators))
    if not found:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(operators.items()))
        raise ValueError(
            f"model: expected a node of {', '.join(DOMAINS)}, got a graph of {there or 'no nodes'}"
        )
    return found


def choose(found: Sequence[Found], node: str | int | None) -> Found:
    """The node of this name, path, output or place; None for the only one there is."""
    if node is None:
        chosen = list(found)
    elif isinstance(node, str):
        chosen = [f for f in found if node and node in (f.path, f.node.name, *f.node.output)]
    elif isinstance(node, int):
        chosen = list(found[node : node + 1])
    else:
        raise TypeError(
            f"node: expected a name, the name of an output or a place, got {type(node).__name__}"
        )
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(f"{place} {_described(one)}" for place, one in enumerate(found))
    raise ValueError(
        f"node: expected the place, the name or an output of one of the model's recurrent nodes, "
        f"got {node!r}; they are {listed}"
    )


def _described(found: Found) -> str:
    how = "" if found.node.name else ", by its output"
    return f"{found.path!r} ({found.node.op_type}{how})"


def _walk(scope: Scope, path: str, operators: Counter[str]) -> Iterator[Found]:
    for node in scope.graph.node:
        own = path + (node.name or next(filter(None, node.output), node.op_type))
        operators[node.op_type] += 1
        if node.domain in DOMAINS.get(node.op_type, ()):
            yield Found(node, scope, own)
        for name, body in _bodies(node):
            yield from _walk(Scope(body, scope.opsets, scope), f"{own}/{name}/", operators)


def _bodies(node: Any) -> list[tuple[str, Any]]:
    attributes = node.attribute
    single = [(one.name, one.g) for one in attributes if one.HasField("g")]
    return single + [(one.name, body) for one in attributes for body in one.graphs]


def _names_read(node: Any) -> set[str]:
    """Inputs of a node, and what its bodies take from the graphs around them."""
    names = {name for name in node.input if name}
    for _, body in _bodies(node):
        inside = {value.name for value in (*body.input, *body.initializer)}
        inside |= {name for one in body.node for name in one.output}
        read = {name for one in body.node for name in _names_read(one)}
        names |= (read | {value.name for value in body.output}) - inside
    return names


def _array(tensor: Any) -> Array:
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL:
        where = {entry.key: entry.value for entry in tensor.external_data}.get("location")
        raise ValueError(
            f"the data of {tensor.name!r} are in the file {where!r} and were not loaded; "
            f"onnx.load(path) loads them, and so does onnx.load_external_data_for_model"
        )
    return np.asarray(numpy_helper.to_array(tensor))


def _outputs(node: Any, opsets: Any, feeds: Mapping[str, Array | None]) -> dict[str, Array]:
    from onnx import defs, helper, version_converter
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.output if name]
    inputs, outputs = (
        [helper.make_empty_tensor_value_info(name) for name in each] for each in (feeds, names)
    )
    graph = helper.make_graph([node], "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=opsets)
    try:
        try:
            evaluator = ReferenceEvaluator(model)
        except RuntimeError:  # the reference lacks old versions of some operators
            newest = version_converter.convert_version(model, defs.onnx_opset_version())
            evaluator = ReferenceEvaluator(newest)
        return dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))
    except Exception as error:  # whatever an operator raises
        raise ValueError(
            f"the {node.op_type} node {node.name or names[0]!r} cannot be computed: {error}"
        ) from error
