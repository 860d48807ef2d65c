"""A row's result depends on that row alone, bit for bit, whatever the batch, split or threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import flat, same_outputs
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import fastrnn

pytestmark = pytest.mark.usefixtures("each_isa", "restore_threads")

CELLS = ["LSTM", "GRU", "RNN"]
VARIANTS = [
    ("LSTM", {"peephole": "ifgo", "activation": "softsign"}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"activation": "elu"}),
    ("RNN", {"activation": "softplus"}),
]
SHAPES = [(7, 5, 3), (20, 33, 40), (9, 130, 150)]  # T, I, H: one panel, some, many


def results(layer: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, final states and the gradient of the input, batch in dimension 1 throughout."""
    x = x.detach().clone().requires_grad_()
    y, state = layer(x)
    states = list(state) if isinstance(state, tuple) else [state]
    weight = torch.linspace(-1, 1, y.shape[-1])
    (y * weight).sum().backward()
    assert x.grad is not None
    return [y.detach(), *(s.detach() for s in states), x.grad]


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in CELLS), *VARIANTS])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_the_same_in_any_batch_and_on_any_number_of_threads(
    name: str, options: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    T, I, H = shape  # noqa: E741
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(I, H, num_layers=2, bidirectional=True, **options)
    x = torch.randn(T, 64, I)
    torch.set_num_threads(1)
    whole = results(layer, x)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for batch in (1, 2, 3, 5, 8, 13, 64):
            first = 64 - batch
            for part, full in zip(results(layer, x[:, first:]), whole, strict=True):
                assert torch.equal(part, full[:, first:])


@pytest.mark.parametrize("name", CELLS)
def test_weight_gradients_are_the_same_on_any_number_of_threads(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(30, 70, num_layers=2, bidirectional=True)
    x = torch.randn(60, 20, 30)
    gradients = []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        layer.zero_grad()
        results(layer, x)
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_a_packed_row_is_the_same_as_alone(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(17, 35, bidirectional=True)
    rows = [torch.randn(length, 17) for length in (31, 1, 12, 12, 5, 30, 2)]
    with torch.no_grad():
        packed, _ = layer(pack_sequence(rows, enforce_sorted=False))
        padded, lengths = pad_packed_sequence(packed)
        for i, row in enumerate(rows):
            assert torch.equal(padded[: int(lengths[i]), i], layer(row)[0])


@pytest.mark.parametrize("name", CELLS)
def test_a_packed_batch_of_many_blocks_is_the_same_on_any_number_of_threads(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(40, 70)
    rows = [torch.randn(length, 40) for length in range(1, 61, 2)]
    packed = pack_sequence(rows, enforce_sorted=False)
    with torch.no_grad():
        torch.set_num_threads(1)
        alone = layer(packed)[0].data
        for _ in range(20):  # threads that fall behind one another by chance
            for threads in (2, 3):
                torch.set_num_threads(threads)
                assert torch.equal(layer(packed)[0].data, alone)


@pytest.mark.parametrize("name", ["QRNN", "MinLSTM", "MGU", "MUT3", "LayerNormGRU"])
@pytest.mark.parametrize(("H", "batch"), [(130, 3), (33, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_ragged_program_is_the_same_on_any_number_of_threads(
    name: str, H: int, batch: int, dtype: torch.dtype
) -> None:
    """Units that never meet, and stages that hand on what each step writes to the same place.

    130 units are an odd number of panels on every instruction set; 40 rows fall into groups.
    """
    torch.manual_seed(0)
    layer = fastrnn.Recurrent(getattr(fastrnn.cells, name), 5, H, dtype=dtype)
    lengths = torch.linspace(60, 3, batch).long()
    x = torch.randn(60, batch, 5, dtype=dtype)
    for training in (False, True):
        with torch.set_grad_enabled(training):
            torch.set_num_threads(1)
            alone = flat(layer(x, lengths=lengths))
            for repeat in range(16):  # threads that fall behind one another by chance
                torch.set_num_threads(2 + repeat % 2)
                assert same_outputs(layer(x, lengths=lengths), alone)


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in CELLS), *VARIANTS])
@pytest.mark.parametrize("lengths", [[700], [700, 431, 64]])
def test_threads_that_work_ahead_of_a_narrow_recurrence_change_no_bit(
    name: str, options: dict[str, Any], lengths: list[int]
) -> None:
    """One thread takes the steps of so few rows and units, the others project their input."""
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(40, 20, num_layers=2, bidirectional=True, **options)
    x = torch.randn(max(lengths), len(lengths), 40)
    with torch.no_grad():
        torch.set_num_threads(1)
        alone = layer(x, lengths=torch.tensor(lengths))[0]
        for _ in range(3):  # whoever is free takes the next piece
            for threads in (3, 4):
                torch.set_num_threads(threads)
                assert torch.equal(layer(x, lengths=torch.tensor(lengths))[0], alone)


def test_a_projection_keeps_the_promise() -> None:
    torch.manual_seed(0)
    layer = fastrnn.LSTM(19, 75, num_layers=2, proj_size=20)
    x = torch.randn(12, 32, 19)
    torch.set_num_threads(1)
    whole = results(layer, x)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for batch in (1, 3, 7, 32):
            for part, full in zip(results(layer, x[:, :batch]), whole, strict=True):
                assert torch.equal(part, full[:, :batch])


@pytest.mark.parametrize("name", CELLS)
def test_nan_and_infinity_stay_in_their_row(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(9, 21, num_layers=2, bidirectional=True)
    x = torch.randn(6, 10, 9)
    clean = results(layer, x)
    x[2, 3, 4] = float("nan")
    x[3, 7, 1] = float("inf")
    others = [b for b in range(10) if b not in (3, 7)]
    for got, want in zip(results(layer, x), clean, strict=True):
        assert torch.equal(got[:, others], want[:, others])
        assert got[:, 3].isnan().any()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("size", [(5, 3), (33, 40), (130, 150)])
def test_a_single_step_is_the_same_with_weights_packed_or_read_in_place(
    name: str, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = getattr(fastrnn, name)(*size)
    x = torch.randn(1, 20, size[0])
    whole = results(layer, x)
    for batch in (1, 2, 3, 4, 6, 7, 13):
        for part, full in zip(results(layer, x[:, :batch]), whole, strict=True):
            assert torch.equal(part, full[:, :batch])


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in CELLS), *VARIANTS])
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("B", [1, 20])
def test_no_state_is_a_state_of_zeros(name: str, options: dict[str, Any], T: int, B: int) -> None:
    layer = getattr(fastrnn, name)(33, 40, num_layers=2, bidirectional=True, **options)
    x, zeros = torch.randn(T, B, 33), torch.zeros(4, B, 40)
    state = (zeros, zeros) if name == "LSTM" else zeros
    for got, want in zip(results(layer, x), results(lambda x: layer(x, state), x), strict=True):
        assert torch.equal(got, want)
