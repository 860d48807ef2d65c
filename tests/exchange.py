"""Exchanges the memory of a call's tensors between forward and backward, in a process of its own.

``python exchange.py`` prints a line of JSON for each case: its name, and what came of it.
If the process ends before the last case, the next one has ended it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fastrnn

KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
WEIGHT = "weight_hh"


class Scene:
    """A layer or cell, its arguments and the gradients of everything."""

    def __init__(self, kind: str, form: str) -> None:
        torch.manual_seed(0)
        self.one_step = kind.endswith("Cell")
        self.layer = getattr(fastrnn, kind)(16, 40)
        shape = (9, 16) if self.one_step else (23, 9, 16)
        states = (9, 40) if self.one_step else (1, 9, 40)
        self.x = torch.randn(shape, requires_grad=True)
        self.h = torch.randn(states, requires_grad=True)
        self.hx: Any = (self.h, torch.randn(states)) if kind.startswith("LSTM") else self.h
        self.form = form
        suffix = "" if self.one_step else "_l0"
        self.weight = getattr(self.layer, WEIGHT + suffix)

    def call(self) -> Tensor:
        x: Any = self.x
        if self.form == "packed":
            x = torch.nn.utils.rnn.pack_padded_sequence(x, [23, 20, 20, 9, 9, 9, 4, 2, 1])
        y = self.layer(x, self.hx)
        y = y if isinstance(y, Tensor) else y[0]
        return y.data if self.form == "packed" else y

    def gradients(self, exchange: Callable[[Scene], object] | None = None) -> list[Tensor]:
        inputs = [self.x, self.h, *self.layer.parameters()]
        y = self.call()
        if exchange is not None:
            exchange(self)
        y.square().sum().backward()
        return [tensor.grad for tensor in inputs]


def other(like: Tensor, **options: Any) -> Tensor:
    return torch.randn(like.shape, **options)


def give(make: Callable[[Tensor], Tensor]) -> Callable[[Scene], object]:
    def exchange(scene: Scene) -> None:
        scene.weight.data = make(scene.weight.detach())

    return exchange


def twice(scene: Scene) -> None:
    """The memory that was freed first may be what the second allocation gets."""
    for _ in range(2):
        scene.weight.data = other(scene.weight)


def come_back(scene: Scene) -> None:
    """As FSDP does it: the memory is given back, and the values come again, to another place."""
    storage, values = scene.weight.untyped_storage(), scene.weight.detach().clone()
    size = storage.nbytes()
    storage.resize_(0)
    holds_the_place = torch.empty(size, dtype=torch.uint8)
    storage.resize_(size)
    with torch.no_grad(), torch.autograd._unsafe_preserve_version_counter(scene.weight):
        scene.weight.copy_(values)
    del holds_the_place


EXCHANGES: dict[str, Callable[[Scene], object]] = {
    "half": lambda scene: scene.layer.half(),
    "double": lambda scene: scene.layer.double(),
    "bfloat16": lambda scene: scene.layer.bfloat16(),
    "same dtype and shape": give(other),
    "twice": twice,
    "smaller": give(lambda weight: torch.randn(3, 4)),
    "more rows": give(lambda weight: torch.randn(len(weight) + 1, 40)),
    "expanded": give(lambda weight: torch.randn(1, 1).expand(weight.shape)),
    "transposed": give(lambda weight: torch.randn(weight.shape[::-1]).t()),
    "set_": lambda scene: scene.weight.data.set_(torch.randn(3, 4)),
    "come back": come_back,
    "freed": lambda scene: scene.weight.untyped_storage().resize_(0),
    "shrunk": lambda scene: scene.weight.untyped_storage().resize_(16),
    "input's data": lambda scene: setattr(scene.x, "data", other(scene.x)),
    "input in half": lambda scene: setattr(scene.x, "data", scene.x.detach().half()),
    "smaller input": lambda scene: setattr(scene.x, "data", torch.randn(2, 2)),
    "freed input": lambda scene: scene.x.untyped_storage().resize_(0),
    "state's data": lambda scene: setattr(scene.h, "data", other(scene.h)),
    "state in double": lambda scene: setattr(scene.h, "data", scene.h.detach().double()),
    "smaller state": lambda scene: setattr(scene.h, "data", torch.randn(2)),
}


def outcome(kind: str, form: str, name: str) -> str:
    """ "right", "wrong", or the type of the exception and what it says."""
    wanted = Scene(kind, form).gradients()
    try:
        got = Scene(kind, form).gradients(EXCHANGES[name])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "right" if all(map(torch.equal, got, wanted)) else "wrong"


def main() -> None:
    for kind in KINDS:
        for form in ("dense", "packed")[: 1 if kind.endswith("Cell") else 2]:
            for name in EXCHANGES:
                print(json.dumps([kind, form, name, outcome(kind, form, name)]), flush=True)


if __name__ == "__main__":
    main()
