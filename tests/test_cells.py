"""Every cell of the zoo computes what was published, and so do its derivatives."""

from functools import partial

import pytest
import torch
from finite_differences import assert_gradients, assert_second_derivatives
from published_cells import STEPS, Gates
from scipy.signal import cont2discrete

import fastrnn
from fastrnn import cells

ZOO = {name: getattr(cells, name) for name in STEPS}
# Options of a cell, which its published step takes by the same names.
OPTIONS = [
    *((name, {}) for name in STEPS),
    ("JANET", {"beta": 0.25}),
    ("AntisymmetricRNN", {"eps": 0.3, "gamma": 0.2}),
    ("GatedAntisymmetricRNN", {"eps": 0.3, "gamma": 0.2}),
    ("CoRNN", {"dt": 0.2, "gamma": 1.5, "eps": 0.4}),
    ("UnICORNN", {"dt": 0.4, "alpha": 2.0}),
    ("LEM", {"dt": 0.5}),
    ("SCRN", {"alpha": 0.5}),
    ("SRU", {"bias": -1.0}),
    ("PhasedLSTM", {"leak": 0.2}),
    ("LayerNormLSTM", {"carried": True}),
    ("LayerNormGRU", {"apart": True}),
    ("SLSTM", {"clip": None, "first_step": False}),
    ("SLSTM", {"clip": "normaliser"}),
    ("SLSTM", {"forget": "exp"}),
]
IDS = ["-".join([name, *(f"{key}={value}" for key, value in o.items())]) for name, o in OPTIONS]


@pytest.fixture(params=OPTIONS, ids=IDS)
def case(request):
    """A layer of a cell whose every parameter counts, and the published step."""
    name, options = request.param
    rnn = make(name, **options)
    return rnn, partial(STEPS[name], **options)


def make(name, input_size=3, hidden_size=4, **options):
    heads = 2 if ZOO[name].recurrent == "heads" else None
    torch.manual_seed(3)
    rnn = fastrnn.Recurrent(
        ZOO[name](**options), input_size, hidden_size, num_heads=heads, dtype=torch.float64
    )
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.normal_(std=0.6)
        if "r_on_l0" in dict(rnn.named_parameters()):
            rnn.r_on_l0.uniform_(0.3, 0.9)
    return rnn


def draw(rnn, T=5, B=3):
    """Inputs, states and the caller's per-step inputs of a call, float64."""
    H = rnn.hidden_size
    x = torch.randn(T, B, rnn.input_size, dtype=torch.float64)
    states = [torch.randn(1, B, H, dtype=torch.float64) for _ in rnn.cell.states.split()]
    if isinstance(rnn.cell, cells.SLSTM):
        states[2] = states[2].abs() + 0.1  # a normaliser is positive
    sizes = {"dt": (T, B), "decay": (T, B, H), "phase": (T, B, H)}
    extras = {
        name: torch.rand(sizes[name], dtype=torch.float64) for name in rnn.cell.inputs.split()
    }
    return x, states, extras


def parameters_of(rnn):
    return {name.removesuffix("_l0"): value for name, value in rnn.named_parameters()}


def loop(rnn, step, x, states, extras):
    """The published step, once for each step of the input."""
    w = Gates(rnn.cell.gates, parameters_of(rnn))
    states = [state[0] for state in states]
    outputs = []
    for t in range(len(x)):
        now = {name: e[t] if e.dim() == 3 else e[t].unsqueeze(-1) for name, e in extras.items()}
        new = step(w, x[t], *states, **now)
        outputs.append(new[0])
        states = new[len(new) - len(states) :]
    return torch.stack(outputs), [state.unsqueeze(0) for state in states]


def call(rnn, x, states, extras):
    output, final = rnn(x, states if states is None or len(states) > 1 else states[0], **extras)
    return output, list(final) if isinstance(final, tuple) else [final]


