"""The layers as operators of torch's, for whoever has to see a call as one operation.

``torch.ops.fastrnn`` has three operators, which serve every cell and every option:

- ``recurrence``: the outputs. What compilers and exporters find in a graph.
- ``recurrence_forward``: the same, and what backward needs.
- ``recurrence_backward``: the gradients that somebody needs.

Below them is the engine, or for tensors that only have a shape a function that knows the shapes of
the outputs. What ``recurrence`` does under ``torch.func`` is in ``vmap.py``, and
forward-mode derivatives are those of the plain equations.

A plain call never comes here: `fastrnn._autograd.eager.run` costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import _torch
from .._call import dropout, ragged_checks
from .._call.arguments import (
    ASK,
    SINGLE,
    Arguments,
    Kept,
    Layout,
    batch_of,
    is_single_step,
    present,
    rows_of,
    steps_of,
    taken_apart,
)
from .._call.batch import Batch
from .._call.spec import FLAT, Outputs, Spec
from .._engine import backend, backends
from . import flops, vmap
from .derivatives import by_equations, pulled_back_twice
from .saved import save_all, save_present, saved_by
from .wrapped import pulled_back

__all__ = ["decompositions", "is_watched", "run"]

_SPEC_SCHEMA = ", ".join(f"{kind} {name}" for kind, name in FLAT)
_SCHEMA = (
    "Tensor data, Tensor? hx, Tensor? cx, Tensor? batch_sizes, Tensor? row_index, "
    "Tensor? lengths, Tensor? resets, Tensor[] weights, Tensor[] masks, SymInt batch, "
    f"bool batch_first, bool states, {_SPEC_SCHEMA}"
)


def is_watched() -> bool:
    """Whether a call has to be one operator of torch's, or even its equations.

    For modes that see operations, for compilers and for the transformations of ``torch.func``.
    """
    return torch.compiler.is_compiling() or _torch.is_observed()


# ---- the callers' side ----


def run(
    spec: Spec, arguments: Arguments, *, batch_first: bool = False, states: bool = False
) -> Outputs:
    """`fastrnn._autograd.eager.run` as one node of a graph; the same parameters and results.

    A single step has a ``data`` of two dimensions, [B, I], and its h_n is y.
    """
    if not torch.compiler.is_compiling() and _torch.is_tracing():
        batch = ASK  # a number would be a constant of the graph
    else:
        data, hx, _, batch_sizes, row_index, *_ = arguments
        batch = batch_of(data, hx, batch_first, batch_sizes, row_index)
    layout = Layout(spec, batch, batch_first, states, len(arguments.weights))
    arguments = arguments.with_masks(_draw_masks(spec, arguments, batch_first))
    if not torch.compiler.is_compiling() and _torch.has_forward_mode():
        outputs = by_equations(layout, arguments)
    else:
        outputs = _present(
            layout, arguments, torch.ops.fastrnn.recurrence(*layout.of_operator(arguments))
        )
    if outputs.h_n is not None:
        return outputs
    y, _, *others = outputs
    return Outputs(y, y, *others)


def _present(layout: Layout, arguments: Arguments, of_outputs: Sequence[Any]) -> Outputs:
    single_step = is_single_step(arguments.data, arguments.batch_sizes)
    return present(layout.spec, layout.states, single_step, of_outputs)


def _draw_masks(spec: Spec, arguments: Arguments, batch_first: bool) -> list[Tensor]:
    """As `fastrnn._autograd.eager` draws them; with ``lengths`` for every row that there might be.

    How many rows there are is a value then, and the engine reads the first so many of the mask.
    """
    if not spec.dropout:
        return []
    data = arguments.data
    by_entry = arguments.lengths is None or backends.backend_of(data, spec).masks_by_entry
    rows: tuple[int, ...] = (rows_of(data),)
    if arguments.batch_sizes is None and by_entry:
        rows = (steps_of(data, batch_first, None), data.shape[0 if batch_first else 1])
    return dropout.draw(spec, rows, data)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The equations of the layers in torch's own operators, for programs that run without Python.

    The operators of this package are Python's: a package of AOTInductor's finds them wherever
    `fastrnn.functional` has been imported, and a program in C++ does not. For that::

        exported = torch.export.export(model.eval(), (x,))
        exported = exported.run_decompositions(fastrnn.decompositions())
        torch._inductor.aoti_compile_and_package(exported, package_path="model.pt2")

    Steps are unrolled, as torch's exporter unrolls its own layers, so their number is fixed. What
    is left of the speed is that of torch's operators.

    Returns
    -------
    dict
        For ``ExportedProgram.run_decompositions``.

    Raises
    ------
    RuntimeError
        As the program is decomposed: the number of steps is dynamic.
    """
    return {torch.ops.fastrnn.recurrence.default: _decomposed}


