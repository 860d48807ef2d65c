"""The layers as operators of torch's, for whoever has to see a call as one operation.

``torch.ops.fastrnn`` has three operators, which serve every cell and every option:

- ``recurrence``: the outputs. What compilers and exporters find in a graph.
- ``recurrence_forward``: the same, and what backward needs.
- ``recurrence_backward``: the gradients that somebody needs.

Below them is the engine, or for tensors that only have a shape a function that knows the shapes of
the outputs. What ``recurrence`` does under ``torch.func`` is in ``transformations.py``, and
forward-mode derivatives are those of the plain equations.

A plain call never comes here: `fastrnn._autograd.ops.run` costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import _torch, reference
from .._call import ragged_checks
from .._call.layout import (
    ASK,
    SINGLE,
    Layout,
    batch_of,
    is_single_step,
    of_present,
    rows_of,
    save,
    save_present,
    saved_by,
    steps_of,
    taken_apart,
)
from .._call.spec import FLAT, Outputs, Spec
from .._engine import calls
from . import flops, transformations
from .derivatives import by_equations, pulled_back_twice
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
    spec: Spec,
    data: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    weights: Sequence[Tensor],
    *,
    batch_first: bool = False,
    batch_sizes: Tensor | None = None,
    row_index: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    states: bool = False,
) -> Outputs:
    """`fastrnn._autograd.ops.run` as one node of a graph; the same parameters and results.

    A single step has a ``data`` of two dimensions, [B, I], and its h_n is y.
    """
    if not torch.compiler.is_compiling() and _torch.is_tracing():
        batch = ASK  # a number would be a constant of the graph
    else:
        batch = batch_of(data, hx, batch_first, batch_sizes, row_index)
    layout = Layout(spec, batch, batch_first, states, len(weights))
    masks = _draw_masks(spec, data, batch_first, batch_sizes, lengths)
    tensors = (data, hx, cx, batch_sizes, row_index, lengths, resets, *weights, *masks)
    if not torch.compiler.is_compiling() and _torch.has_forward_mode():
        return by_equations(layout, tensors)
    outputs = torch.ops.fastrnn.recurrence(*layout.arguments(tensors))
    y, h_n, c_n, h_all, c_all = of_present(layout, tensors, outputs)
    return y, y if h_n is None else h_n, c_n, h_all, c_all


def _draw_masks(
    spec: Spec,
    data: Tensor,
    batch_first: bool,
    batch_sizes: Tensor | None,
    lengths: Tensor | None,
) -> list[Tensor]:
    """As `fastrnn._autograd.ops` draws them; with ``lengths`` for every row that there might be.

    How many rows there are is a value then, and the engine reads the first so many of the mask.
    """
    if not spec.dropout or spec.num_layers == 1:
        return []
    rows: tuple[int, ...] = (rows_of((data,)),)
    if batch_sizes is None and lengths is None:
        steps = steps_of(data, batch_first, None)
        rows = (steps, data.shape[0 if batch_first else 1])
    width = (2 if spec.bidirectional else 1) * (spec.proj_size or spec.hidden_size)
    return [
        reference.dropout_mask((*rows, width), spec.dropout, data)
        for _ in range(spec.num_layers - 1)
    ]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The equations of the layers in torch's own operators, for programs that run without Python.

    The operators of this package are Python's: a package of AOTInductor's finds them wherever
    `fastrnn._autograd.operators` has been imported, and a program in C++ does not. For that::

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


def _decomposed(*arguments: Any) -> tuple[Tensor, ...]:
    layout, tensors = taken_apart(arguments)
    data, batch_sizes = tensors[0], tensors[3]
    steps = (
        1 if is_single_step(data, batch_sizes) else steps_of(data, layout.batch_first, batch_sizes)
    )
    if not isinstance(steps, int):
        raise RuntimeError(
            f"fastrnn.decompositions: expected a fixed number of steps, which are unrolled, "
            f"got a dynamic one, {steps}"
        )
    return tuple(_filled(data, by_equations(layout, tensors)))


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


def _make_call(layout: Layout, tensors: Sequence[Any]) -> calls.Call:
    """Into the engine, with those values checked that a graph could not know."""
    data, hx, cx, batch_sizes, row_index, lengths, resets = tensors[:SINGLE]
    if lengths is not None:
        steps = steps_of(data, layout.batch_first, None)
        lengths = ragged_checks.check_lengths(lengths, steps, layout.batch, data.device)
    if batch_sizes is not None:
        ragged_checks.check_packed(data, batch_sizes, row_index, layout.batch)
    checked = (data, hx, cx, batch_sizes, row_index, lengths, resets)
    return calls.call_of(layout, [*checked, *tensors[SINGLE:]])


def _compute(layout: Layout, tensors: Sequence[Any], keep: bool) -> list[Tensor]:
    """The outputs, empty ones for those that there are not, and what was kept."""
    call = _make_call(layout, tensors)
    data, hx, cx = tensors[:3]
    weights = tensors[SINGLE : layout.weights_end]
    kept: list[Tensor] | None = None
    if keep:
        kept = []
        call.room = calls.kept_bytes(layout.spec, data, rows_of(tensors), bool(call.masks))
    outputs = call.named(call.forward(data, hx, cx, weights, kept))
    filled = _filled(data, outputs)
    if kept is None:
        return filled
    return [*filled, *(kept or [data.new_empty(0, dtype=torch.uint8)])]


def _filled(data: Tensor, outputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The outputs, with an empty tensor for one that there is not."""
    return [data.new_empty(0) if output is None else output for output in outputs]


