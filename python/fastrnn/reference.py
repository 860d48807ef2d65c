"""The equations of every cell and layer in plain differentiable torch ops: the oracle of the tests.

Nothing here is fast and nothing here is clever. It runs in any dtype and on any device, supports
double backward, and shares no code with the engine.

Symbols: ``x`` the input of a step, ``h`` the hidden state, ``c`` the cell state, a prime the next
one, ``W_i`` and ``W_h`` the rows of ``w_ih`` and ``w_hh`` that belong to one gate, ``b_i`` and
``b_h`` those of the biases, ``*`` elementwise, ``@`` a matrix product. Dimensions: T steps, B
sequences, I input features, H hidden units, P outputs of a projection, K = P or H, L layers, D =
2 directions or 1, N rows of a packed batch.

Every batch is computed as a packed one, `fastrnn._call.rows`, so that one loop serves all: in a
dense batch every sequence is active at every step, and one with ``lengths`` is packed first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._call.dropout import dropout_mask
from ._call.rows import (
    as_rows,
    beginning,
    forgetting,
    forgotten,
    in_sequence_order,
    initial_states,
    like_data,
    padded,
    stacked,
)
from ._call.spec import PLAIN, Outputs, Spec, Variant
from ._call.weights import Weights, by_direction
from ._program import tensors
from ._program.program import Program
from .variants import own_activation, parse_activation

__all__ = ["activation", "dropout_mask", "gru_step", "lstm_step", "rnn", "rnn_step"]


def activation(name: str, x: Tensor) -> Tensor:
    """The activation of that name in `fastrnn.variants.ACTIVATIONS`, of any Tensor.

    With alpha and beta its parameters::

        tanh, sigmoid, relu, softsign, softplus    as in ``torch.nn.functional``
        hard_sigmoid, hard_sigmoid_onnx            alpha * x + beta, limited to 0 .. 1
        elu                                        x if x > 0 else alpha * (exp(x) - 1)
        leaky_relu                                 x if x > 0 else alpha * x
        identity, affine                           x, alpha * x + beta
        scaled_tanh                                alpha * tanh(beta * x)
        thresholded_relu                           0 if x <= alpha else x

    References
    ----------
    ONNX's operators of these names, ``keras.activations``, ``torch.nn.functional``.
    """
    kind, parameters = parse_activation(name)
    return _ACTIVATIONS[kind](x, *parameters)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_onnx": _hard_sigmoid,
    "softsign": torch.nn.functional.softsign,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=40),  # to full precision
    "elu": torch.nn.functional.elu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "identity": lambda x: x,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "scaled_tanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "thresholded_relu": lambda x, alpha: torch.where(x <= alpha, torch.zeros_like(x), x),
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "selu": torch.nn.functional.selu,
    "mish": torch.nn.functional.mish,
    "relu6": lambda x: x.relu().clamp(max=6),
    "hard_tanh": lambda x: x.clamp(-1, 1),
    "hard_silu": torch.nn.functional.hardswish,
}


def _clipped(x: Tensor, variant: Variant) -> Tensor:
    return x.clamp(-variant.cell_clip, variant.cell_clip) if variant.cell_clip else x


def lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    w_hr: Tensor | None = None,
    w_ch: Tensor | None = None,
    variant: Variant = PLAIN,
) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory cell.

    With a = x @ W_i^T + b_i + h @ W_h^T + b_h, split into four gates in torch's order i, f, g, o::

        i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)
        g       = tanh(a_g)
        c'      = f * c + i * g
        h'      = o * tanh(c')            (o * tanh(c')) @ W_hr^T with a projection

    A ``variant`` has other activations; adds w_ch * c to a_i, a_f or a_g and w_ch * c' to a_o where
    it has peepholes; then limits all a to -cell_clip .. cell_clip; and has f = 1 - i with
    ``input_forget``.

    Parameters
    ----------
    x : Tensor [B, I]
    h : Tensor [B, K]
    c : Tensor [B, H]
    w_ih, w_hh : Tensor [4H, I], [4H, K]
    b_ih, b_hh : Tensor [4H], optional
    w_hr : Tensor [P, H], optional
        The projection; K is P with it and H without it.
    w_ch : Tensor [len(peephole) * H], optional
        A block for each letter of the variant's ``peephole``.
    variant : Variant
        How the cell differs from torch's.

    Returns
    -------
    (h', c') : Tensor [B, K], Tensor [B, H]

    References
    ----------
    Hochreiter and Schmidhuber (1997); the forget gate is from Gers, Schmidhuber and Cummins (2000),
    peepholes from Gers and Schmidhuber (2000), the projection from Sak, Senior and Beaufays (2014),
    arXiv:1402.1128, coupled gates from Greff et al. (2015), arXiv:1503.04069.
    """
    i, f, g, o = (_affine(x, w_ih, b_ih) + _affine(h, w_hh, b_hh)).chunk(4, dim=-1)
    letters = variant.peephole
    seen = {} if w_ch is None else dict(zip(letters, w_ch.chunk(len(letters)), strict=True))

    def gate(letter: str, a: Tensor, state: Tensor) -> Tensor:
        a = _clipped(a + seen[letter] * state if letter in seen else a, variant)
        own = variant.activation or "tanh" if letter == "g" else variant.recurrent_activation
        return activation(own, a)

    i, g = gate("i", i, c), gate("g", g, c)
    f = 1 - i if variant.input_forget else gate("f", f, c)
    c_next = f * c + i * g
    h_next = gate("o", o, c_next) * activation(variant.output_activation, c_next)
    return (h_next if w_hr is None else h_next @ w_hr.t()), c_next


