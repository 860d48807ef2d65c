"""One step of every cell of `fastrnn.cells` as published, in plain torch and by nobody's code.

A function gets the layer's parameters by gate (`Gates`), the step's input, the states before and
the caller's per-step inputs; it returns the states after, the output first where that is no state.
"""

import math

import torch
from torch import exp, relu, sigmoid, tanh
from torch.nn.functional import layer_norm, linear, logsigmoid, rms_norm, silu


class Gates:
    """Parameters of a layer by the names of gates: `into` of the input, `back` of a state."""

    def __init__(self, gates, parameters):
        self.places = {name: place for place, name in enumerate(gates.split())}
        self.parameters = parameters

    def block(self, name, gate):
        values = self.parameters.get(name)
        if values is None:
            return None
        if values.dim() == 3:  # heads
            size = values.shape[2]
            place = self.places[gate] * size
            return torch.block_diag(*values[:, place : place + size])
        size = len(values) // len(self.places)
        return values[self.places[gate] * size :][:size]

    def into(self, gate, x):
        return linear(x, self.block("weight_ih", gate), self.block("bias_ih", gate))

    def back(self, gate, state):
        return linear(state, self.block("weight_hh", gate), self.block("bias_hh", gate))

    def both(self, gate, x, state):
        return self.into(gate, x) + self.back(gate, state)

    def __getitem__(self, vector):
        return self.parameters[vector]


