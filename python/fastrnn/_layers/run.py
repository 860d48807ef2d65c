"""The one fork of the roads that a call may take; what every layer, cell and function calls.

- The short way: from torch's tensors straight into the engine, without a look at them in Python
  (`fastrnn._layers.short_way`). It explains nothing.
- Classes and modes with ``__torch_function__``, which see one call of `fastrnn.functional`.
- For all others the arguments are checked here, and then computed: eagerly, or as one operator of
  torch's for whoever has to see it as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .._autograd import eager, operators
from .._call import checks, precision, ragged_checks, state_checks
from .._call.arguments import Arguments, as_returned, batch_of
from .._call.spec import PLAIN, Outputs, Spec, Variant
from .._call.weights import Expected, weights_of_cell
from .._engine import backends, fallback
from . import overrides, short_way
from .plan import Options, Plan, cell_plan, check_dtype, layer_plan, spec_of_cell
from .without_size import with_a_feature, without_units

__all__ = ["run_cell", "run_layer", "run_program_step", "run_program_step_directly"]

Run = Callable[..., Outputs]
"""`fastrnn._autograd.eager.run`, or what has its parameters and results."""


def run_layer(
    options: Options,
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    batch_first: bool,
    lengths: Any = None,
    resets: Any = None,
    return_states: bool = False,
    module: torch.nn.Module | None = None,
) -> tuple[Any, ...]:
    """What `fastrnn.functional.lstm`, ``gru`` and ``rnn`` do, with the sizes of the weights known.

    The other parameters, the results and the exceptions are those of `fastrnn.functional.lstm`;
    the ``dropout`` in the options is 0 when not training. ``module`` is who calls.
    """
    # A compiler traces into a function rather than trust a cache, and says so in a warning.
    traced = torch.compiler.is_dynamo_compiling()
    plan = (layer_plan.__wrapped__ if traced else layer_plan)(*options)
    if not return_states:
        done: tuple[Any, ...] | None = short_way.layer_directly(
            plan, input, hx, weights, batch_first, lengths, resets
        )
        if done is not None:
            return done
    expected, tensors = plan.expected, (input, hx, weights)
    if given := overrides.asked(*tensors):
        extras = {"lengths": lengths, "resets": resets, "return_states": return_states}
        answer: tuple[Any, ...] = overrides.asked_of_layer(
            given, expected.spec, tensors, batch_first, module, extras
        )
        return answer
    own = None if lengths is not None or resets is not None or return_states else module
    by_torch: tuple[Any, ...] | None = _by_torch(
        expected.spec, input, hx, own, batch_first=batch_first
    )
    if by_torch is not None:
        return by_torch
    if lengths is None and resets is None and not return_states:
        done = short_way.directly_on_gpu(plan, input, hx, weights, batch_first)
        if done is not None:
            return done
    dtypes, tensors = _under_autocast(expected.spec, tensors)
    if not return_states:
        done = short_way.layer_raised(plan, tensors, dtypes, batch_first, lengths, resets)
        if done is not None:
            return done
    if not isinstance(input, PackedSequence):
        return _run_padded(expected, tensors, batch_first, lengths, resets, return_states, dtypes)
    ragged_checks.check_absent("lengths", lengths)
    ragged_checks.check_absent("resets", resets)
    return _run_packed(expected, tensors, return_states, dtypes)


def _by_torch(spec: Spec, input: Any, hx: Any, module: torch.nn.Module | None, **form: bool) -> Any:
    """What torch's layer or cell returns where it is to compute; None if ours is to go on.

    ``module``: None for a call that torch's has not the arguments for. ``form``: of a call, for
    `backends.is_torchs`.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor) or backends.chosen is not None:
        return None
    refusal = backends.refusal(data, spec)
    if refusal is not None:
        fallback.check(data, refusal)
    elif not data.is_cuda or operators.is_watched():  # who sees one operation, sees ours
        return None
    if module is None or spec.variant != PLAIN or spec.program is not None:
        return None
    if refusal is None and not backends.is_torchs(spec, input, **form):
        return None
    return overrides.by_torch(module, input, hx)


def _under_autocast(
    spec: Spec, tensors: tuple[Any, Any, Any], *, one_step: bool = False
) -> tuple[precision.Dtypes | None, tuple[Any, Any, Any]]:
    """The dtypes that the outputs get and the tensors to compute with.

    None where the outputs have the tensors' dtype: without autocast, and by kernels of 16 bits.
    """
    if not _torch.is_any_autocast_enabled():
        return None, tensors
    dtypes = precision.under_autocast(spec, *tensors, one_step=one_step)
    if dtypes is None:
        return None, tensors
    input, *_ = tensors
    data = input.data if isinstance(input, PackedSequence) else input
    if data.is_cuda and backends.backend_of(data, spec).computes_half:
        return None, precision.as_autocast_casts(tensors, dtypes.h)
    return dtypes, precision.raised(tensors)


