"""A `fastrnn.Cell` as its user would run it without an engine: one layer, a loop over its methods.

The input's product is taken for all steps at once, as every careful loop does.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

import fastrnn

Product = Callable[[Tensor], Sequence[Tensor]]
Stage = tuple[int, list[str], Product]


def loop_of(module: fastrnn.Recurrent, inputs: Mapping[str, Tensor]) -> Callable[[Any], Any]:
    """Return what maps x to what the layer returns for it and these inputs of every step.

    Raises
    ------
    ValueError
        The layer is a stack, or has two directions, or the batch first.
    """
    if module.num_layers > 1 or module.bidirectional or module.batch_first:
        raise ValueError("expected one layer in one direction with time first")
    weights = {name.removesuffix("_l0"): weight for name, weight in module.named_parameters()}
    return partial(_run, module.cell, weights, inputs)


def _run(
    cell: Any, weights: Mapping[str, Tensor], inputs: Mapping[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    gates, names = cell.gates.split(), cell.states.split()
    by_gate, by_state = _named(gates), _named(names)
    vectors = {
        name: by_gate(*weights[name].chunk(len(gates))) if kind == "gate" else weights[name]
        for name, kind in cell.vectors.items()
    }
    extras = _named([*vectors, *inputs])
    products = _products(cell, gates, weights)
    of_x = linear(x, weights["weight_ih"], weights.get("bias_ih"))
    s = _begin(cell, by_state, of_x.new_zeros(x.shape[1], of_x.shape[2] // len(gates)))
    outputs = []
    for t, of_step in enumerate(of_x.unbind(0)):
        x_t = by_gate(*of_step.chunk(len(gates), -1))
        p = extras(*vectors.values(), *(values[t] for values in inputs.values()))
        u = _recurrent(cell, by_gate, products, x_t, s, p)
        new = cell.step(x_t, u, s, p)
        after = by_state(*(new[name] for name in names))
        own = hasattr(cell, "output")
        outputs.append(cell.output(x_t, u, s, p, by_state(**new)) if own else after[0])
        s = after
    last = tuple(state.unsqueeze(0) for state in s)
    return torch.stack(outputs), last if len(last) > 1 else last[0]


def _named(names: Sequence[str]) -> Any:
    """A tuple type with these names: what a cell's methods read, and norms iterate over."""
    return namedtuple("Values", names)


def _begin(cell: Any, by_state: Any, zeros: Tensor) -> Any:
    states = by_state(*(zeros for _ in by_state._fields))
    if not hasattr(cell, "initial"):
        return states
    return states._replace(**cell.initial(states))


def _recurrent(cell: Any, by_gate: Any, products: Sequence[Stage], x: Any, s: Any, p: Any) -> Any:
    """The recurrent products of one step by gate."""
    found: dict[str, Tensor | None] = dict.fromkeys(by_gate._fields)
    for stage, gates, product in products:
        operand = s[0]
        if stage:
            number = () if isinstance(cell.late, str) else (stage - 1,)
            operand = cell.operand(x, by_gate(**found), s, p, *number)
        found.update(zip(gates, product(operand), strict=True))
    return by_gate(**found)


def _products(cell: Any, gates: Sequence[str], weights: Mapping[str, Tensor]) -> list[Stage]:
    """Every product's stage, 0 where it meets the state itself, its gates, and how it is taken."""
    if "weight_hh" not in weights:
        return []
    chain = [cell.late] if isinstance(cell.late, str) else cell.late
    stages = [stage.split() for stage in chain]
    late = [gate for stage in stages for gate in stage]
    stages.insert(0, [gate for gate in gates if gate not in late])
    return [(k, stage, _product(gates, stage, weights)) for k, stage in enumerate(stages) if stage]


def _product(gates: Sequence[str], stage: Sequence[str], weights: Mapping[str, Tensor]) -> Product:
    weight, bias = weights["weight_hh"], weights.get("bias_hh")
    if len(stage) < len(gates):
        places = [gates.index(gate) for gate in stage]
        blocks = torch.unflatten(weight, -2, (len(gates), -1))
        weight = torch.cat([blocks.select(-3, place) for place in places], -2)
        if bias is not None:
            bias = torch.cat([bias.chunk(len(gates))[place] for place in places])
    if weight.dim() == 2:
        return lambda state: linear(state, weight, bias).chunk(len(stage), -1)
    return lambda state: _by_heads(state, weight, bias, len(stage))


def _by_heads(state: Tensor, weight: Tensor, bias: Tensor | None, gates: int) -> Sequence[Tensor]:
    """Multiply each head's part of the state with its own block, (heads, gates * H', H')."""
    parts = torch.unflatten(state, -1, (len(weight), -1))
    found = torch.einsum("bhk,hgk->bhg", parts, weight)
    shares = torch.unflatten(found, -1, (gates, -1)).transpose(1, 2).flatten(2)
    if bias is not None:
        shares = shares + torch.unflatten(bias, 0, (gates, -1))
    return shares.unbind(1)