def lstm(w, x, h, c):
    i, f, g, o = (w.both(gate, x, h) for gate in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def peephole(w, x, h, c):
    i = sigmoid(w.both("i", x, h) + w["p_i"] * c)
    f = sigmoid(w.both("f", x, h) + w["p_f"] * c)
    c = f * c + i * tanh(w.both("g", x, h))
    return sigmoid(w.both("o", x, h) + w["p_o"] * c) * tanh(c), c


def cifg(w, x, h, c):
    i, g, o = (w.both(gate, x, h) for gate in "igo")
    c = c + sigmoid(i) * (tanh(g) - c)
    return sigmoid(o) * tanh(c), c


def janet(w, x, h, beta=1.0):
    s, candidate = w.both("f", x, h), tanh(w.both("g", x, h))
    return (sigmoid(s) * h + (1 - sigmoid(s - beta)) * candidate,)


def multiplicative(w, x, h, c):
    return lstm(w, x, w.into("m", x) * w.back("m", h), c)


def residual(w, x, h, c):
    i = sigmoid(w.both("i", x, h) + w["p_i"] * c)
    f = sigmoid(w.both("f", x, h) + w["p_f"] * c)
    c = f * c + i * tanh(w.both("g", x, h))
    o = sigmoid(w.both("o", x, h) + w["p_o"] * c)
    return o * (w.back("m", tanh(c)) + w.into("m", x)), c


def gru(w, x, h):
    r, z = sigmoid(w.both("r", x, h)), sigmoid(w.both("z", x, h))
    n = tanh(w.into("n", x) + r * w.back("n", h))
    return (n + z * (h - n),)


def mgu(w, x, h):
    f = sigmoid(w.both("f", x, h))
    candidate = tanh(w.both("n", x, f * h))
    return ((1 - f) * h + f * candidate,)


def li_gru(w, x, h):
    z = sigmoid(w.both("z", x, h))
    return (z * h + (1 - z) * relu(w.both("n", x, h)),)


def ugrnn(w, x, h):
    g = sigmoid(w.both("g", x, h))
    return (g * h + (1 - g) * tanh(w.both("n", x, h)),)


def intersection(w, x, h):
    y_in, h_in = relu(w.both("y", x, h)), tanh(w.both("h", x, h))
    g_y, g_h = sigmoid(w.both("g_y", x, h)), sigmoid(w.both("g_h", x, h))
    return g_y * w.into("v", x) + (1 - g_y) * y_in, g_h * h + (1 - g_h) * h_in


def ran(w, x, h, c, squash=tanh):
    c = sigmoid(w.both("i", x, h)) * w.into("n", x) + sigmoid(w.both("f", x, h)) * c
    return squash(c), c


def cfn(w, x, h):
    theta, eta = sigmoid(w.both("f", x, h)), sigmoid(w.both("i", x, h))
    return (theta * tanh(h) + eta * tanh(w.into("n", x)),)


def atr(w, x, h):
    p, q = w.into("q", x), w.back("q", h)
    return (sigmoid(p + q) * p + sigmoid(p - q) * h,)


def star(w, x, h):
    k, z = sigmoid(w.both("k", x, h)), tanh(w.into("n", x))
    return (tanh((1 - k) * h + k * z),)


def minimal(w, x, h):
    z = tanh(w.into("z", x))
    keep = sigmoid(w.back("k", h) + w.back("z", z))
    return (keep * h + (1 - keep) * z,)


def light_ru(w, x, h):
    f = sigmoid(w.both("f", x, h))
    return ((1 - f) * h + f * tanh(w.into("n", x)),)


def sgrn(w, x, h):
    f = sigmoid(w.both("f", x, h))
    return (tanh((1 - f) * w.into("f", x) + f * h),)


def mut1(w, x, h):
    z, r = sigmoid(w.into("z", x)), sigmoid(w.both("r", x, h))
    n = tanh(w.back("n", r * h) + tanh(w.into("n", x)))
    return (n * z + h * (1 - z),)


def mut2(w, x, h):
    z, r = sigmoid(w.both("z", x, h)), sigmoid(w.both("r", x, h))
    return (tanh(w.both("n", x, r * h)) * z + h * (1 - z),)


def mut3(w, x, h):
    z, r = sigmoid(w.both("z", x, tanh(h))), sigmoid(w.both("r", x, h))
    return (tanh(w.both("n", x, r * h)) * z + h * (1 - z),)


def nas(w, x, h, c):
    a = [w.both(f"a{k}", x, h) for k in range(8)]
    first = tanh(sigmoid(a[0]) * relu(a[1])), tanh(sigmoid(a[2]) + relu(a[3]))
    second = tanh(tanh(a[4]) * sigmoid(a[5])), sigmoid(tanh(a[6]) + sigmoid(a[7]))
    c = tanh(first[0] + c) * first[1]
    return tanh(c * tanh(second[0] + second[1])), c


def fast_rnn(w, x, h):
    return (sigmoid(w["alpha"]) * tanh(w.both("n", x, h)) + sigmoid(w["beta"]) * h,)


def fast_grnn(w, x, h):
    z = sigmoid(w.both("w", x, h) + w["b_z"])
    candidate = tanh(w.both("w", x, h) + w["b_n"])
    return ((sigmoid(w["zeta"]) * (1 - z) + sigmoid(w["nu"])) * candidate + z * h,)


def antisymmetric(w, x, h, eps=0.1, gamma=0.1):
    return (h + eps * tanh(w.both("n", x, h) - gamma * h),)


def gated_antisymmetric(w, x, h, eps=0.1, gamma=0.1):
    drift = w.back("n", h) - gamma * h
    return (h + eps * sigmoid(drift + w.into("z", x)) * tanh(drift + w.into("n", x)),)


def co_rnn(w, x, y, z, dt=0.05, gamma=1.0, eps=1.0):
    force = tanh(w.back("y", y) + w.back("z", z) + w.into("y", x))
    z = z + dt * (force - gamma * y - eps * z)
    return y + dt * z, z


def lem(w, x, y, z, dt=1.0):
    fast, slow = dt * sigmoid(w.both("a", x, y)), dt * sigmoid(w.both("b", x, y))
    z = (1 - fast) * z + fast * tanh(w.both("z", x, y))
    return (1 - slow) * y + slow * tanh(w.both("y", x, z)), z


def scrn(w, x, h, c, alpha=0.95):
    c = (1 - alpha) * w.into("c", x) + alpha * c
    return sigmoid(w.back("c", c) + w.both("h", x, h)), c


def lmu(w, x, h, m):
    v = w.both("v", x, h) + w.back("e", m)
    m = w.back("a", m) + w["b"] * v
    return tanh(w.both("h", x, h) + w.back("m", m)), m


def ind_rnn(w, x, h):
    return (relu(w.into("h", x) + w["v"] * h),)


def sru(w, x, c, bias=0.0):
    f = sigmoid(w.into("f", x) + w["v_f"] * c)
    r = sigmoid(w.into("r", x) + w["v_r"] * c)
    c = f * c + (1 - f) * w.into("n", x)
    return r * c + (1 - r) * w.into("x", x) * math.sqrt(1 + math.exp(bias) * 2), c


def qrnn(w, x, c):
    f = sigmoid(w.into("f", x))
    c = f * c + (1 - f) * tanh(w.into("z", x))
    return sigmoid(w.into("o", x)) * c, c


def min_gru(w, x, h):
    z = sigmoid(w.into("z", x))
    return ((1 - z) * h + z * w.into("n", x),)


def min_lstm(w, x, h):
    f, i = sigmoid(w.into("f", x)), sigmoid(w.into("i", x))
    return (f / (f + i) * h + i / (f + i) * w.into("n", x),)


def unicornn(w, x, y, z, dt=0.1, alpha=1.0):
    pace = dt * (0.5 + 0.5 * tanh(w["c"] / 2))
    z = z - pace * (tanh(w["w"] * y + w.into("y", x)) + alpha * y)
    return y + pace * z, z


def gru_d(w, x, h, *, decay):
    k = exp(-torch.clamp(decay, min=0)) * h
    r, z = sigmoid(w.both("r", x, k)), sigmoid(w.both("z", x, k))
    return ((1 - z) * k + z * tanh(w.both("n", x, r * k)),)


def t_lstm(w, x, h, c, *, dt):
    short = tanh(w.back("d", c))
    return lstm(w, x, h, (c - short) + short * (1 / torch.log(math.e + dt)))


def phased(w, x, h, c, *, phase, leak=0.001):
    r_on = w["r_on"].expand_as(phase)
    k = leak * phase
    k = torch.where(phase < r_on, 2 - 2 * phase / r_on, k)
    k = torch.where(phase < r_on / 2, 2 * phase / r_on, k)
    new_h, new_c = peephole(w, x, h, c)
    return k * new_h + (1 - k) * h, k * new_c + (1 - k) * c


def cfc(w, x, h, *, dt):
    backbone = 1.7159 * tanh(0.666 * w.both("b", x, h))
    f, g = tanh(w.back("f", backbone)), tanh(w.back("g", backbone))
    t = sigmoid(w.back("a", backbone) * dt + w.back("c", backbone))
    return (f * (1 - t) + g * t,)


def layer_norm_lstm(w, x, h, c, carried=False):
    four = (4 * h.shape[1],)
    a = torch.cat([w.into(gate, x) for gate in "ifgo"], 1)
    b = torch.cat([w.back(gate, h) for gate in "ifgo"], 1)
    normed = layer_norm(a, four, w["gamma_x"]) + layer_norm(b, four, w["gamma_h"]) + w["beta"]
    i, f, g, o = normed.chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    normed_c = layer_norm(c, c.shape[1:], w["gamma_c"], w["beta_c"])
    return sigmoid(o) * tanh(normed_c), normed_c if carried else c


def layer_norm_gru(w, x, h, apart=False):
    H = h.shape[1]
    normed = []
    for share, ending in ((w.into, "x"), (w.back, "h")):
        values = torch.cat([share(gate, x if ending == "x" else h) for gate in "rzn"], 1)
        gamma, beta = w[f"gamma_{ending}"], w[f"beta_{ending}"]
        sizes = [2 * H, H] if apart else [3 * H]
        parts = zip(*(tensor.split(sizes, -1) for tensor in (values, gamma, beta)), strict=True)
        blocks = [layer_norm(v, v.shape[1:], g, b) for v, g, b in parts]
        normed.append(torch.cat(blocks, 1).chunk(3, 1))
    (r_x, z_x, n_x), (r_h, z_h, n_h) = normed
    z = sigmoid(z_x + z_h)
    return ((1 - z) * tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h,)


def block_gru(w, x, h):
    d = silu(rms_norm(w.back("d", h), h.shape[1:], w["gamma_d"], 1e-4))
    hidden = w.both("e", x, h) + w.back("b", d)
    e = silu(rms_norm(hidden, h.shape[1:], w["gamma_e"], 1e-4))
    update = sigmoid(w.back("z", e) - 1)
    candidate = tanh(sigmoid(w.back("r", e)) * w.back("n", e))
    return (update * candidate + (1 - update) * h,)


def slstm(w, x, h, c, n, m, clip="gates", first_step=True, forget="sigmoid"):
    i, f, z, o = (w.both(gate, x, h) for gate in "ifzo")
    carried = m + (f if forget == "exp" else logsigmoid(f))
    new_m = torch.max(i, carried)
    if first_step:
        new_m = torch.where(n == 0, i, new_m)
    take, keep = exp(i - new_m), exp(carried - new_m)
    if clip == "gates":
        take, keep = take.clamp(max=1), keep.clamp(max=1)
    c, n = keep * c + take * tanh(z), keep * n + take
    if clip == "normaliser":
        n = n.clamp(min=1)
    return sigmoid(o) * c / n, c, n, new_m


STEPS = {
    "ATR": atr,
    "AntisymmetricRNN": antisymmetric,
    "BlockGRU": block_gru,
    "CFN": cfn,
    "CIFG": cifg,
    "CfC": cfc,
    "CoRNN": co_rnn,
    "FastGRNN": fast_grnn,
    "FastRNN": fast_rnn,
    "GRU": gru,
    "GRUD": gru_d,
    "GatedAntisymmetricRNN": gated_antisymmetric,
    "IndRNN": ind_rnn,
    "IntersectionRNN": intersection,
    "JANET": janet,
    "LEM": lem,
    "LMU": lmu,
    "LSTM": lstm,
    "LayerNormGRU": layer_norm_gru,
    "LayerNormLSTM": layer_norm_lstm,
    "LiGRU": li_gru,
    "LightRU": light_ru,
    "MGU": mgu,
    "MUT1": mut1,
    "MUT2": mut2,
    "MUT3": mut3,
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "MinimalRNN": minimal,
    "MultiplicativeLSTM": multiplicative,
    "NAS": nas,
    "PeepholeLSTM": peephole,
    "PhasedLSTM": phased,
    "QRNN": qrnn,
    "RAN": ran,
    "ResidualLSTM": residual,
    "SCRN": scrn,
    "SGRN": sgrn,
    "SLSTM": slstm,
    "SRU": sru,
    "STAR": star,
    "TLSTM": t_lstm,
    "UGRNN": ugrnn,
    "UnICORNN": unicornn,
}
