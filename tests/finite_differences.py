"""Derivatives held against differences of values, number by number, as torch's `gradcheck` does.

For each number that comes out `gradcheck` goes back twice. Here random weights add up the numbers
of an output, so that going back once gives what all of them contribute: once for each output, while
the gradients of the others are undefined, and once for all together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor

__all__ = ["assert_gradients", "assert_second_derivatives"]

STEP = 1e-6
RTOL, ATOL = 1e-5, 1e-6


def assert_gradients(function: Callable[..., Any], *inputs: Tensor | None) -> None:
    """Of one Tensor or several that ``function`` returns, by every number of the inputs, float64.

    Going back a second time gives the same bits.
    """
    leaves = [one for one in inputs if one is not None and one.requires_grad]
    outputs = _several(function(*inputs))
    depends = [one.requires_grad for one in outputs]
    outputs = list(compress(outputs, depends))
    assert outputs
    draw = torch.Generator().manual_seed(5)
    weights = [torch.randn(y.shape, generator=draw, dtype=y.dtype) for y in outputs]

    def sums() -> Tensor:
        """Of each output, and at the end of all."""
        now = compress(_several(function(*inputs)), depends)
        of_each = torch.stack([(y * w).sum() for y, w in zip(now, weights, strict=True)])
        return torch.cat([of_each, of_each.sum(0, keepdim=True)])

    def gradients(of: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(of, leaves, weights, retain_graph=True, materialize_grads=True)

    found = [gradients([y], [w]) for y, w in zip(outputs, weights, strict=True)]
    found.append(gradients(outputs, weights))
    again = gradients(outputs, weights)
    assert all(map(torch.equal, again, found[-1])), "not the same when going back again"
    for number, (leaf, *of_leaf) in enumerate(zip(leaves, *found, strict=True)):
        with torch.no_grad():
            expected = torch.stack(list(_slopes(sums, leaf)), -1).view(-1, *leaf.shape)
        torch.testing.assert_close(
            torch.stack(of_leaf),
            expected,
            rtol=RTOL,
            atol=ATOL,
            msg=lambda text, number=number: f"for input {number}, output by output:\n{text}",
        )


def assert_second_derivatives(function: Callable[..., Any], *inputs: Tensor | None) -> None:
    """Of the gradients of what ``function`` returns, by the inputs and the outputs' gradients."""
    leaves = [one for one in inputs if one is not None and one.requires_grad]
    draw = torch.Generator().manual_seed(6)
    d_outputs = [
        torch.randn(y.shape, generator=draw, dtype=y.dtype, requires_grad=True)
        for y in _several(function(*inputs))
    ]

    def gradients(*values: Tensor | None) -> tuple[Tensor, ...]:
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            outputs = _several(function(*values[: len(inputs)]))
            given = values[len(inputs) :]
            return torch.autograd.grad(
                outputs, leaves, given, create_graph=graph, materialize_grads=True
            )

    assert_gradients(gradients, *inputs, *d_outputs)


def _several(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _slopes(function: Callable[[], Tensor], leaf: Tensor) -> Iterator[Tensor]:
    """How the values of ``function`` change with each number of a contiguous leaf."""
    numbers = leaf.data.view(-1)
    for at, number in enumerate(numbers.tolist()):
        numbers[at] = number + STEP
        above = function()
        numbers[at] = number - STEP
        below = function()
        numbers[at] = number
        yield (above - below) / (2 * STEP)