def _decomposed(*of_operator: Any) -> tuple[Tensor, ...]:
    layout, arguments = taken_apart(of_operator)
    data, batch_sizes = arguments.data, arguments.batch_sizes
    steps = (
        1 if is_single_step(data, batch_sizes) else steps_of(data, layout.batch_first, batch_sizes)
    )
    if not isinstance(steps, int):
        raise RuntimeError(
            f"fastrnn.decompositions: expected a fixed number of steps, which are unrolled, "
            f"got a dynamic one, {steps}"
        )
    return tuple(_filled(data, by_equations(layout, arguments)))


# ---- the operators ----

_library: Any = torch.library.Library("fastrnn", "DEF")  # type: ignore[no-untyped-call]
_library.define(f"recurrence({_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"recurrence_forward({_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrence_backward(Tensor kept, Tensor? d_y, Tensor? d_h_n, Tensor? d_c_n, "
    f"Tensor? d_h_all, Tensor? d_c_all, bool[] needed, {_SCHEMA}) -> Tensor[]"
)
_BEFORE = 7  # arguments of recurrence_backward before those that all three have


def _checked(layout: Layout, arguments: Arguments) -> tuple[Batch, Arguments]:
    """The same, with those values checked that a graph could not know."""
    data, batch_sizes, lengths = arguments.data, arguments.batch_sizes, arguments.lengths
    if lengths is not None:
        steps = steps_of(data, layout.batch_first, None)
        lengths = ragged_checks.check_lengths(lengths, steps, layout.batch, data.device)
    if batch_sizes is not None:
        ragged_checks.check_packed(data, batch_sizes, arguments.row_index, layout.batch)
    masks = [mask.contiguous() for mask in arguments.masks]
    arguments = arguments._replace(lengths=lengths, masks=masks)
    return Batch.laid_out(layout, arguments), arguments


def _compute(layout: Layout, arguments: Arguments, keep: bool) -> tuple[Tensor, ...]:
    """The outputs, empty ones for those that there are not, and what was kept."""
    batch, arguments = _checked(layout, arguments)
    data = arguments.data
    computes = backends.backend_of(data, layout.spec)
    if not keep:
        outputs, _ = backend.forward(computes, batch, arguments)
        return tuple(_filled(data, outputs))
    room = _room(computes, layout, arguments)
    outputs, kept = backend.forward(computes, batch, arguments, keep=True, room=room)
    block = data.new_empty(room, dtype=torch.uint8) if kept is None else kept.block
    return *_filled(data, outputs), block


def _room(computes: backend.Backend, layout: Layout, arguments: Arguments) -> int:
    """Bytes of what is kept, as a formula of shapes."""
    data = arguments.data
    return computes.kept_bytes(layout.spec, data.dtype, rows_of(data), bool(arguments.masks))


def _filled(data: Tensor, outputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The outputs, with an empty tensor for one that there is not."""
    return [data.new_empty(0) if output is None else output for output in outputs]


def _recurrence(*of_operator: Any) -> tuple[Tensor, ...]:
    return _compute(*taken_apart(of_operator), keep=False)


def _recurrence_forward(*of_operator: Any) -> tuple[Tensor, ...]:
    return _compute(*taken_apart(of_operator), keep=True)


def _recurrence_backward(*of_operator: Any) -> list[Tensor]:
    block, *d_outputs, needed = of_operator[:_BEFORE]
    batch, arguments = _checked(*taken_apart(of_operator[_BEFORE:]))
    kept = Kept(block) if batch.B else None
    computes, d = backends.backend_of(arguments.data, batch.spec), Outputs(*d_outputs)
    gradients = backend.backward(computes, batch, arguments, kept, d, needed)
    return [gradient for gradient in gradients if gradient is not None]


def _empty_outputs(layout: Layout, arguments: Arguments) -> list[Tensor]:
    data = arguments.data
    time_first = backends.backend_of(data, layout.spec).time_first
    return _filled(data, Batch.laid_out(layout, arguments).new_outputs(data, time_first))


def _fake_recurrence(*of_operator: Any) -> tuple[Tensor, ...]:
    return tuple(_empty_outputs(*taken_apart(of_operator)))


def _fake_recurrence_forward(*of_operator: Any) -> tuple[Tensor, ...]:
    layout, arguments = taken_apart(of_operator)
    data = arguments.data
    size = _room(backends.backend_of(data, layout.spec), layout, arguments)
    return *_empty_outputs(layout, arguments), data.new_empty(size, dtype=torch.uint8)


def _fake_recurrence_backward(*of_operator: Any) -> list[Tensor]:
    needed = of_operator[_BEFORE - 1]
    batch = Batch.laid_out(*taken_apart(of_operator[_BEFORE:]))
    return [gradient for gradient in batch.new_gradients(needed) if gradient is not None]


def _recurrence_of_autograd(keyset: Any, *of_operator: Any) -> Any:
    """``recurrence``, or where gradients will be wanted ``recurrence_forward``, which has some."""
    layout, arguments = taken_apart(of_operator)
    inputs = [tensor for tensor in arguments.inputs() if tensor is not None]
    if _torch.has_tangents(inputs):
        return _filled(arguments.data, by_equations(layout, arguments))
    of_operator = layout.of_operator(arguments)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return torch.ops.fastrnn.recurrence_forward(*of_operator)[:-1]
    with _torch.below_autograd():
        below = _torch.after_autograd(keyset)
        return torch.ops.fastrnn.recurrence.default.redispatch(below, *of_operator)


def _recurrence_transformed(*of_operator: Any) -> list[Tensor]:
    """``recurrence`` for ``torch.func``, whose levels this comes before.

    torch would look at one level after the other, and for each at the operator's derivatives, which
    are an autograd function that cannot be transformed.
    """
    outputs = _torch.past_functionalize(torch.ops.fastrnn.recurrence, of_operator)
    if outputs is not None:
        return list(outputs)
    layout, arguments = taken_apart(of_operator)
    plain = _torch.has_forward_mode() or _torch.is_functionalized()
    compute = by_equations if plain else vmap.run
    return _filled(arguments.data, compute(layout, arguments))


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    layout, arguments = taken_apart(inputs)
    save_all(ctx, layout, arguments.flat, output[-1])


def _gradients(ctx: Any, *d_outputs: Tensor | None) -> tuple[Any, ...]:
    kept, *tensors = saved_by(ctx)
    layout: Layout = ctx.layout
    arguments = layout.named(tensors)
    *single, of_weights, of_masks = ctx.needs_input_grad[: SINGLE + 2]
    needed = (*single[:3], *of_weights)
    reached = _present(layout, arguments, d_outputs)
    if _torch.any_wrapped(reached):
        found = iter(pulled_back(replace(layout, needed=needed), arguments, reached))
    else:
        backward = torch.ops.fastrnn.recurrence_backward
        found = iter(backward(kept, *reached, needed, *layout.of_operator(arguments)))
    d_data, d_hx, d_cx, *d_weights = (next(found) if need else None for need in needed)
    others = [None] * (3 + len(FLAT))
    return d_data, d_hx, d_cx, *[None] * 4, d_weights, [None] * len(of_masks), *others


def _keep_for_second_derivatives(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, *d_outputs, needed = inputs[:_BEFORE]
    layout, arguments = taken_apart(inputs[_BEFORE:])
    ctx.layout = replace(layout, needed=tuple(needed))
    save_present(ctx, (*d_outputs, *arguments.flat))


def _second_derivatives(ctx: Any, d_gradients: Sequence[Tensor]) -> tuple[Any, ...]:
    saved = saved_by(ctx)
    layout: Layout = ctx.layout
    arguments = layout.named(saved[5:])
    dd_outputs, d_inputs = pulled_back_twice(layout, arguments, saved[:5], d_gradients)
    d_data, d_hx, d_cx, *d_weights = d_inputs
    masks = [None] * len(arguments.masks)
    others = [None] * (3 + len(FLAT))
    return None, *dd_outputs, None, d_data, d_hx, d_cx, *[None] * 4, d_weights, masks, *others


for _name, _real, _fake in (
    ("recurrence", _recurrence, _fake_recurrence),
    ("recurrence_forward", _recurrence_forward, _fake_recurrence_forward),
    ("recurrence_backward", _recurrence_backward, _fake_recurrence_backward),
):
    _library.impl(_name, _real, "CompositeExplicitAutograd")  # on any device
    torch.library.register_fake(f"fastrnn::{_name}", _fake, lib=_library)
_library.impl("recurrence", _recurrence_of_autograd, "Autograd", with_keyset=True)
_library.impl("recurrence", _recurrence_transformed, "FuncTorchDynamicLayerFrontMode")
torch.library.register_autograd(
    "fastrnn::recurrence_forward", _gradients, setup_context=_keep_for_gradients, lib=_library
)
torch.library.register_autograd(
    "fastrnn::recurrence_backward",
    _second_derivatives,
    setup_context=_keep_for_second_derivatives,
    lib=_library,
)
flops.register(_BEFORE)
