"""torch.ops.fastrnn: what torch asks of an operator, for every cell and every kind of batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import fastrnn._autograd.operators  # noqa: F401 - defines them
from fastrnn._call.spec import to_flat
from fastrnn._layers.plan import layer_plan

F64 = torch.float64
T, B = 8, 2

BATCHES: dict[str, dict[str, Any]] = {
    "lengths and more": {
        "lengths": torch.tensor([3, 8]),
        "resets": torch.rand(T, B) < 0.3,
        "states": True,
    },
    "packed": {
        "data": (11,),
        "batch_sizes": torch.tensor([2, 2, 2, 1, 1, 1, 1, 1]),
        "row_index": torch.tensor([1, 0]),
    },
    "dropout": {"masks": [torch.rand(T, B, 16, dtype=F64)], "num_layers": 2, "proj_size": 16},
    "one step": {"data": (B,)},
}


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=F64, requires_grad=True)


def arguments(cell: str, given: dict[str, Any]) -> tuple[Any, ...]:
    options = {"proj_size": 0, "num_layers": 1} | {
        k: v for k, v in given.items() if k in ("proj_size", "num_layers")
    }
    one_step = given.get("data") == (B,)
    plan = layer_plan(cell, 16, 32, options["proj_size"], options["num_layers"], True, False, 0.0)
    spec, shapes, _ = plan.expected
    state = () if one_step else (options["num_layers"],)
    h = randn(*state, B, options["proj_size"] or 32)
    c = randn(*state, B, 32) if cell == "lstm" else None
    return (
        randn(*given.get("data", (T, B)), 16),
        h,
        c,
        *(given.get(name) for name in ("batch_sizes", "row_index", "lengths", "resets")),
        [randn(*shape).detach().mul_(0.1).requires_grad_() for shape in shapes],
        given.get("masks", []),
        B,
        given.get("batch_first", False),
        given.get("states", False),
        *to_flat(spec),
    )


@pytest.fixture
def _filled_memory() -> Any:
    """torch.empty fills what it gives: what backward needs has gaps, and opcheck compares bits."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_filled_memory")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # by torch's own check, in torch 2.15
@pytest.mark.parametrize(
    ("cell", "batch"),
    [
        ("lstm", "lengths and more"),
        ("gru", "packed"),
        ("lstm", "dropout"),
        ("rnn_relu", "one step"),
    ],
)
def test_operators_pass_what_torch_checks(cell: str, batch: str) -> None:
    given = arguments(cell, BATCHES[batch])
    library = torch.ops.fastrnn
    torch.library.opcheck(library.recurrence.default, given)
    torch.library.opcheck(library.recurrence_forward.default, given)
    *outputs, kept = library.recurrence_forward(*given)
    d_outputs = [torch.randn_like(y) if y.numel() else None for y in outputs]
    needed = [isinstance(t, Tensor) for t in (*given[:3], *given[7])]
    # Detached: how its own derivative is computed depends on the values of lengths and batch_sizes.
    detached = pytree.tree_map_only(Tensor, Tensor.detach, given)
    backward = (kept.detach(), *d_outputs, needed, *detached)
    torch.library.opcheck(library.recurrence_backward.default, backward)


def test_what_is_kept_of_no_sequence_has_the_size_that_a_compiler_is_told() -> None:
    given = list(arguments("gru", {}))
    given[0], given[1], given[9] = randn(T, 0, 16), randn(1, 0, 32), 0
    forward = torch.ops.fastrnn.recurrence_forward.default
    torch.library.opcheck(forward, tuple(given), test_utils="test_faketensor")
    y, *_ = torch.ops.fastrnn.recurrence(*given)
    gradients = torch.autograd.grad(y.sum(), [given[0], *given[7]])
    assert not any(gradient.any() for gradient in gradients)


def test_an_operator_checks_the_values_that_a_graph_could_not_know() -> None:
    given = list(arguments("gru", BATCHES["lengths and more"]))
    given[5] = torch.tensor([3, 9])
    with pytest.raises(ValueError, match="lengths: expected numbers from 0 to the 8 steps"):
        torch.ops.fastrnn.recurrence(*given)
    given = list(arguments("gru", BATCHES["packed"]))
    given[4] = torch.tensor([0, 7])
    with pytest.raises(RuntimeError, match="sorted_indices: expected a permutation"):
        torch.ops.fastrnn.recurrence(*given)
