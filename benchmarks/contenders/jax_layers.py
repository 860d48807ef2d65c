"""The layers in JAX: the input's product for all steps at once, and ``lax.scan`` over the rest."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.problem import parameter_suffixes
from benchmarks.workloads import Cell, Workload

Weights = Mapping[str, Array]
State = tuple[Array, ...]

_STATES: dict[Cell, int] = {"lstm": 2, "gru": 1, "rnn": 1}


def apply(weights: Weights, x: Array, workload: Workload) -> State:
    """Return what torch's layer does, y and the states, or what its cell does, the states.

    Parameters
    ----------
    weights : names of torch's ``state_dict``; matrices are transposed, (in, out), as JAX has them.
    x : the input in the workload's layout. A ragged batch is padded, and so is its y, with zeros.
    """
    if workload.single_step:
        return _direction(weights, x[None], None, workload, "")[1]
    y = x.swapaxes(0, 1) if workload.batch_first else x
    real = _real_steps(workload)
    states: list[State] = []
    for layer in range(workload.layers):
        outputs = []
        for suffix in parameter_suffixes(workload, layer):
            output, state = _direction(weights, y, real, workload, suffix)
            outputs.append(output)
            states.append(state)
        y = jnp.concatenate(outputs, axis=-1)
    y = y.swapaxes(0, 1) if workload.batch_first else y
    return (y, *(jnp.stack(each) for each in zip(*states, strict=True)))


def loss(weights: Weights, x: Array, workload: Workload) -> tuple[Array, State]:
    """Return the sum of what torch's layer or cell returns first, and all of it."""
    outputs = apply(weights, x, workload)
    return outputs[0].sum(), outputs


def _real_steps(workload: Workload) -> Array | None:
    """Return a mask, (T, B, 1), of the steps that are not padding; None if all are real."""
    if workload.lengths is None:
        return None
    return jnp.arange(workload.T)[:, None, None] < jnp.array(workload.lengths)[:, None]


def _direction(
    weights: Weights, x: Array, real: Array | None, workload: Workload, suffix: str
) -> tuple[Array, State]:
    """Run one direction of one layer: y and the last states, (B, H)."""
    w_hh, b_hh = weights["weight_hh" + suffix], weights["bias_hh" + suffix]
    w_hr = weights.get("weight_hr" + suffix)
    step = _STEPS[workload.cell]

    def advance(state: State, inputs: tuple[Array, Array | None]) -> tuple[State, Array]:
        projected, kept = inputs
        h, *rest = step(projected, state[0] @ w_hh + b_hh, state)
        new = (h if w_hr is None else h @ w_hr, *rest)
        if kept is None:
            return new, new[0]
        held = tuple(
            jnp.where(kept, after, before) for after, before in zip(new, state, strict=True)
        )
        return held, jnp.where(kept, new[0], 0)

    projected = x @ weights["weight_ih" + suffix] + weights["bias_ih" + suffix]
    widths = (workload.proj_size or workload.H, workload.H)[: _STATES[workload.cell]]
    zeros = tuple(jnp.zeros((x.shape[1], width), x.dtype) for width in widths)
    state, y = lax.scan(advance, zeros, (projected, real), reverse=suffix.endswith("_reverse"))
    return y, state


def _lstm(projected: Array, recurrent: Array, state: State) -> State:
    i, f, g, o = jnp.split(projected + recurrent, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(projected: Array, recurrent: Array, state: State) -> State:
    r_x, z_x, n_x = jnp.split(projected, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(recurrent, 3, axis=-1)
    z = jax.nn.sigmoid(z_x + z_h)
    n = jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h)
    return ((1 - z) * n + z * state[0],)


def _rnn(projected: Array, recurrent: Array, state: State) -> State:
    return (jnp.tanh(projected + recurrent),)


_STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