def gru_step(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    variant: Variant = PLAIN,
) -> Tensor:
    """One step of a gated recurrent unit, the reset gate applied *after* the recurrent product.

    Gates in torch's order r, z, n::

        r  = sigmoid(x @ W_ir^T + b_ir + h @ W_hr^T + b_hr)
        z  = sigmoid(x @ W_iz^T + b_iz + h @ W_hz^T + b_hz)
        n  = tanh(x @ W_in^T + b_in + r * (h @ W_hn^T + b_hn))
        h' = (1 - z) * n + z * h

    A ``variant`` has other activations, limits what goes into them to -cell_clip .. cell_clip, and
    without ``reset_after`` it has the reset gate *before* the product::

        n  = tanh(x @ W_in^T + b_in + (r * h) @ W_hn^T + b_hn)

    Parameters
    ----------
    x : Tensor [B, I]
    h : Tensor [B, H]
    w_ih, w_hh : Tensor [3H, I], [3H, H]
    b_ih, b_hh : Tensor [3H], optional
    variant : Variant
        How the cell differs from torch's.

    Returns
    -------
    Tensor [B, H]

    References
    ----------
    Cho et al. (2014), arXiv:1406.1078, whose reset gate acts before the product. (The z of Chung et
    al. 2014, arXiv:1412.3555, is this 1 - z.) The form after the product is torch's and cuDNN's.
    """
    r, z = gru_gates(x, h, w_ih, w_hh, b_ih, b_hh, variant)
    of_n = slice(2 * h.shape[-1], None)
    b_in, b_hn = _part(b_ih, of_n), _part(b_hh, of_n)
    if variant.reset_after:
        h_n = r * _affine(h, w_hh[of_n], b_hn)
    else:
        h_n = _affine(r * h, w_hh[of_n], b_hn)
    a_n = _clipped(_affine(x, w_ih[of_n], b_in) + h_n, variant)
    n = activation(variant.activation or "tanh", a_n)
    return (1 - z) * n + z * h


def gru_gates(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    variant: Variant = PLAIN,
) -> tuple[Tensor, Tensor]:
    """r and z of `gru_step`, which has the equations; any leading dimensions."""
    gates = slice(2 * h.shape[-1])
    a = _affine(x, w_ih[gates], _part(b_ih, gates)) + _affine(h, w_hh[gates], _part(b_hh, gates))
    r, z = activation(variant.recurrent_activation, _clipped(a, variant)).chunk(2, dim=-1)
    return r, z


def rnn_step(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
    variant: Variant = PLAIN,
) -> Tensor:
    """One step of a simple recurrent cell: ``h' = act(x @ W_i^T + b_i + h @ W_h^T + b_h)``.

    Parameters
    ----------
    x : Tensor [B, I]
    h : Tensor [B, H]
    w_ih, w_hh : Tensor [H, I], [H, H]
    b_ih, b_hh : Tensor [H], optional
    nonlinearity : str
        An activation of `fastrnn.variants.ACTIVATIONS`.
    variant : Variant
        May limit what goes into the activation to -cell_clip .. cell_clip.

    Returns
    -------
    Tensor [B, H]

    References
    ----------
    Elman (1990).
    """
    a = _affine(x, w_ih, b_ih) + _affine(h, w_hh, b_hh)
    return activation(nonlinearity, _clipped(a, variant))


