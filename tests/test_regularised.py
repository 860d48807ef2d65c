"""The options of `fastrnn.regularised`, each against the implementation whose convention it is."""

from __future__ import annotations

from typing import Any

import pytest
import regularised_loops as loops
import torch
from torch import Tensor

import fastrnn
from fastrnn._call.weights import by_direction
from fastrnn._layers import masks
from fastrnn._layers.plan import spec_of

F64 = torch.float64
T, B, FEATURES, H = 6, 5, 3, 7

pytestmark = pytest.mark.usefixtures("each_isa")


class Problem:
    """A layer in training, an input, states, and the masks that the layer draws after a seed."""

    def __init__(self, kind: str, options: dict[str, Any], **more: Any) -> None:
        torch.manual_seed(0)
        self.layer: Any = getattr(fastrnn, kind)(FEATURES, H, dtype=F64, **options, **more)
        for name, parameter in self.layer.named_parameters():
            if name.startswith("norm"):
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        self.x = torch.randn(T, B, FEATURES, dtype=F64, requires_grad=True)
        count = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
        shape = (count, B, H)
        self.states = [torch.randn(shape, dtype=F64, requires_grad=True) for _ in "hc"]
        self.states = self.states[: 2 if kind == "LSTM" else 1]
        self.spec = spec_of(self.layer)
        self.norms = {
            name.removesuffix("_l0"): own
            for name, own in self.layer.named_parameters()
            if name.startswith("norm")
        }

    @property
    def hx(self) -> Any:
        return tuple(self.states) if len(self.states) == 2 else self.states[0]

    @property
    def first(self) -> list[Tensor]:
        """The states that a loop over one direction begins with."""
        return [state[0] for state in self.states]

    @property
    def weights(self) -> list[Any]:
        """Of each layer's first direction."""
        flat = [getattr(self.layer, name) for name in self.layer._flat_weights_names]
        return [of_layer[0] for of_layer in by_direction(self.spec, flat)]

    def drawn(self, training: bool = True) -> list[masks.OfLayer]:
        torch.manual_seed(7)
        rows, options = masks.Rows((B,), (T, B)), self.layer.regularised
        return masks.draw(self.spec, options, rows, self.x, training)

    def is_computed_by(self, expected: Any) -> None:
        """Outputs, final states and all gradients of the layer are those of a loop."""
        torch.manual_seed(7)
        y, final = self.layer(self.x, self.hx)
        got = [y, *(state[0] for state in (final if isinstance(final, tuple) else (final,)))]
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        inputs = [self.x, *self.states, *self.layer.parameters()]
        for one, other in zip(*(_pulled(each, inputs) for each in (got, expected)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def _pulled(outputs: Any, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(8)
    total = sum((output * torch.randn_like(output)).sum() for output in outputs)
    return torch.autograd.grad(total, inputs, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("gates", ["separate", "tied"])
def test_keras_lstm(gates):
    options = {"input_dropout": 0.3, "recurrent_dropout": 0.4}
    options |= {"input_dropout_gates": gates, "recurrent_dropout_gates": gates}
    problem = Problem("LSTM", options)
    (drawn,) = problem.drawn()
    own = drawn.input, drawn.directions[0].recurrent
    problem.is_computed_by(loops.keras_lstm(problem.x, *problem.first, *problem.weights, *own))


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("gates", ["separate", "tied"])
def test_keras_gru(gates, reset_after):
    options = {"input_dropout": 0.3, "recurrent_dropout": 0.4, "reset_after": reset_after}
    options |= {"input_dropout_gates": gates, "recurrent_dropout_gates": gates}
    problem = Problem("GRU", options)
    (drawn,) = problem.drawn()
    own = drawn.input, drawn.directions[0].recurrent, reset_after
    problem.is_computed_by(loops.keras_gru(problem.x, *problem.first, *problem.weights, *own))


def test_keras_simple_rnn():
    problem = Problem("RNN", {"input_dropout": 0.3, "recurrent_dropout": 0.4})
    (drawn,) = problem.drawn()
    own = drawn.input, drawn.directions[0].recurrent
    problem.is_computed_by(loops.keras_rnn(problem.x, *problem.first, *problem.weights, *own))


def test_stanza_lstm():
    problem = Problem("LSTM", {"recurrent_dropout": 0.4})
    (drawn,) = problem.drawn()
    (mask,) = drawn.directions[0].recurrent
    problem.is_computed_by(loops.stanza_lstm(problem.x, *problem.first, *problem.weights, mask))


def test_gal_and_ghahramani():
    problem = Problem("LSTM", {"input_dropout": 0.2, "recurrent_dropout": 0.4})
    (drawn,) = problem.drawn()
    (z_x,), (z_h,) = drawn.input, drawn.directions[0].recurrent
    problem.is_computed_by(loops.gal_lstm(problem.x, *problem.first, *problem.weights, z_x, z_h))


@pytest.mark.parametrize("per", ["call", "step"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_semeniuta(kind, per):
    options = {"recurrent_dropout": 0.4, "recurrent_dropout_on": "candidate"}
    problem = Problem(kind, options | {"recurrent_dropout_per": per})
    (drawn,) = problem.drawn()
    (mask,) = drawn.directions[0].recurrent
    loop = loops.semeniuta_lstm if kind == "LSTM" else loops.semeniuta_gru
    problem.is_computed_by(loop(problem.x, *problem.first, *problem.weights, mask))


@pytest.mark.parametrize("rates", [(0.3, 0.0), (0.0, 0.4), (0.3, 0.4)])
def test_krueger(rates):
    problem = Problem("LSTM", {"zoneout": rates})
    (drawn,) = problem.drawn()
    of_h, of_c = drawn.directions[0][2:]
    own = [[0.0] * T if mask is None else mask for mask in (of_h, of_c)]
    problem.is_computed_by(loops.krueger_lstm(problem.x, *problem.first, *problem.weights, *own))
    problem.layer.eval()
    own = [[rate] * T for rate in rates]
    problem.is_computed_by(loops.krueger_lstm(problem.x, *problem.first, *problem.weights, *own))


def test_haste_gru():
    problem = Problem("GRU", {"zoneout": 0.3, "weight_dropout": 0.4})
    (drawn,) = problem.drawn()
    of_weight, _, of_h, _ = drawn.directions[0]
    own = 1 - of_h, of_weight
    problem.is_computed_by(loops.haste_gru(problem.x, *problem.first, *problem.weights, *own))


def test_haste_layer_norm_lstm():
    options = {"layer_norm": "both", "layer_norm_beta": "cell", "layer_norm_cell": "inside"}
    problem = Problem("LSTM", {**options, "zoneout": 0.3})
    (drawn,) = problem.drawn()
    own = problem.norms, 1 - drawn.directions[0].zoneout_h
    problem.is_computed_by(
        loops.haste_layer_norm_lstm(problem.x, *problem.first, *problem.weights, *own)
    )


def test_haste_layer_norm_gru():
    problem = Problem("GRU", {"layer_norm": "both", "layer_norm_beta": False})
    own = (*problem.first, *problem.weights, problem.norms)
    problem.is_computed_by(loops.haste_layer_norm_gru(problem.x, *own))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_norm_of_all_gates_has_their_mean_where_each_meets_a_state_of_its_own(kind):
    options = {"recurrent_dropout": 0.4, "recurrent_dropout_gates": "separate"}
    problem = Problem(kind, options | {"layer_norm": "recurrent"})
    (drawn,) = problem.drawn()
    own = problem.norms, drawn.directions[0].recurrent
    problem.is_computed_by(
        loops.separately_masked_norm(kind, problem.x, problem.first, *problem.weights, *own)
    )


def test_layer_norm_lstm_of_torchs_benchmarks():
    options = {"layer_norm": "both", "layer_norm_cell": "carried"}
    problem = Problem("LSTM", options, bias=False)
    own = (*problem.first, *problem.weights, problem.norms)
    problem.is_computed_by(loops.torch_layer_norm_lstm(problem.x, *own))


def test_layer_norm_lstm_of_tensorflow_addons():
    options = {"layer_norm": "both", "layer_norm_cell": "carried", "layer_norm_eps": 1e-3}
    problem = Problem("LSTM", options)
    own = (*problem.first, *problem.weights, problem.norms)
    problem.is_computed_by(loops.addons_layer_norm_lstm(problem.x, *own))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("by", ["element", "row"])
def test_awd_lstm(by, training):
    options = {"input_dropout": 0.4, "weight_dropout": 0.5, "weight_dropout_by": by}
    options["weight_dropout_in_eval"] = by == "row"
    problem = Problem("LSTM", options, num_layers=3)
    problem.layer.train(training)
    drawn = problem.drawn(training)
    of_x = [layer.input[0] if layer.input else 1.0 for layer in drawn]
    of_w = [layer.directions[0].weight for layer in drawn]
    assert all(mask is None for mask in of_w) == (by == "element" and not training)
    torch.manual_seed(7)
    y, _ = problem.layer(problem.x)
    masks_of_weights = [1.0 if mask is None else mask for mask in of_w]
    expected = loops.awd_lstm(problem.x, problem.weights, of_x, masks_of_weights)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