def _recurrence(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_compute(*taken_apart(arguments), keep=False))


def _recurrence_forward(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_compute(*taken_apart(arguments), keep=True))


def _recurrence_backward(*arguments: Any) -> list[Tensor]:
    kept, d_y, d_h_n, d_c_n, d_h_all, d_c_all, needed = arguments[:_BEFORE]
    layout, tensors = taken_apart(arguments[_BEFORE:])
    call = _make_call(layout, tensors)
    inputs = [tensors[place] for place in layout.trained]
    make = torch.empty_like if kept.numel() else torch.zeros_like
    gradients = [
        make(tensor, memory_format=torch.contiguous_format) if need else None
        for tensor, need in zip(inputs, needed, strict=True)
    ]
    if kept.numel():
        data, hx, cx, *weights = inputs
        call.prepare_backward(kept)
        call.backward(
            data, hx, cx, weights, kept, call.masks, d_y, d_h_n, d_c_n, d_h_all, d_c_all, gradients
        )
    return [gradient for gradient in gradients if gradient is not None]


def _empty_outputs(layout: Layout, tensors: Sequence[Any]) -> list[Tensor]:
    return [tensors[0].new_empty(0 if shape is None else shape) for shape in layout.shapes(tensors)]


def _fake_recurrence(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(_empty_outputs(*taken_apart(arguments)))


def _fake_recurrence_forward(*arguments: Any) -> tuple[Tensor, ...]:
    layout, tensors = taken_apart(arguments)
    dropout = len(tensors) > layout.weights_end
    size = calls.kept_bytes(layout.spec, tensors[0], rows_of(tensors), dropout)
    return *_empty_outputs(layout, tensors), tensors[0].new_empty(size, dtype=torch.uint8)


def _fake_recurrence_backward(*arguments: Any) -> list[Tensor]:
    needed = arguments[_BEFORE - 1]
    layout, tensors = taken_apart(arguments[_BEFORE:])
    return [
        torch.empty_like(tensors[place], memory_format=torch.contiguous_format)
        for place, need in zip(layout.trained, needed, strict=True)
        if need
    ]


def _recurrence_of_autograd(keyset: Any, *arguments: Any) -> Any:
    """``recurrence``, or where gradients will be wanted ``recurrence_forward``, which has some."""
    layout, tensors = taken_apart(arguments)
    inputs = [tensors[place] for place in layout.trained if tensors[place] is not None]
    if _torch.has_tangents(inputs):
        return _filled(tensors[0], by_equations(layout, tensors))
    arguments = layout.arguments(tensors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return torch.ops.fastrnn.recurrence_forward(*arguments)[:-1]
    with _torch.below_autograd():
        below = _torch.after_autograd(keyset)
        return torch.ops.fastrnn.recurrence.default.redispatch(below, *arguments)


def _recurrence_transformed(*arguments: Any) -> list[Tensor]:
    """``recurrence`` for ``torch.func``, whose levels this comes before.

    torch would look at one level after the other, and for each at the operator's derivatives, which
    are an autograd function that cannot be transformed.
    """
    outputs = _torch.past_functionalize(torch.ops.fastrnn.recurrence, arguments)
    if outputs is not None:
        return list(outputs)
    layout, tensors = taken_apart(arguments)
    plain = _torch.has_forward_mode() or _torch.is_functionalized()
    compute = by_equations if plain else transformations.run
    return _filled(tensors[0], compute(layout, tensors))


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    save(ctx, *taken_apart(inputs), output[-1])


def _gradients(ctx: Any, *d_outputs: Tensor | None) -> tuple[Any, ...]:
    kept, *tensors = saved_by(ctx)
    layout: Layout = ctx.layout
    *single, of_weights, of_masks = ctx.needs_input_grad[: SINGLE + 2]
    needed = (*single[:3], *of_weights)
    reached = of_present(layout, tensors, d_outputs)
    if _torch.any_wrapped(reached):
        found = iter(pulled_back(replace(layout, needed=needed), tensors, reached))
    else:
        backward = torch.ops.fastrnn.recurrence_backward
        found = iter(backward(kept, *reached, needed, *layout.arguments(tensors)))
    d_data, d_hx, d_cx, *d_weights = (next(found) if need else None for need in needed)
    others = [None] * (3 + len(FLAT))
    return d_data, d_hx, d_cx, *[None] * 4, d_weights, [None] * len(of_masks), *others


def _keep_for_second_derivatives(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, *d_outputs, needed = inputs[:_BEFORE]
    layout, tensors = taken_apart(inputs[_BEFORE:])
    ctx.layout = replace(layout, needed=tuple(needed))
    save_present(ctx, (*d_outputs, *tensors))


def _second_derivatives(ctx: Any, d_gradients: Sequence[Tensor]) -> tuple[Any, ...]:
    saved = saved_by(ctx)
    d_outputs, tensors = saved[:5], saved[5:]
    layout: Layout = ctx.layout
    dd_outputs, d_inputs = pulled_back_twice(layout, tensors, d_outputs, d_gradients)
    d_data, d_hx, d_cx, *d_weights = d_inputs
    masks = [None] * (len(tensors) - layout.weights_end)
    others = [None] * (3 + len(FLAT))
    return None, *dd_outputs, None, d_data, d_hx, d_cx, *[None] * 4, d_weights, masks, *others


for _name, _real, _fake in (
    ("recurrence", _recurrence, _fake_recurrence),
    ("recurrence_forward", _recurrence_forward, _fake_recurrence_forward),
    ("recurrence_backward", _recurrence_backward, _fake_recurrence_backward),
):
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _real, _device)
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
