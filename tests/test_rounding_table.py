"""Rounding errors beside torch's over a table of cells, sizes, magnitudes and steps.

An entry is the ratio of two root mean square errors against float64, each the median over seeds: a
single unit of relu's on the wrong side of zero would outweigh a whole layer.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from itertools import product
from statistics import geometric_mean, median

import pytest
import roads
import torch
from torch import Tensor

import fastrnn
from fastrnn import isa

CELLS = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "tanh": ("RNN", {"nonlinearity": "tanh"}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
}
LACKING = {"peepholes": ("LSTM", {"peephole": "ifo"}), "reset": ("GRU", {"reset_after": False})}
"""Options that torch's layers lack: the equations by torch's operations stand beside them."""
SIZES, MAGNITUDES, STEPS = (16, 64, 192, 512), (1.0, 30.0, 200.0), (1, 20)
INPUTS, ROWS, SEEDS = 32, 16, 3
LARGEST_RATIO = 1.2 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 2.0
"""Measured beside torch's kernels for AVX2; its others add up in another order, and were not."""
ROUNDING_ONCE = [name for name in isa.available() if name != "sse2"]
"""Those that multiply and add in one rounding, as torch's products do."""


Errors = tuple[float, float, float]
"""Root mean squares, as shares: of outputs, of gradients but those of biases, and of those."""


def results(layer: torch.nn.RNNBase, x: Tensor, h: Tensor, factors: Tensor) -> list[Tensor]:
    """The output, then gradients: of the input, the state, the weights and the biases."""
    dtype = layer.weight_ih_l0.dtype
    x, h = (t.to(dtype).requires_grad_() for t in (x, h))
    y = layer(x, (h, h / 2) if isinstance(layer, torch.nn.LSTM) else h)[0]
    wanted = [x, h, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad((y * factors.to(dtype)).sum(), wanted)]


def errors(got: list[Tensor], exact: list[Tensor]) -> Errors:
    squares = [
        float((g.double() - e).square().mean() / e.square().mean())
        for g, e in zip(got, exact, strict=True)
    ]
    groups = squares[:1], squares[1:5], squares[5:]
    outputs, gradients, biases = (sum(group) ** 0.5 for group in groups)
    return outputs, gradients, biases


def medians(measured: list[Errors]) -> Errors:
    outputs, gradients, biases = (median(column) for column in zip(*measured, strict=True))
    return outputs, gradients, biases


def ratios(cell: str, hidden: int, magnitude: float, steps: int) -> dict[str, Errors]:
    """For each instruction set the errors, divided by those of torch's layer."""
    kind, options = CELLS[cell]
    measured: dict[str, list[Errors]] = defaultdict(list)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        plain = getattr(torch.nn, kind)(INPUTS, hidden, **options)
        fast, exact = fastrnn.convert(copy.deepcopy(plain)), copy.deepcopy(plain).double()
        x = torch.randn(steps, ROWS, INPUTS) * magnitude
        h, factors = torch.rand(1, ROWS, hidden) * 2 - 1, torch.randn(steps, ROWS, hidden)
        right = results(exact, x, h, factors)
        measured["torch"].append(errors(results(plain, x, h, factors), right))
        for name in isa.available():
            with isa.force(name):
                measured[name].append(errors(results(fast, x, h, factors), right))
    outputs, gradients, biases = medians(measured.pop("torch"))
    ours = {name: medians(errors_) for name, errors_ in measured.items()}
    return {name: (y / outputs, g / gradients, b / biases) for name, (y, g, b) in ours.items()}


@pytest.fixture(scope="module", params=CELLS)
def table(request: pytest.FixtureRequest) -> dict[tuple[int, float, int], dict[str, Errors]]:
    """The `ratios` of a cell for each hidden size, magnitude of the input and number of steps."""
    return {at: ratios(request.param, *at) for at in product(SIZES, MAGNITUDES, STEPS)}


def test_outputs_are_as_exact_as_torchs_in_every_entry(table) -> None:
    for at, entry in table.items():
        for name in ROUNDING_ONCE:
            assert entry[name][0] <= LARGEST_RATIO, (at, name)


def test_gradients_are_as_exact_as_torchs_over_the_sizes(table) -> None:
    for magnitude, steps, name in product(MAGNITUDES, STEPS, ROUNDING_ONCE):
        of_sizes = [table[hidden, magnitude, steps][name] for hidden in SIZES]
        _, gradients, biases = (geometric_mean(column) for column in zip(*of_sizes, strict=True))
        assert gradients <= LARGEST_RATIO, (magnitude, steps, name)
        assert biases <= LARGEST_RATIO, (magnitude, steps, name)


@pytest.mark.parametrize("name", isa.available())
def test_in_the_middle_of_the_table_every_instruction_set_is_as_exact(table, name) -> None:
    outputs, gradients, _ = medians([entry[name] for entry in table.values()])
    assert max(outputs, gradients) <= LARGEST_RATIO


@pytest.mark.parametrize("cell", LACKING)
def test_outputs_that_torchs_layers_lack_are_as_exact_as_their_equations(cell: str) -> None:
    kind, options = LACKING[cell]
    for hidden, magnitude in product((64, 192), MAGNITUDES):
        measured: dict[str, list[Errors]] = defaultdict(list)
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            fast = getattr(fastrnn, kind)(INPUTS, hidden, **options)
            exact = copy.deepcopy(fast).double()
            x = torch.randn(8, ROWS, INPUTS) * magnitude
            h, factors = torch.rand(1, ROWS, hidden) * 2 - 1, torch.randn(8, ROWS, hidden)
            with roads.reference():
                right, plain = (results(layer, x, h, factors) for layer in (exact, fast))
            measured["equations"].append(errors(plain, right))
            for name in ROUNDING_ONCE:
                with isa.force(name):
                    measured[name].append(errors(results(fast, x, h, factors), right))
        of_equations = medians(measured.pop("equations"))[0]
        for name, found in measured.items():
            assert medians(found)[0] <= LARGEST_RATIO * of_equations, (hidden, magnitude, name)
