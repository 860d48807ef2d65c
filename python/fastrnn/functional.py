"""Stateless LSTM, GRU and RNN layers and cells: arguments in torch's form, checked, then computed.

The layers take what the layers of ``torch.nn`` take, with the weights as one flat sequence. The
modules of `fastrnn._layers.modules` are thin callers of what is here.

Symbols in shapes: T steps, B sequences, I input features, H ``hidden_size``, K = ``proj_size`` or
H, L layers, D = 2 if bidirectional else 1, N rows of a packed batch, G gates (LSTM 4, GRU 3, RNN
1).

bfloat16 and float16 are computed in float32 and rounded once. Under ``torch.autocast`` tensors of
these and of float32 mix freely, and the results have the dtypes that torch's own layers return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import PackedSequence

from . import _torch
from ._autograd import eager, operators
from ._call import checks, precision, ragged_checks, state_checks
from ._call.arguments import as_returned, batch_of
from ._call.layout import weights_of_cell
from ._call.spec import Outputs, Variant
from ._engine import backend
from ._layers import overrides
from ._layers.graphs import as_node
from .variants import make_variant, take_nonlinearity

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]


@as_node
def lstm(
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
    weights: Sequence[Tensor] = (),
    *,
    bias: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    proj_size: int = 0,
    lengths: Tensor | Sequence[int] | None = None,
    resets: Tensor | None = None,
    return_states: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """Long short-term memory over whole sequences; equations in `fastrnn.reference.lstm_step`.

    Parameters
    ----------
    input : Tensor or PackedSequence
        [T, B, I], [B, T, I] with ``batch_first``, or [T, I] for one sequence; of the
        weights' dtype: float32, float64, bfloat16 or float16.
    hx : (Tensor, Tensor), optional
        h_0 [L*D, B, K] and c_0 [L*D, B, H], without B for one sequence; zeros if not given. For a
        PackedSequence in the order of the batch before it was packed, as are h_n and c_n.
    weights : sequence of Tensor
        For each layer and in it for each direction: w_ih [4H, I or D*K], w_hh [4H, K], then
        b_ih [4H] and b_hh [4H] if ``bias``, then w_hr [K, H] if ``proj_size``, then w_ch [n H] with
        a ``peephole`` of n letters; gates i, f, g, o.
    bias, num_layers, bidirectional, batch_first, proj_size
        As in ``torch.nn.LSTM``.
    dropout : float
        Probability of a zero in the outputs between layers; applies only when ``training``.
    lengths : Tensor [B] of integers or sequence of int, optional
        The steps of each sequence, 0 to T, in any order; what ``input`` holds beyond them is not
        read. The reverse direction starts from each sequence's own end. None: all have T.
    resets : Tensor bool, shaped like ``input`` without its features, optional
        True at step t: nothing passes from step t - 1 to step t, in either direction. The forward
        direction enters step t with a state of zeros (at t = 0 instead of ``hx``), the reverse
        direction step t - 1. Nothing happens past a sequence's length.
    return_states : bool
        Return the states after every step, too.
    **options
        Those of the LSTM in `fastrnn.variants`, but for ``forget_bias``.

    Returns
    -------
    output : Tensor or PackedSequence
        Like ``input``, with D*K features; zero past a sequence's length.
    (h_n, c_n) : (Tensor, Tensor)
        Final states, shaped like ``hx``; after a sequence's own last step, and ``hx`` itself for
        one of length 0.
    (h_all, c_all) : (Tensor, Tensor)
        Only with ``return_states``: [L*D, T, B, K] and [L*D, T, B, H], without B for one sequence,
        in torch's order of layers and directions and with time first even with ``batch_first``.
        h is the layer's output before dropout; both are zero past a sequence's length. For a
        PackedSequence in the order of the batch before it was packed.

    Raises
    ------
    ValueError
        ``input`` has the wrong number of dimensions or another dtype than the weights, a size is
        out of range, ``lengths`` or ``resets`` has a wrong shape, dtype or value, or is given
        together with a PackedSequence, or an option is none of this layer's.
    RuntimeError
        Any other shape, dtype or device is wrong. NotImplementedError, which is one, if all agree
        on a dtype or device that this build has no kernels for.
    AttributeError, TypeError, IndexError
        An argument is of the wrong kind.
    """
    return _from_weights(
        "lstm",
        input,
        hx,
        weights,
        proj_size,
        num_layers,
        bias,
        bidirectional,
        batch_first,
        dropout if training else 0.0,
        lengths,
        resets,
        return_states,
        make_variant("LSTM", options),
    )


@as_node
def gru(
    input: Tensor | PackedSequence,
    hx: Tensor | None = None,
    weights: Sequence[Tensor] = (),
    *,
    bias: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    lengths: Tensor | Sequence[int] | None = None,
    resets: Tensor | None = None,
    return_states: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """Gated recurrent units over whole sequences; equations in `fastrnn.reference.gru_step`.

    Parameters, results and exceptions are those of `lstm`, with gates r, z, n, with one Tensor
    where `lstm` has a pair (``hx`` [L*D, B, H]), and with no ``proj_size``.
    """
    return _from_weights(
        "gru",
        input,
        hx,
        weights,
        0,
        num_layers,
        bias,
        bidirectional,
        batch_first,
        dropout if training else 0.0,
        lengths,
        resets,
        return_states,
        make_variant("GRU", options),
    )


@as_node
def rnn(
    input: Tensor | PackedSequence,
    hx: Tensor | None = None,
    weights: Sequence[Tensor] = (),
    *,
    nonlinearity: str = "tanh",
    bias: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    lengths: Tensor | Sequence[int] | None = None,
    resets: Tensor | None = None,
    return_states: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """Simple recurrent layers over whole sequences; equations in `fastrnn.reference.rnn_step`.

    Parameters, results and exceptions are those of `gru`, with one gate and with ``nonlinearity``
    "tanh" or "relu"; ValueError for another.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
    nonlinearity = take_nonlinearity(options) or nonlinearity
    return _from_weights(
        f"rnn_{nonlinearity}",
        input,
        hx,
        weights,
        0,
        num_layers,
        bias,
        bidirectional,
        batch_first,
        dropout if training else 0.0,
        lengths,
        resets,
        return_states,
        make_variant("RNN", options),
    )