def assert_all_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("given", [True, False], ids=["hx", "zeros"])
def test_a_cell_computes_its_published_equations(case, given):
    rnn, step = case
    x, states, extras = draw(rnn)
    if not given:
        states = [torch.zeros_like(state) for state in states]
    found = call(rnn, x, states if given else None, extras)
    assert_all_close(found, loop(rnn, step, x, states, extras))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_a_cell_has_its_derivatives_and_theirs(name, options):
    rnn = make(name, input_size=2, hidden_size=2, **options)
    x, states, extras = draw(rnn, T=2, B=1)
    names = [name for name, _ in rnn.named_parameters()]

    def outputs(x, *rest):
        given, weights = rest[: len(states)], rest[len(states) + len(extras) :]
        now = dict(zip(extras, rest[len(states) :], strict=False))
        hx = given if len(given) > 1 else given[0]
        known = dict(zip(names, weights, strict=True))
        output, final = torch.func.functional_call(rnn, known, (x, hx), now)
        return output, *(final if isinstance(final, tuple) else (final,))

    leaves = [x, *states, *extras.values(), *(p.detach() for p in rnn.parameters())]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert_gradients(outputs, *leaves)
    assert_second_derivatives(outputs, *leaves)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "PeepholeLSTM"])
def test_a_cell_that_is_a_layer_already_computes_the_same(name):
    rnn = make(name)
    options = {"peephole": "ifo"} if name == "PeepholeLSTM" else {}
    layer = getattr(fastrnn, "GRU" if name == "GRU" else "LSTM")(3, 4, **options).double()
    known = dict(rnn.named_parameters())
    if options:
        known["weight_ch_l0"] = torch.cat([known.pop(f"p_{gate}_l0") for gate in "ifo"])
    layer.load_state_dict(known)
    x, states, _ = draw(rnn)
    output, final = layer(x, tuple(states) if len(states) > 1 else states[0])
    assert_all_close(
        call(rnn, x, states, {}), (output, list(final) if len(states) > 1 else [final])
    )


def test_every_cell_has_a_published_step():
    zoo = {name for name in cells.__all__ if issubclass(getattr(cells, name), fastrnn.Cell)}
    assert zoo == set(STEPS)


class TestSLSTM:
    def test_an_empty_memory_is_a_matter_of_each_row(self):
        rnn = make("SLSTM")
        x, states, _ = draw(rnn)
        for state in states:
            state[:, 1] = 0
        assert states[3][:, 0].abs().min() > 0
        output, _ = rnn(x, states)
        alone, _ = rnn(x[:, 1:2])
        assert_all_close(output[:, 1:2], alone)

    def test_a_reset_empties_the_memory_of_its_row(self):
        rnn = make("SLSTM")
        x, _, _ = draw(rnn)
        resets = torch.zeros(5, 3, dtype=torch.bool)
        resets[2, 1] = True
        output, _ = rnn(x, resets=resets)
        assert_all_close(output[2:, 1:2], rnn(x[2:, 1:2])[0])

    def test_a_large_gate_overflows_nothing(self):
        rnn = make("SLSTM").float()
        with torch.no_grad():
            rnn.bias_ih_l0[:4] = 200.0
        output, _ = rnn(torch.randn(5, 3, 3))
        assert output.isfinite().all()

    @pytest.mark.parametrize("option", ["clip", "forget"])
    def test_an_option_that_there_is_not_is_refused(self, option):
        with pytest.raises(ValueError, match=f"{option}: expected one of .*, got 'tanh'"):
            cells.SLSTM(**{option: "tanh"})


def test_antisymmetric_weights_stay_so_in_training():
    rnn = make("GatedAntisymmetricRNN")
    torch.nn.utils.parametrize.register_parametrization(rnn, "weight_hh_l0", cells.Antisymmetric())
    x, _, _ = draw(rnn)
    before = rnn.weight_hh_l0.clone()
    rnn(x)[0].square().sum().backward()
    torch.optim.SGD(rnn.parameters(), lr=0.5).step()
    after = rnn.weight_hh_l0.reshape(2, 4, 4)
    assert not torch.equal(after[0], before[:4])
    assert torch.equal(after, -after.transpose(1, 2))
    plain = make("GatedAntisymmetricRNN")
    plain.load_state_dict({name: getattr(rnn, name) for name, _ in plain.named_parameters()})
    assert_all_close(rnn(x)[0], plain(x)[0])