def rnn(
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
    masks: Sequence[Tensor] | None = None,
) -> Outputs:
    """A stack of layers over whole sequences.

    Parameters
    ----------
    spec : Spec
        Cell, sizes and options.
    data : Tensor
        [T, B, I]; [B, T, I] with ``batch_first``; [N, I] with ``batch_sizes``. Behind the features
        stand the per-step inputs of a program, which every layer sees.
    hx, cx : Tensor [L*D, B, K], Tensor [L*D, B, H], optional
        Initial states, zeros if None; ``cx`` only for the LSTM.
    weights : sequence of Tensor
        Flat, per layer and direction: w_ih, w_hh, [b_ih, b_hh], [w_hr], [w_ch].
    batch_sizes : Tensor [T] int64, optional
        Makes ``data`` a packed batch: the number of rows active at each step.
    row_index : Tensor [B] int64, optional
        Packed row r is sequence ``row_index[r]`` of ``hx``, ``cx``, ``h_n`` and ``c_n``.
    lengths : Tensor [B] int64, optional
        Steps of each sequence of a batch that is not packed, 0 to T.
    resets : Tensor [T, B] bool, optional
        Where nothing passes from the step before to this one; for a batch that is not packed.
    states : bool
        Return the states after every step.
    masks : sequence of Tensor, optional
        One dropout mask for each layer but the last, as `dropout_mask` gives it; drawn if None.
        With ``lengths`` a mask is that of the packed batch.

    Returns
    -------
    (y, h_n, c_n, h_all, c_all)
        ``y`` is shaped like ``data`` with D*K features, ``h_n`` and ``c_n`` like ``hx`` and ``cx``;
        ``h_all`` [L*D, T, B, K] and ``c_all`` [L*D, T, B, H] are the states after every step,
        None without ``states``. ``c_n`` and ``c_all`` are None for other cells than the LSTM.
        Past a sequence's end ``y``, ``h_all`` and ``c_all`` are zero.
    """
    if lengths is not None:
        row_index = torch.sort(lengths, descending=True).indices
    rows, sizes, batch = as_rows(data, batch_first, batch_sizes, lengths, row_index)
    if resets is not None and row_index is not None:
        resets = resets.index_select(1, row_index)
    initial = initial_states(spec, rows, batch, hx, cx, row_index)
    inputs = rows[:, spec.input_size :]
    finals = []
    everything = []
    for layer, of_layer in enumerate(by_direction(spec, weights)):
        outputs = []
        for direction, own in enumerate(of_layer):
            state = tuple(s[layer * spec.directions + direction] for s in initial)
            reached, final = _one_direction(
                spec,
                rows,
                sizes,
                state,
                own,
                resets,
                reverse=spec.variant.reverse or direction == 1,
            )
            outputs.append(torch.cat([step[0] for step in reached]))
            finals.append(final)
            if states:
                everything.append(stacked(reached, batch))
        rows = torch.cat(outputs, dim=-1)
        if spec.dropout and layer < spec.num_layers - 1:
            mask = masks[layer] if masks else dropout_mask(rows.shape, spec.dropout, rows)
            rows = rows * mask.reshape(rows.shape)
        if spec.inputs_size and layer < spec.num_layers - 1:
            rows = torch.cat([rows, inputs], dim=-1)
    place = None if row_index is None else torch.argsort(row_index)
    h_n, c_n = in_sequence_order(finals, place, dim=1)
    h_all, c_all = in_sequence_order(everything, place, dim=2)
    if lengths is None or place is None:
        return Outputs(like_data(rows, data, batch_first), h_n, c_n, h_all, c_all)
    y = padded(torch.split(rows, sizes), batch).index_select(1, place)
    return Outputs(y.transpose(0, 1) if batch_first else y, h_n, c_n, h_all, c_all)


def _part(bias: Tensor | None, gates: slice) -> Tensor | None:
    return None if bias is None else bias[gates]


def _affine(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    product = x @ w.t()
    return product if b is None else product + b


def _one_direction(
    spec: Spec,
    rows: Tensor,
    sizes: list[int],
    state: tuple[Tensor, ...],
    weights: Weights,
    resets: Tensor | None,
    *,
    reverse: bool,
) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """One layer in one direction: the states after each step in order of time, and the final ones.

    The rows active at a step are the first n. A row that has ended, or whose reverse pass has not
    begun, keeps its state, and so holds its own final state when the loop is over.
    """
    steps = torch.split(rows, sizes)
    forgets = None if resets is None else forgetting(resets, sizes, reverse)
    begin = beginning(spec, rows)
    reached: list[tuple[Tensor, ...]] = []
    for t in sorted(range(len(sizes)), reverse=reverse):
        n = sizes[t]
        before = tuple(s[:n] for s in state)
        if forgets is not None:
            before = forgotten(before, forgets[t, :n], begin)
        new = step(spec, steps[t], before, weights)
        state = tuple(torch.cat([a, s[n:]]) for a, s in zip(new, state, strict=True))
        reached.append(new)
    return reached[::-1] if reverse else reached, state


def step(spec: Spec, x: Tensor, state: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, ...]:
    """h, or h and c, after a step of ``spec``'s cell."""
    h, variant = state[0], spec.variant
    if spec.program is not None:
        return _program_step(spec.program, x, state, weights)
    if spec.cell == "lstm":
        return lstm_step(x, h, state[1], *weights, variant)
    if spec.cell == "gru":
        return (gru_step(x, h, *weights[:4], variant),)
    return (rnn_step(x, h, *weights[:4], own_activation(spec.cell, variant), variant),)


def _program_step(
    program: Program, x: Tensor, state: tuple[Tensor, ...], weights: Weights
) -> tuple[Tensor, ...]:
    h, *others = state
    apart = others[0].chunk(len(program.internal_states) - 1, -1) if others else ()
    h, *new = tensors.step(program, x, (h, *apart), weights)
    return (h, torch.cat(new, -1)) if new else (h,)
