"""Layers out of the arrays of other libraries, against those libraries' equations in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import twins

import fastrnn

T, I, H = 7, 3, 4  # noqa: E741
F64 = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outputs(layer, x, hx=None):
    """Of one sequence [T, I], as NumPy has them."""
    y, _ = layer(torch.from_numpy(x), hx)
    return y.detach().numpy()


def both_ways(run, x, forward, backward):
    """[T, 2H]: what ``run`` gives with one set of weights, and backwards with the other."""
    return np.concatenate([run(x, *forward), run(x[::-1], *backward)[::-1]], axis=1)


# ---- madmom: a matrix for each gate, x @ w, peepholes; GRU with z for the new value ----


def madmom_lstm(x, w, u, b, p):
    h = c = np.zeros(H)
    steps = []
    for x_t in x:
        i = sigmoid(x_t @ w["i"] + b["i"] + c * p["i"] + h @ u["i"])
        f = sigmoid(x_t @ w["f"] + b["f"] + c * p["f"] + h @ u["f"])
        c = np.tanh(x_t @ w["g"] + b["g"] + h @ u["g"]) * i + c * f
        h = np.tanh(c) * sigmoid(x_t @ w["o"] + b["o"] + c * p["o"] + h @ u["o"])
        steps.append(h)
    return np.stack(steps)


def madmom_gru(x, w, u, b, h):
    steps = []
    for x_t in x:
        r = sigmoid(x_t @ w["r"] + b["r"] + h @ u["r"])
        z = sigmoid(x_t @ w["z"] + b["z"] + h @ u["z"])
        n = np.tanh(x_t @ w["n"] + b["n"] + r * (h @ u["n"]))
        h = z * n + (1 - z) * h
        steps.append(h)
    return np.stack(steps)


def gate_by_gate(rng, letters, *shape):
    return {letter: rng.standard_normal(shape) for letter in letters}


def test_madmoms_bidirectional_lstm_with_peepholes(rng):
    sets = [
        (
            gate_by_gate(rng, "ifgo", I, H),
            gate_by_gate(rng, "ifgo", H, H),
            gate_by_gate(rng, "ifgo", H),
            gate_by_gate(rng, "ifo", H),
        )
        for _ in range(2)
    ]
    w, u, b, p = zip(*sets, strict=True)
    layer = fastrnn.from_arrays(
        "LSTM", w, u, b, w_ch=p, transposed=True, peephole="oif", bidirectional=True
    )
    x = rng.standard_normal((T, I))
    np.testing.assert_allclose(outputs(layer, x), both_ways(madmom_lstm, x, *sets), **F64)


def test_madmoms_gru(rng):
    w, u, b = (gate_by_gate(rng, "rzn", *s) for s in ((I, H), (H, H), (H,)))
    layer = fastrnn.from_arrays("GRU", w, u, b, transposed=True, z_keeps_new=True)
    x, h_0 = rng.standard_normal((T, I)), rng.standard_normal(H)
    got = outputs(layer, x, torch.from_numpy(h_0)[None])
    np.testing.assert_allclose(got, madmom_gru(x, w, u, b, h_0), **F64)
    assert layer.variant is None


# ---- DyNet: gates i f o g, one bias, 1 inside of f; a pair of layers for each level ----


def dynet(x, w, u, b):
    h = c = np.zeros(H)
    steps = []
    for x_t in x:
        i, f, o, g = np.split(w @ x_t + u @ h + b, 4)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        steps.append(h)
    return np.stack(steps)


def test_dynets_stack_of_bidirectional_lstms(rng):
    sets = [
        tuple(rng.standard_normal(s) for s in ((4 * H, inputs), (4 * H, H), (4 * H,)))
        for inputs in (I, I, 2 * H, 2 * H)
    ]
    w, u, b = (list(one) for one in zip(*sets, strict=True))
    layer = fastrnn.from_arrays("LSTM", w, u, b, gates="ifog", forget_bias=1.0, bidirectional=True)
    x = rng.standard_normal((T, I))
    expected = both_ways(dynet, both_ways(dynet, x, *sets[:2]), *sets[2:])
    np.testing.assert_allclose(outputs(layer, x), expected, **F64)
    assert fastrnn.from_arrays("LSTM", w[0], u[0], forget_bias=1.0).bias


# ---- TensorFlow 1's GRUCell: [x, h] @ kernel, r and u beside each other, reset before ----


def tensorflow_gru(x, gates, b_gates, candidate, b_candidate):
    h = np.zeros(H)
    steps = []
    for x_t in x:
        r, u = np.split(sigmoid(np.concatenate([x_t, h]) @ gates + b_gates), 2)
        n = np.tanh(np.concatenate([x_t, r * h]) @ candidate + b_candidate)
        h = u * h + (1 - u) * n
        steps.append(h)
    return np.stack(steps)


def test_tensorflows_gru_whose_candidate_is_kept_apart(rng):
    gates, candidate = (rng.standard_normal((I + H, k * H)) for k in (2, 1))
    b_gates, b_candidate = (rng.standard_normal(k * H) for k in (2, 1))
    layer = fastrnn.from_arrays(
        "GRU",
        {"rz": gates, "n": candidate},
        b_ih={"rz": b_gates, "n": b_candidate},
        joined="xh",
        transposed=True,
        reset_after=False,
    )
    x = rng.standard_normal((T, I))
    expected = tensorflow_gru(x, gates, b_gates, candidate, b_candidate)
    np.testing.assert_allclose(outputs(layer, x), expected, **F64)


# ---- g2p_en without TensorFlow: torch's layout, gates r z n ----


def g2p_gru(x, w_ih, w_hh, b_ih, b_hh):
    h = np.zeros(H)
    steps = []
    for x_t in x:
        of_x, of_h = w_ih @ x_t + b_ih, w_hh @ h + b_hh
        r, z = np.split(sigmoid(of_x[: 2 * H] + of_h[: 2 * H]), 2)
        n = np.tanh(of_x[2 * H :] + r * of_h[2 * H :])
        h = (1 - z) * n + z * h
        steps.append(h)
    return np.stack(steps)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)], ids=["rzn", "zrn"])
def test_a_gru_with_two_biases(rng, order):
    shapes = ((3 * H, I), (3 * H, H), (3 * H,), (3 * H,))
    weights = [rng.standard_normal(shape) for shape in shapes]
    given = [np.concatenate([np.split(w, 3)[k] for k in order]) for w in weights]
    layer = fastrnn.from_arrays("GRU", *given, gates="".join("rzn"[k] for k in order))
    x = rng.standard_normal((T, I))
    np.testing.assert_allclose(outputs(layer, x), g2p_gru(x, *weights), **F64)


# ---- NeuralAmpModeler: one matrix over [x, h], gates i f g o, one bias, learned first states ----


def nam(x, cells):
    states = [(h, c) for _, _, h, c in cells]
    steps = []
    for x_t in x:
        below = x_t
        for k, (w, b, _, _) in enumerate(cells):
            h, c = states[k]
            i, f, g, o = np.split(w @ np.concatenate([below, h]) + b, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            below = sigmoid(o) * np.tanh(c)
            states[k] = below, c
        steps.append(below)
    return np.stack(steps)


def test_neural_amp_modelers_stack_with_first_states(rng):
    cells = [
        tuple(rng.standard_normal(s) for s in ((4 * H, inputs + H), (4 * H,), (H,), (H,)))
        for inputs in (I, H)
    ]
    w, b, h_0, c_0 = (list(one) for one in zip(*cells, strict=True))
    layer = fastrnn.from_arrays("LSTM", w, b_ih=b, joined="xh")
    x = rng.standard_normal((T, I))
    hx = torch.from_numpy(np.stack(h_0)), torch.from_numpy(np.stack(c_0))
    np.testing.assert_allclose(outputs(layer, x, hx), nam(x, cells), **F64)


# ---- every order and layout of torch's own weights gives torch's layer ----


ORDERS = [("LSTM", "".join(order)) for order in itertools.permutations("ifgo")]
ORDERS += [("GRU", "".join(order)) for order in itertools.permutations("rzn")] + [("RNN", "h")]


@pytest.mark.parametrize("layout", ["as it is", "transposed", "xh", "hx", "gate by gate"])
@pytest.mark.parametrize(("kind", "order"), ORDERS)
def test_any_order_and_layout_gives_the_same_bits(kind, order, layout):
    _, plain = twins(kind)
    own = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}[kind]
    blocks = [dict(zip(own, p.detach().chunk(len(own)), strict=True)) for p in plain.parameters()]
    w_ih, w_hh, b_ih, b_hh = (torch.cat([one[letter] for letter in order]) for one in blocks)
    options = {"gates": order}
    if layout == "transposed":
        w_ih, w_hh, options["transposed"] = w_ih.t(), w_hh.t(), True
    elif layout in ("xh", "hx"):
        pair = (w_ih, w_hh) if layout == "xh" else (w_hh, w_ih)
        w_ih, w_hh, options["joined"] = torch.cat(pair, 1), None, layout
    elif layout == "gate by gate":
        w_ih, w_hh, b_ih, b_hh = blocks
    layer = fastrnn.from_arrays(kind, w_ih, w_hh, b_ih, b_hh, **options)
    for name, parameter in plain.named_parameters():
        assert torch.equal(getattr(layer, name), parameter), name


def test_one_bias_may_be_that_of_the_candidate_inside_the_product():
    _, plain = twins("GRU")
    w_ih, w_hh, b_ih, b_hh = (p.detach() for p in plain.parameters())
    b = b_ih.clone()
    b[:8] += b_hh[:8]
    layer = fastrnn.from_arrays("GRU", w_ih, w_hh, b, {"n": b_hh[8:]})
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(layer(x)[0], plain(x)[0])
    assert not layer.bias_hh_l0[:8].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_the_dtype_is_that_of_the_arrays_unless_another_is_asked_for(dtype):
    w_ih, w_hh = np.ones((4 * H, I), dtype), np.ones((4 * H, H), dtype)
    layer = fastrnn.from_arrays("LSTM", w_ih, w_hh)
    expected = torch.float32 if dtype == "int64" else getattr(torch, dtype)
    assert layer.weight_ih_l0.dtype is expected
    assert not layer.bias
    asked = fastrnn.from_arrays("LSTM", w_ih, w_hh, dtype=torch.bfloat16, batch_first=True)
    assert asked.weight_hh_l0.dtype is torch.bfloat16
    assert asked.batch_first


def test_the_layer_has_copies():
    w_ih, w_hh = np.ones((H, I), np.float32), torch.ones(H, H, requires_grad=True)
    layer = fastrnn.from_arrays("RNN", w_ih, w_hh, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.zero_()
    assert w_ih.all()
    assert w_hh.all()
    assert layer.weight_hh_l0.requires_grad


W, U, B = np.ones((4 * H, I)), np.ones((4 * H, H)), np.ones(4 * H)


@pytest.mark.parametrize(
    ("arguments", "options", "part"),
    [
        (("lstm", W, U), {}, "cell: expected one of LSTM, GRU, RNN, got 'lstm'"),
        (("LSTM", W, U), {"gates": "ifg"}, "gates: expected the letters of 'ifgo'"),
        (("LSTM", W, U), {"gates": "ifgoo"}, "gates: expected the letters of 'ifgo'"),
        (("LSTM", W, U), {"joined": "both"}, "joined: expected 'xh', 'hx' or None"),
        (("LSTM", W, U), {"z_keeps_new": True}, "z_keeps_new: expected False for LSTM"),
        (("GRU", W, U), {"forget_bias": 1.0}, "forget_bias: expected 0 for GRU"),
        (("LSTM", W), {}, "w_hh: expected the gates 'ifgo', got none"),
        (("LSTM", W.T, U.T), {}, "w_ih: expected equal blocks"),
        (("LSTM", W, U.T), {}, r"w_hh: expected \(16, 4\), \[G\*H, H\].*got \(4, 16\)"),
        (("LSTM", W, U), {"joined": "xh"}, "w_ih: expected the weights of input and state"),
        (("LSTM", W), {"joined": "xh"}, "w_ih: expected the weights of input and state"),
        (("LSTM", {"i": W[:4], "fg": W[4:12]}, U), {}, r"w_ih: .* got none for \['o'\]"),
        (("LSTM", {"i": W[:3], "fgo": W[4:]}, U), {}, "w_ih: expected gates of one size"),
        (("LSTM", {"i": W[:4], "fgu": W[4:]}, U), {}, "w_ih: expected equal blocks .* 'fgu'"),
        (("LSTM", W, U, B[:12]), {}, "b_ih: expected gates of one size"),
        (("LSTM", W, U, W), {}, "b_ih: expected 1 dimensions, got 2"),
        (("LSTM", W, U, B, None, np.ones(8)), {}, "w_ch: expected equal blocks"),
        (("LSTM", W, U, B, None, B), {"peephole": ""}, "w_ch: expected equal blocks"),
        (("GRU", W[:12], U[:12], None, None, B), {}, "w_ch: expected None for GRU"),
        (("LSTM", [W, W], [U, U]), {}, r"weight_ih_l1: expected shapes .* got"),
        (("LSTM", [W, W], [U]), {}, "w_hh: expected 2 of them, as of w_ih, got 1"),
        (("LSTM", [W, U], U), {}, "w_hh: expected 2 of them, as of w_ih, got 1"),
        (("LSTM", [W], [U]), {"bidirectional": True}, "w_ih: expected 2 for each layer, got 1"),
        (("LSTM", W, U), {"peephole": "i"}, "weight_ih_l0: expected shapes .*w_ch"),
        (("LSTM", W, U), {"activation": "maxout"}, "activation: expected one of"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, options, part):
    with pytest.raises(ValueError, match=part):
        fastrnn.from_arrays(*arguments, **options)