@as_node
def lstm_cell(
    input: Tensor,
    hx: tuple[Tensor, Tensor] | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    w_ch: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory cell; equations in `fastrnn.reference.lstm_step`.

    Parameters
    ----------
    input : Tensor
        [B, I], or [I] for one sequence; of the weights' dtype, as for `lstm`.
    hx : (Tensor, Tensor), optional
        h and c, both [B, H], or [H] for one sequence; zeros if None.
    w_ih, w_hh : Tensor [4H, I], [4H, H]
        Gates i, f, g, o.
    b_ih, b_hh : Tensor [4H], optional
    w_ch : Tensor [n H]
        With a ``peephole`` of n letters.
    **options
        Those of the LSTM in `fastrnn.variants`, but for ``forget_bias`` and ``reverse``.

    Returns
    -------
    (h', c') : (Tensor, Tensor)
        The next states, shaped like ``hx``.

    Raises
    ------
    ValueError
        A Tensor has the wrong number of dimensions, or an option is none of this cell's.
    RuntimeError, AttributeError, TypeError
        As for `lstm`; a wrong dtype of ``input`` is a RuntimeError here, as it is in torch.
    """
    variant = make_variant("LSTMCell", options)
    pair: tuple[Tensor, Tensor] = run_cell("lstm", input, hx, w_ih, w_hh, b_ih, b_hh, w_ch, variant)
    return pair


@as_node
def gru_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """One step of a gated recurrent unit; equations in `fastrnn.reference.gru_step`.

    Parameters, results and exceptions are those of `lstm_cell`, with gates r, z, n and with one
    state ``hx`` [B, H] or [H].
    """
    variant = make_variant("GRUCell", options)
    h: Tensor = run_cell("gru", input, hx, w_ih, w_hh, b_ih, b_hh, None, variant)
    return h


@as_node
def rnn_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
    **options: Any,
) -> Tensor:
    """One step of a simple recurrent cell; equations in `fastrnn.reference.rnn_step`.

    Parameters, results and exceptions are those of `gru_cell`, with one gate and with
    ``nonlinearity`` "tanh" or "relu"; RuntimeError for another.
    """
    cell = rnn_cell_of(take_nonlinearity(options) or nonlinearity)
    variant = make_variant("RNNCell", options)
    h: Tensor = run_cell(cell, input, hx, w_ih, w_hh, b_ih, b_hh, None, variant)
    return h


def rnn_cell_of(nonlinearity: str) -> str:
    """The cell of this nonlinearity; RuntimeError, as torch's cell raises it, for another."""
    if nonlinearity not in ("tanh", "relu"):
        raise RuntimeError(f"Unknown nonlinearity: {nonlinearity}; expected 'tanh' or 'relu'")
    return f"rnn_{nonlinearity}"


def run_layer(
    cell: str,
    input: Any,
    hx: Any,
    weights: Sequence[Any],
    input_size: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
    dropout: float,
    lengths: Any = None,
    resets: Any = None,
    return_states: bool = False,
    variant: Variant | None = None,
    module: torch.nn.Module | None = None,
) -> tuple[Any, ...]:
    """What `lstm`, `gru` and `rnn` do, for callers that know what sizes the weights ought to have.

    ``cell`` is "lstm", "gru", "rnn_tanh" or "rnn_relu", ``dropout`` is 0 when not training; the
    other parameters, the results and the exceptions are those of `lstm`. ``module`` is who calls.
    """
    # A compiler traces into a function rather than trust a cache, and says so in a warning.
    traced = torch.compiler.is_dynamo_compiling()
    make_plan = checks.layer_plan.__wrapped__ if traced else checks.layer_plan
    plan = make_plan(
        cell, input_size, hidden_size, proj_size, num_layers, bias, bidirectional, dropout, variant
    )
    if lengths is None and resets is None and not return_states:
        done: tuple[Any, ...] | None = _directly(plan, input, hx, weights, batch_first)
        if done is not None:
            return done
    if given := overrides.asked(input, hx, weights):
        extras = {"lengths": lengths, "resets": resets, "return_states": return_states}
        seen = given, plan.spec, batch_first, input, hx, weights, module, extras
        answer: tuple[Any, ...] = overrides.asked_of_layer(_FUNCTIONS[cell.split("_")[0]][0], *seen)
        return answer
    dtypes = None
    if _torch.is_any_autocast_enabled():
        dtypes = precision.under_autocast(plan.spec, input, hx, weights)
        if dtypes is not None:
            input, hx, weights = precision.raised((input, hx, weights))
    if isinstance(input, PackedSequence):
        ragged_checks.check_absent("lengths", lengths)
        ragged_checks.check_absent("resets", resets)
        return _run_packed(plan, input, hx, weights, return_states, dtypes)
    rank = checks.check_rank(input, cell, (2, 3))
    h, c = state_checks.layer_states(cell, hx, rank)
    data = input
    if rank == 2:
        batch_first = False
        data, h, c = (None if one is None else one.unsqueeze(1) for one in (input, h, c))
    steps, batch = data.shape[1::-1] if batch_first else data.shape[:2]
    checks.check_input(data, plan, weights, ValueError)
    if h is not None:
        state_checks.check_layer_states(plan.spec, h, c, batch)
    state_checks.check_devices(h, c, data)
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN; input has 0 steps")
    state_checks.check_dtypes(h, c, data)
    checks.check_weights(plan, weights, data)
    if lengths is not None:
        known = not operators.is_watched()
        lengths = ragged_checks.check_lengths(lengths, steps, batch, data.device, known=known)
    if resets is not None:
        resets = ragged_checks.check_resets(resets, input.shape[:-1])
        resets = resets.unsqueeze(1) if rank == 2 else resets.t() if batch_first else resets
    y, h_n, c_n, h_all, c_all = _runner(data, dtypes)(
        plan.spec,
        data,
        h,
        c,
        weights,
        batch_first=batch_first,
        lengths=lengths,
        resets=resets,
        states=return_states,
    )
    if rank == 2:
        y, h_n = y.squeeze(1), h_n.squeeze(1)
        c_n, h_all, c_all = (None if s is None else s.squeeze(-2) for s in (c_n, h_all, c_all))
    return as_returned(y, h_n, c_n, h_all, c_all)


def _directly(
    plan: checks.Plan, input: Any, hx: Any, weights: Sequence[Any], batch_first: bool
) -> Any:
    """What the layer or cell returns, by the short way; None if this call is none for it."""
    if plan.direct is None or _torch.is_observed() or _torch.is_any_autocast_enabled():
        return None
    if _torch.is_profiled() or _torch.has_function_mode():  # which see no short way
        return None
    if backend.chosen is not None:
        return None
    return plan.direct(
        input, hx, weights, batch_first, torch.is_grad_enabled(), torch.get_num_threads()
    )


def _runner(data: Tensor, dtypes: precision.Dtypes | None) -> Callable[..., Outputs]:
    """What computes checked arguments: `fastrnn._autograd.eager.run`, or what stands in for it.

    ``dtypes`` are those of the outputs, None for the one that all arguments have.
    """
    run = operators.run if operators.is_watched() else eager.run
    if data.dtype in precision.REDUCED and not backend.backend_of(data).computes_half:
        dtypes = precision.Dtypes(data.dtype, data.dtype)
    return run if dtypes is None else partial(precision.run, run, dtypes)


def _from_weights(
    cell: str, input: Any, hx: Any, weights: Sequence[Any], *options: Any
) -> tuple[Any, ...]:
    """`run_layer` with the sizes that the first weight tells."""
    if not weights:
        raise RuntimeError("weights: expected the Tensors of at least one layer, got none")
    input_size, hidden_size = checks.sizes_of(cell, weights[0], "weights[0] (weight_ih_l0)")
    return run_layer(cell, input, hx, weights, input_size, hidden_size, *options)


def _run_packed(
    plan: checks.Plan,
    packed: PackedSequence,
    hx: Any,
    weights: Sequence[Any],
    return_states: bool,
    dtypes: precision.Dtypes | None,
) -> tuple[Any, ...]:
    data, batch_sizes, sorted_indices, unsorted_indices = packed
    watched = operators.is_watched()
    if watched:  # the values are checked once they are known
        batch = batch_of(data, hx, False, batch_sizes, sorted_indices)
    else:
        batch = ragged_checks.check_packed(data, batch_sizes, sorted_indices)
    # torch's LSTM does not look at the dtype of a packed input before a matrix product fails.
    cell = plan.spec.cell
    mismatch = RuntimeError if cell == "lstm" else ValueError
    checks.check_input(data, plan, weights, mismatch)
    h, c = state_checks.layer_states(cell, hx, None)
    if h is not None:
        state_checks.check_layer_states(plan.spec, h, c, batch)
    state_checks.check_devices(h, c, data)
    state_checks.check_dtypes(h, c, data)
    checks.check_weights(plan, weights, data)
    y, h_n, c_n, h_all, c_all = _runner(data, dtypes)(
        plan.spec,
        data,
        h,
        c,
        weights,
        batch_sizes=batch_sizes.contiguous(),
        row_index=None if sorted_indices is None else sorted_indices.contiguous(),
        states=return_states,
    )
    output = PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices)
    return as_returned(output, h_n, c_n, h_all, c_all)