def _runner(
    spec: Spec, data: Tensor, dtypes: precision.Dtypes | None, run: Run | None
) -> Callable[..., Outputs]:
    """What computes checked arguments: `fastrnn._autograd.eager.run`, or what stands in for it.

    ``dtypes`` are those of the outputs, None for the one that all arguments have. ``run`` stands in
    for it if the layer has one of its own.
    """
    if run is None:
        run = operators.run if operators.is_watched() else eager.run
    if data.dtype in precision.REDUCED and not backends.backend_of(data, spec).computes_half:
        dtypes = precision.Dtypes(data.dtype, data.dtype)
    if dtypes is None:
        return run
    low = precision.low_dtype(data) is torch.bfloat16
    in_bfloat16 = low and backends.backend_of(data, spec).multiplies_bfloat16
    return partial(precision.run, run, dtypes, "bfloat16" if in_bfloat16 else "float32")


def _run_padded(
    expected: Expected,
    tensors: tuple[Any, Any, Any],
    batch_first: bool,
    lengths: Any,
    resets: Any,
    return_states: bool,
    dtypes: precision.Dtypes | None,
    run: Run | None = None,
) -> tuple[Any, ...]:
    input, hx, weights = tensors
    spec = expected.spec
    rank = checks.check_rank(input, spec.cell, (2, 3))
    h, c = state_checks.layer_states(spec.cell, hx, rank)
    data = input
    if rank == 2:
        batch_first = False
        data, h, c = (None if one is None else one.unsqueeze(1) for one in (input, h, c))
    steps, batch = data.shape[1::-1] if batch_first else data.shape[:2]
    checks.check_input(data, expected, weights, ValueError)
    if h is not None:
        state_checks.check_layer_states(spec, h, c, batch)
    state_checks.check_devices(h, c, data)
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN; input has 0 steps")
    state_checks.check_dtypes(h, c, data)
    checks.check_weights(expected, weights, data)
    check_dtype(data)
    if lengths is not None:
        known = not operators.is_watched()
        lengths = ragged_checks.check_lengths(lengths, steps, batch, data.device, known=known)
    if resets is not None:
        resets = ragged_checks.check_resets(resets, input.shape[:-1])
        if not operators.is_watched():
            ragged_checks.check_capture("resets", resets.device, data.device)
        resets = resets.unsqueeze(1) if rank == 2 else resets.t() if batch_first else resets
    arguments = Arguments(data, h, c, weights=weights, lengths=lengths, resets=resets)
    y, h_n, c_n, h_all, c_all = _runner(spec, data, dtypes, run)(
        spec, arguments, batch_first=batch_first, states=return_states
    )
    if rank == 2:
        y, h_n = y.squeeze(1), h_n.squeeze(1)
        c_n, h_all, c_all = (None if s is None else s.squeeze(-2) for s in (c_n, h_all, c_all))
    return as_returned(y, h_n, c_n, h_all, c_all)


def _run_packed(
    expected: Expected,
    tensors: tuple[PackedSequence, Any, Any],
    return_states: bool,
    dtypes: precision.Dtypes | None,
    run: Run | None = None,
) -> tuple[Any, ...]:
    packed, hx, weights = tensors
    spec = expected.spec
    data, batch_sizes, sorted_indices, unsorted_indices = packed
    if operators.is_watched():  # the values are checked once they are known
        batch = batch_of(data, hx, False, batch_sizes, sorted_indices)
    else:
        batch = ragged_checks.check_packed(data, batch_sizes, sorted_indices)
        if return_states:
            ragged_checks.check_capture_of_states(data.device)
    # torch's LSTM does not look at the dtype of a packed input before a matrix product fails.
    mismatch = RuntimeError if spec.cell == "lstm" else ValueError
    checks.check_input(data, expected, weights, mismatch)
    h, c = state_checks.layer_states(spec.cell, hx, None)
    if h is not None:
        state_checks.check_layer_states(spec, h, c, batch)
    state_checks.check_devices(h, c, data)
    state_checks.check_dtypes(h, c, data)
    checks.check_weights(expected, weights, data)
    check_dtype(data)
    arguments = Arguments(
        data,
        h,
        c,
        batch_sizes.contiguous(),
        None if sorted_indices is None else sorted_indices.contiguous(),
        weights=weights,
    )
    y, h_n, c_n, h_all, c_all = _runner(spec, data, dtypes, run)(
        spec, arguments, states=return_states
    )
    output = PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices)
    return as_returned(output, h_n, c_n, h_all, c_all)


