"""Stateless LSTM, GRU and RNN layers and cells: arguments in torch's form, checked, then computed.

The layers take what the layers of ``torch.nn`` take, with the weights as one flat sequence.

Symbols in shapes: T steps, B sequences, I input features, H ``hidden_size``, K = ``proj_size`` or
H, L layers, D = 2 if bidirectional else 1, N rows of a packed batch, G gates (LSTM 4, GRU 3, RNN
1).

bfloat16 and float16 are computed in float32 and rounded once. Under ``torch.autocast`` tensors of
these and of float32 mix freely, and the results have the dtypes that torch's own layers return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ._call import checks
from ._call.spec import Variant
from ._layers.graphs import as_node
from ._layers.overrides import seen
from ._layers.run import run_cell, run_layer
from .variants import make_variant, take_nonlinearity

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]


@seen
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
        (input, hx, weights),
        (proj_size, num_layers, bias, bidirectional, dropout if training else 0.0),
        batch_first,
        (lengths, resets, return_states),
        make_variant("LSTM", options),
    )


@seen
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
        (input, hx, weights),
        (0, num_layers, bias, bidirectional, dropout if training else 0.0),
        batch_first,
        (lengths, resets, return_states),
        make_variant("GRU", options),
    )


@seen
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
        (input, hx, weights),
        (0, num_layers, bias, bidirectional, dropout if training else 0.0),
        batch_first,
        (lengths, resets, return_states),
        make_variant("RNN", options),
    )


@seen
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
    pair: tuple[Tensor, Tensor] = run_cell(
        "lstm", input, hx, (w_ih, w_hh, b_ih, b_hh), w_ch, variant
    )
    return pair


@seen
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
    h: Tensor = run_cell("gru", input, hx, (w_ih, w_hh, b_ih, b_hh), None, variant)
    return h


@seen
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
    cell = checks.rnn_cell_of(take_nonlinearity(options) or nonlinearity)
    variant = make_variant("RNNCell", options)
    h: Tensor = run_cell(cell, input, hx, (w_ih, w_hh, b_ih, b_hh), None, variant)
    return h


def _from_weights(
    cell: str,
    tensors: tuple[Any, Any, Sequence[Any]],
    options: tuple[int, int, bool, bool, float],
    batch_first: bool,
    extras: tuple[Any, Any, bool],
    variant: Variant | None,
) -> tuple[Any, ...]:
    """`run_layer` with the sizes that the first weight tells."""
    input, hx, weights = tensors
    if not weights:
        raise RuntimeError("weights: expected the Tensors of at least one layer, got none")
    sizes = checks.sizes_of(cell, weights[0], "weights[0] (weight_ih_l0)")
    return run_layer((cell, *sizes, *options, variant), input, hx, weights, batch_first, *extras)