def run_cell(
    cell: str,
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any,
    b_hh: Any,
    w_ch: Any = None,
    variant: Variant | None = None,
    sizes: tuple[int, int] | None = None,
    module: torch.nn.Module | None = None,
) -> Any:
    """What `lstm_cell`, `gru_cell` and `rnn_cell` do: (h', c') or h'.

    ``sizes`` are the input_size and hidden_size that the weights ought to have, for callers that
    know; those that they have are what counts.
    """
    weights = weights_of_cell(w_ih, w_hh, b_ih, b_hh)
    bias = len(weights) == len(checks.CELL_WEIGHTS)
    if variant is not None and variant.peephole:
        weights = (*weights, w_ch)
    traced = torch.compiler.is_dynamo_compiling()
    make_plan = checks.cell_plan.__wrapped__ if traced else checks.cell_plan
    plan = make_plan(cell, *(sizes or checks.cell_sizes_of(w_ih, w_hh)), bias, variant)
    done = _directly(plan, input, hx, weights, False)
    if done is not None:
        return done
    if given := overrides.asked(input, hx, (w_ih, w_hh, b_ih, b_hh)):
        of_cell = (w_ih, w_hh, b_ih, b_hh, w_ch)
        return overrides.asked_of_cell(
            _FUNCTIONS[cell.split("_")[0]][1], given, plan.spec, input, hx, of_cell, module
        )
    if sizes is not None:
        plan = make_plan(cell, *checks.cell_sizes_of(w_ih, w_hh), bias, variant)
    dtypes = None
    if _torch.is_any_autocast_enabled():
        dtypes = precision.under_autocast(plan.spec, input, hx, weights, one_step=True)
        if dtypes is not None:
            input, hx, weights = precision.raised((input, hx, weights))
    rank = checks.check_rank(input, cell, (1, 2), "Cell")
    h, c = state_checks.cell_states(cell, hx, rank)
    checks.check_cell_input(input, plan)
    if h is not None:
        state_checks.check_cell_states(h, c, plan, input)
    checks.check_weights(plan, weights, input)
    state_checks.check_devices(h, c, input)
    state_checks.check_dtypes(h, c, input)
    if not plan.spec.hidden_size:
        return _without_units(input, h, c, weights, cell)
    data = input
    if not plan.spec.input_size:  # the engine gets a feature that is always zero
        plan = make_plan(cell, 1, plan.spec.hidden_size, bias, variant)
        data, weights = pad(data, (0, 1)), (pad(weights[0], (0, 1)), *weights[1:])
    if rank == 1:  # one sequence is a batch of one
        data, h, c = (None if tensor is None else tensor[None] for tensor in (data, h, c))
    h_next, _, c_next, _, _ = _runner(data, dtypes)(plan.spec, data, h, c, weights)
    if rank == 1:
        h_next, c_next = h_next[0], None if c_next is None else c_next[0]
    return h_next if c_next is None else (h_next, c_next)


def _without_units(
    data: Tensor, h: Tensor | None, c: Tensor | None, weights: Sequence[Tensor], cell: str
) -> Any:
    """What `run_cell` returns where H = 0: empty as the gates are, and with their gradients."""
    w_ih, w_hh, *vectors = weights
    none = data.new_zeros((*data.shape[:-1], 0))
    gates = linear(data, w_ih) + linear(none if h is None else h, w_hh)
    for vector in vectors:
        gates = gates + vector
    return gates if cell != "lstm" else (gates, gates + (none if c is None else c))


_FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "lstm": (lstm, lstm_cell),
    "gru": (gru, gru_cell),
    "rnn": (rnn, rnn_cell),
}