def run_cell(
    cell: str,
    input: Any,
    hx: Any,
    given: tuple[Any, Any, Any, Any],
    w_ch: Any = None,
    variant: Variant | None = None,
    sizes: tuple[int, int] | None = None,
    module: torch.nn.Module | None = None,
) -> Any:
    """What `fastrnn.functional.lstm_cell`, ``gru_cell`` and ``rnn_cell`` do: (h', c') or h'.

    ``given`` are w_ih, w_hh, b_ih and b_hh. ``sizes`` are the input_size and hidden_size that they
    ought to have, for callers that know; those that they have are what counts.
    """
    weights = weights_of_cell(*given)
    bias = len(weights) == len(given)
    if variant is not None and variant.peephole:
        weights = (*weights, w_ch)
    traced = torch.compiler.is_dynamo_compiling()
    make_plan = cell_plan.__wrapped__ if traced else cell_plan
    plan = make_plan(cell, *(sizes or checks.cell_sizes_of(*given[:2])), bias, variant)
    done = short_way.cell_directly(plan, input, hx, weights)
    if done is not None:
        return done
    if asked := overrides.asked(input, hx, given):
        own = (*given, w_ch)
        return overrides.asked_of_cell(asked, plan.expected.spec, input, hx, own, module)
    by_torch = _by_torch(plan.expected.spec, input, hx, module, one_step=True)
    if by_torch is not None:
        return by_torch
    done = short_way.directly_on_gpu(plan, input, hx, weights, False)
    if done is not None:
        return done
    if sizes is not None:
        plan = make_plan(cell, *checks.cell_sizes_of(*given[:2]), bias, variant)
    expected = plan.expected
    return _run_step_raised(plan, expected, (input, hx, weights))


def run_program_step(
    cell: str, sizes: tuple[int, int, bool], input: Any, hx: Any, weights: Sequence[Any]
) -> Any:
    """One step of the program ``cell``: h', or (h', c').

    ``sizes`` are its input_size and hidden_size, and whether it has biases.
    """
    done = run_program_step_directly(cell, sizes, input, hx, weights)
    if done is not None:
        return done
    plan = _program_plan(cell, sizes)
    expected = plan.expected
    if asked := overrides.asked(input, hx, weights):
        return overrides.asked_of_cell(asked, expected.spec, input, hx, weights, None)
    _by_torch(expected.spec, input, hx, None)
    return _run_step_raised(plan, expected, (input, hx, weights))


def run_program_step_directly(
    cell: str, sizes: tuple[int, int, bool], input: Any, hx: Any, weights: Sequence[Any]
) -> Any:
    """The same by the short way; None if this call is none for it."""
    return short_way.cell_directly(_program_plan(cell, sizes), input, hx, weights)


def _program_plan(cell: str, sizes: tuple[int, int, bool]) -> Plan:
    traced = torch.compiler.is_dynamo_compiling()
    return (cell_plan.__wrapped__ if traced else cell_plan)(cell, *sizes)


def _run_step_raised(plan: Plan, expected: Expected, tensors: tuple[Any, Any, Any]) -> Any:
    """A step, of which autocast may be to raise the tensors."""
    dtypes, tensors = _under_autocast(expected.spec, tensors, one_step=True)
    done = short_way.cell_raised(plan, tensors, dtypes)
    return _run_step(expected, tensors, dtypes) if done is None else done


def _run_step(
    expected: Expected,
    tensors: tuple[Any, Any, Any],
    dtypes: precision.Dtypes | None,
    run: Run | None = None,
) -> Any:
    input, hx, weights = tensors
    spec = expected.spec
    rank = checks.check_rank(input, spec.cell, (1, 2), "Cell")
    h, c = state_checks.cell_states(spec.cell, hx, rank)
    checks.check_cell_input(input, spec)
    if h is not None:
        state_checks.check_cell_states(spec, h, c, input)
    checks.check_weights(expected, weights, input)
    check_dtype(input)
    state_checks.check_devices(h, c, input)
    state_checks.check_dtypes(h, c, input)
    if not spec.hidden_size:
        empty = without_units(input, h, c, weights, spec)
        return empty if dtypes is None else precision.lowered_each(empty, dtypes, spec)
    data = input
    if not spec.input_size:  # the engine gets a feature that is always zero
        spec = spec_of_cell(spec.cell, 1, spec.hidden_size, spec.bias, spec.variant)
        data, weights = with_a_feature(data), (with_a_feature(weights[0]), *weights[1:])
    if rank == 1:  # one sequence is a batch of one
        data, h, c = (None if tensor is None else tensor[None] for tensor in (data, h, c))
    h_next, _, c_next, _, _ = _runner(spec, data, dtypes, run)(
        spec, Arguments(data, h, c, weights=weights)
    )
    if rank == 1:
        h_next, c_next = h_next[0], None if c_next is None else c_next[0]
    return h_next if c_next is None else (h_next, c_next)