def test_the_phase_of_a_rhythm_goes_from_0_to_1():
    time = torch.tensor([[0.0], [1.0], [5.0]])
    found = cells.PhasedLSTM.phase(time, torch.tensor([4.0, 2.0]), torch.tensor([1.0, 0.5]))
    expected = torch.tensor([[[0.75, 0.75]], [[0.0, 0.25]], [[0.0, 0.25]]])
    torch.testing.assert_close(found, expected)


def fresh(name, input_size=6, hidden_size=6, heads=None, **options):
    """The parameters of a layer as a cell leaves them, and its rows by gate."""
    rnn = fastrnn.Recurrent(
        ZOO[name](**options), input_size, hidden_size, num_heads=heads, dtype=torch.float64
    )
    parameters = {name: value.detach() for name, value in parameters_of(rnn).items()}
    return parameters, Gates(rnn.cell.gates, parameters)


def all_are(values, number):
    return torch.equal(values, torch.full_like(values, number))


class TestInitialisation:
    @pytest.mark.parametrize(
        ("name", "begins"),
        [
            ("CFN", {"f": 1.0, "i": -1.0, "n": 0.0}),
            ("SRU", {"n": 0.0, "f": 0.0, "r": 0.0}),
            ("RAN", {"n": 0.0}),
            ("LiGRU", {"z": 0.0, "n": 0.0}),
            ("FastGRNN", {"w": 0.0, "b_z": 1.0, "b_n": 1.0, "zeta": 1.0, "nu": -4.0}),
            ("FastRNN", {"alpha": -3.0, "beta": 3.0}),
            ("PhasedLSTM", {"r_on": 0.05}),
            ("LayerNormLSTM", {"gamma_x": 1.0, "gamma_c": 1.0, "beta": 0.0, "i": 0.0}),
            ("LayerNormGRU", {"gamma_x": 1.0, "gamma_h": 1.0, "beta_x": 0.0, "beta_h": 0.0}),
        ],
    )
    def test_biases_and_vectors_begin_as_the_paper_says(self, name, begins):
        parameters, gates = fresh(name)
        for what, number in begins.items():
            if what in parameters:
                assert all_are(parameters[what], number), what
            else:
                assert all_are(gates.block("bias_ih", what), number), what

    def test_what_a_cell_says_nothing_of_is_drawn_as_by_torch(self):
        parameters, _ = fresh("MGU", hidden_size=400)
        for values in parameters.values():
            assert 0.04 < values.abs().max() <= 0.05

    @pytest.mark.parametrize(
        ("name", "gate"),
        [
            *(("IntersectionRNN", "v"), ("ResidualLSTM", "m"), ("SRU", "x")),
            *(("MUT1", "n"), ("MUT2", "r")),
        ],
    )
    def test_a_gate_in_the_place_of_the_input_begins_as_it(self, name, gate):
        _, gates = fresh(name)
        x = torch.randn(2, 6, dtype=torch.float64)
        assert torch.equal(gates.into(gate, x), x)
        _, gates = fresh(name, input_size=5)
        assert gates.block("weight_ih", gate).abs().min() > 0

    def test_janet_spreads_its_memories_over_the_steps(self):
        _, gates = fresh("JANET", hidden_size=500, t_max=100)
        steps = gates.block("bias_ih", "f").exp()
        assert 1 <= steps.min() < 3
        assert 97 < steps.max() <= 99
        assert all_are(gates.block("bias_ih", "g"), 0.0)

    @pytest.mark.parametrize(("steps", "bound"), [(None, 1.0), (4, 2 ** (1 / 4))])
    def test_ind_rnn_neither_grows_nor_forgets(self, steps, bound):
        parameters, _ = fresh("IndRNN", hidden_size=500, steps=steps)
        assert 0 <= parameters["v"].min() < 0.02
        assert bound - 0.02 < parameters["v"].max() <= bound

    def test_li_gru_has_orthogonal_recurrent_weights(self):
        parameters, _ = fresh("LiGRU")
        for weight in parameters["weight_hh"].chunk(2):
            assert_all_close(weight @ weight.T, torch.eye(6, dtype=torch.float64))

    @pytest.mark.parametrize("name", ["AntisymmetricRNN", "GatedAntisymmetricRNN"])
    def test_antisymmetric_weights_begin_so(self, name):
        parameters, _ = fresh(name, hidden_size=100)
        for weight in parameters["weight_hh"].split(100):
            assert torch.equal(weight, -weight.T)
            assert 0.08 < weight[0, 1:].std() < 0.12

    def test_unicornn_begins_with_slow_and_fast_units(self):
        parameters, _ = fresh("UnICORNN", hidden_size=500)
        assert 0 <= parameters["w"].min() < parameters["w"].max() <= 1
        assert 0.09 < parameters["c"].abs().max() <= 0.1
        bound = (6 / 65 / 6) ** 0.5
        assert 0.9 * bound < parameters["weight_ih"].abs().max() <= bound

    def test_lmu_remembers_a_window(self):
        """An input of 1 is the Legendre polynomial of degree 0: its memory is (1, 0, ...)."""
        parameters, gates = fresh("LMU", theta=20.0)
        n = torch.arange(6.0, dtype=torch.float64)
        signs = torch.where(n[:, None] < n, -1.0, (-1.0) ** (n[:, None] - n + 1))
        a, b = (2 * n[:, None] + 1) * signs / 20, (2 * n + 1) * (-1.0) ** n / 20
        held_a, held_b, *_ = cont2discrete((a, b[:, None], a, b[:, None]), 1.0)
        assert_all_close(gates.block("weight_hh", "a"), torch.from_numpy(held_a))
        assert_all_close(parameters["b"], torch.from_numpy(held_b[:, 0]))
        m = torch.zeros(6, dtype=torch.float64)
        for _ in range(400):
            m = gates.block("weight_hh", "a") @ m + parameters["b"]
        assert (m - torch.eye(6, dtype=torch.float64)[0]).abs().max() < 1e-6
        assert all_are(gates.block("weight_hh", "e"), 0.0)

    def test_slstm_begins_with_forget_gates_from_open_to_closed(self):
        parameters, gates = fresh("SLSTM", heads=2)
        assert all_are(parameters["weight_hh"], 0.0)
        head = torch.tensor([5.0, 5 - 12 * 0.5**0.3, -7.0], dtype=torch.float64)
        assert_all_close(gates.block("bias_ih", "f"), head.repeat(2))
        assert all_are(gates.block("bias_ih", "i"), 0.0)
        assert all_are(parameters["bias_hh"], 0.0)

    @pytest.mark.parametrize("name", STEPS)
    def test_a_cell_begins_without_biases_too(self, name):
        heads = 2 if ZOO[name].recurrent == "heads" else None
        rnn = fastrnn.Recurrent(ZOO[name], 3, 4, bias=False, num_heads=heads, dtype=torch.float64)
        assert not any("bias" in name for name, _ in rnn.named_parameters())
        x, states, extras = draw(rnn)
        assert_all_close(call(rnn, x, states, extras), loop(rnn, STEPS[name], x, states, extras))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("name", STEPS)
    def test_a_cell_begins_in_half_precision_too(self, name, dtype):
        heads = 2 if ZOO[name].recurrent == "heads" else None
        rnn = fastrnn.Recurrent(ZOO[name], 3, 4, num_heads=heads, dtype=dtype)
        for parameter in rnn.parameters():
            assert parameter.dtype is dtype
            assert parameter.isfinite().all()
