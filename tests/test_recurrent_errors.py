"""Mistakes in a call of a layer of any cell are named, with what was expected and given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from program_cells import ZOO, Decayed, Loop, inputs_of, layer_of, states_of
from torch.nn.utils.rnn import pack_sequence

import fastrnn

X = torch.randn(5, 2, 3, dtype=torch.float64)


def state(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


CALLS: dict[str, tuple[str, Any, Any, type[Exception], str]] = {
    "features": ("GRU", X[..., :2], None, RuntimeError, "equal to input_size. Expected 3, got 2"),
    "dimensions": ("GRU", X[None], None, ValueError, "GRU: Expected input to be 2D or 3D, got 4D"),
    "dtype": ("GRU", X.float(), None, ValueError, "does not match weight dtype"),
    "no tensor": ("GRU", [1.0], None, AttributeError, "input: expected a Tensor, got a list"),
    "no steps": ("GRU", X[:0], None, RuntimeError, "Expected sequence length to be larger than 0"),
    "a state's size": (
        "GRU",
        X,
        state(1, 2, 5),
        RuntimeError,
        r"size \(1, 2, 4\), got \[1, 2, 5\]",
    ),
    "a state's dimensions": (
        "GRU",
        X,
        state(2, 4),
        RuntimeError,
        "hx should also be 3-D but got 2-D",
    ),
    "a state's dtype": (
        *("GRU", X, state(1, 2, 4, dtype=torch.float32), RuntimeError),
        "hx: expected torch.float64 as the weights have, got torch.float32",
    ),
    "one state of two": ("LSTM", X, state(1, 2, 4), TypeError, r"tuple \(h, c\) of 2 Tensors"),
    "too many states": ("LSTM", X, [state(1, 2, 4)] * 3, RuntimeError, "LSTM expects 2 hidden"),
    "too few states": ("sLSTM", X, [state(1, 2, 4)] * 3, IndexError, "a list of length 3"),
    "the last state's size": (
        *("sLSTM", X, [*[state(1, 2, 4)] * 3, state(1, 1, 4)], RuntimeError),
        r"Expected hidden\[3\] size \(1, 2, 4\), got \[1, 1, 4\]",
    ),
    "no state": ("LSTM", X, [state(1, 2, 4), None], AttributeError, r"hx\[1\]: expected a Tensor"),
}


@pytest.mark.parametrize("mistake", CALLS)
def test_a_call_with_a_mistake_says_which(mistake: str) -> None:
    name, x, hx, error, words = CALLS[mistake]
    with pytest.raises(error, match=words):
        layer_of(name)(x, hx)


def test_inputs_of_steps_are_arguments_like_any_other() -> None:
    layer = layer_of("inputs and vectors")
    given = inputs_of(layer, 5, 2)
    for inputs, words in (
        ({}, "missing 2 required keyword-only arguments: 'dt' and 'mask'"),
        ({"dt": given["dt"]}, "missing 1 required keyword-only argument: 'mask'"),
        ({**given, "delta": X}, "got an unexpected keyword argument 'delta'"),
        ({**given, "dt": 0.5}, "dt: expected a Tensor, got float"),
    ):
        with pytest.raises(TypeError, match=words):
            layer(X, **inputs)
    for name, value, words in (
        ("dt", given["dt"][:4], r"dt: expected shape \(5, 2\), .* or \(5, 2, 4\), got \(4, 2\)"),
        ("mask", X, r"mask: expected shape \(5, 2\), .* or \(5, 2, 4\), got \(5, 2, 3\)"),
        ("mask", given["mask"].float(), "mask: expected torch.float64"),
        ("mask", given["mask"] + 0j, "mask: expected torch.float64"),
        ("dt", given["dt"].to("meta"), "dt: expected a Tensor on cpu, as input is, got .* meta"),
    ):
        with pytest.raises(RuntimeError, match=words):
            layer(X, **{**given, name: value})
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        layer(X[..., :2], **given)
    packed = pack_sequence([X[:, 0], X[:3, 1]])
    with pytest.raises(TypeError, match="dt: expected a PackedSequence as input is one"):
        layer(packed, **given)
    others = {n: pack_sequence([v[:, 0], v[:4, 1]]) for n, v in given.items()}
    with pytest.raises(RuntimeError, match="dt: expected the lengths and the order of the packed"):
        layer(packed, **others)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dt'"):
        layer_of("GRU")(X, dt=given["dt"])


def test_inputs_for_a_row_and_for_each_unit_are_told_by_their_shapes() -> None:
    layer = layer_of("inputs and vectors")
    mask = torch.rand(5, 2) < 0.5
    given = {"dt": torch.rand(5, 2, 4, dtype=torch.float64), "mask": mask.double()}
    expected = Loop(layer)(X, **given)[0]
    torch.testing.assert_close(layer(X, **given)[0], expected)
    torch.testing.assert_close(layer(X, **{**given, "mask": mask})[0], expected)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size must be greater than zero"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size should be of type int, got: float"),
        ({"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
        ({"dropout": 1.5}, ValueError, "dropout should be a number in range"),
        ({"num_heads": 2}, ValueError, "num_heads"),
        ({"cell": 3}, TypeError, "cell: expected a fastrnn.Cell, got int"),
        ({"cell": torch.nn.GRUCell}, TypeError, "cell: expected a fastrnn.Cell, got GRUCell"),
        ({"cell": ZOO["sLSTM"][0]}, ValueError, "num_heads must say how many"),
        ({"cell": ZOO["heads"][0], "hidden_size": 5}, ValueError, "a multiple of the 2 heads"),
    ],
)
def test_a_layer_that_cannot_be_is_not_made(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fastrnn.Recurrent(**{"cell": ZOO["GRU"][0], "input_size": 3, "hidden_size": 4} | options)


def test_an_input_may_not_be_called_as_another_argument() -> None:
    class Shadowing(Decayed):
        inputs = "dt lengths"
        vectors = {}  # noqa: RUF012

    class Twice(Decayed):
        vectors = {**Decayed.vectors, "weight_ih": "unit"}  # noqa: RUF012

    for cell in (Shadowing, Twice):
        with pytest.raises(ValueError, match=r"lengths|weight_ih"):
            fastrnn.Recurrent(cell, 3, 4)


def test_a_beginning_that_replaces_a_parameter_is_refused() -> None:
    class Replaces(ZOO["GRU"][0]):  # type: ignore[misc]
        def reset_parameters(self, parameters: dict[str, torch.Tensor]) -> None:
            parameters["bias_hh"] = torch.zeros(12)

    with pytest.raises(
        ValueError, match=r"Replaces\.reset_parameters: 'bias_hh' is another tensor"
    ):
        fastrnn.Recurrent(Replaces, 3, 4)


def test_dropout_of_one_layer_is_warned_of_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        layer_of("GRU", dropout=0.3)


def test_a_single_step_names_its_mistakes() -> None:
    cell = fastrnn.RecurrentCell(ZOO["LSTM"][0], 3, 4, dtype=torch.float64)
    x = X[0]
    for given, hx, error, words in (
        (X, None, ValueError, "LSTMCell: Expected input to be 1D or 2D, got 3D"),
        (x[:, :2], None, RuntimeError, "inconsistent input_size: got 2 expected 3"),
        (x, [state(3, 4)] * 2, RuntimeError, "batch size 2 doesn't match hidden0 batch size 3"),
        (x, [state(2, 4), state(2, 5)], RuntimeError, "hidden1 has inconsistent hidden_size"),
        (x, [state(4)] * 2, ValueError, "Expected hidden to be 2D"),
        (x, state(2, 4), TypeError, r"tuple \(h, c\) of 2 Tensors"),
    ):
        with pytest.raises(error, match=words):
            cell(given, hx)


def test_parameters_have_torchs_names_and_start_as_the_cell_says() -> None:
    layer = layer_of("inputs and vectors", num_layers=2, bidirectional=True)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "rate", "scale", "peek")
    suffixes = [f"_l{k}{end}" for k in range(2) for end in ("", "_reverse")]
    assert list(layer.state_dict()) == [name + suffix for suffix in suffixes for name in names]
    shapes = {name: tuple(getattr(layer, f"{name}_l1").shape) for name in names}
    assert shapes["weight_ih"] == (8, 8)
    assert (shapes["rate"], shapes["scale"], shapes["peek"]) == ((4,), (1,), (8,))
    blocks = layer_of("sLSTM")
    assert blocks.weight_hh_l0.shape == (2, 8, 2)
    assert list(layer_of("none").state_dict()) == ["weight_ih_l0", "bias_ih_l0"]
    normed = layer_of("normed", num_layers=2)
    assert all(torch.equal(one, torch.ones_like(one)) for one in (normed.gain_l0, normed.gain_l1))
    assert all(p.abs().max() <= 1 for p in normed.parameters())
    assert repr(layer_of("parameter", bias=False)) == "Recurrent(Scaled(dt=0.3), 3, 4, bias=False)"
    assert states_of(layer, 2).shape == (4, 2, 4)
