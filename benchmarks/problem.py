"""A workload made concrete: the module, one set of weights and one batch, the same for everyone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn
from benchmarks.device import Device
from benchmarks.workloads import SEED, Workload

_CLASS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True)
class Problem:
    """A workload with its numbers.

    Attributes
    ----------
    workload : what is to be computed.
    weights : torch's ``state_dict`` of the layer, in the workload's dtype.
    x : the input, (T, B, I), or (B, T, I) with ``batch_first``, or (B, I) for a single step;
        padded where the workload has lengths.
    resets : bool (T, B), where the state is cleared before the step; None without episodes.
    device : where the problem is to be solved, and where all of these tensors are.
    inputs : what a program is given for every step beside the input, by name, (T, B, H).
    """

    workload: Workload
    weights: dict[str, torch.Tensor]
    x: torch.Tensor
    resets: torch.Tensor | None = None
    device: Device = "cpu"
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def double(self) -> Problem:
        """Return the same numbers in float64, the precision of the reference."""
        return Problem(
            replace(self.workload, dtype="float64"),
            {name: weight.double() for name, weight in self.weights.items()},
            self.x.double(),
            self.resets,
            self.device,
            {name: values.double() for name, values in self.inputs.items()},
        )

    def on(self, device: Device) -> Problem:
        """Return the same problem on a device."""
        return Problem(
            self.workload,
            {name: weight.to(device) for name, weight in self.weights.items()},
            self.x.to(device),
            None if self.resets is None else self.resets.to(device),
            device,
            {name: values.to(device) for name, values in self.inputs.items()},
        )

    def batch(self) -> torch.Tensor | PackedSequence:
        """Return a fresh copy of the input, packed where the workload says so."""
        if self.workload.lengths is None or self.workload.padded:
            return self.x.clone()
        return self.pack(self.x)

    def lengths(self) -> torch.Tensor:
        """Return the lengths where the input is."""
        return torch.tensor(self.workload.lengths, device=self.device)

    def pack(self, padded: torch.Tensor) -> PackedSequence:
        """Pack a batch by the workload's lengths."""
        return pack_padded_sequence(
            padded,
            torch.tensor(self.workload.lengths),
            batch_first=self.workload.batch_first,
            enforce_sorted=False,
        )

    def unpack(self, packed: PackedSequence) -> torch.Tensor:
        """Return the padded batch, zero past each sequence's end."""
        workload = self.workload
        padded, _ = pad_packed_sequence(packed, workload.batch_first, total_length=workload.T)
        return padded

    def real_rows(self, padded: torch.Tensor) -> torch.Tensor:
        """Return what torch has of a batch of this shape: packed, or zero past the ends."""
        if self.workload.lengths is None:
            return padded
        packed = self.pack(padded)
        return self.unpack(packed) if self.workload.padded else packed.data


def make_problem(workload: Workload) -> Problem:
    """Draw the weights (torch's own initialisation) and a standard normal input.

    Those of a program, too, whatever its cell begins with: a product with zeros would be right
    whatever it is taken of, and norms with gains of one amplify rounding from step to step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        weights = build_module(_home(workload), workload).state_dict()
        x = torch.randn(_input_shape(workload), dtype=getattr(torch, workload.dtype))
        resets = None
        if workload.episode:
            resets = torch.rand(workload.T, workload.B) < 1 / workload.episode
        inputs = {}
        if workload.program:
            bound = 1 / math.sqrt(workload.H)
            for weight in weights.values():
                weight.uniform_(-bound, bound)
            shape = (workload.T, workload.B, workload.H)
            names = getattr(fastrnn.cells, workload.program).inputs.split()
            inputs = {name: torch.randn(shape, dtype=x.dtype) for name in names}
    return Problem(workload, weights, x, resets, inputs=inputs)


def _home(workload: Workload) -> ModuleType:
    """Whose layers have all of the workload's options."""
    return fastrnn if workload.variant or workload.program else torch.nn


def build_module(namespace: ModuleType, workload: Workload) -> torch.nn.Module:
    """Construct the workload's layer from a namespace with torch.nn's class names.

    That of a program is fastrnn's, which alone has `Recurrent`.
    """
    sizes, dtype = (workload.I, workload.H), getattr(torch, workload.dtype)
    options = _layer_options(workload)
    if workload.program:
        cell = getattr(fastrnn.cells, workload.program)
        return fastrnn.Recurrent(cell, *sizes, dtype=dtype, **options)
    name = _CLASS[workload.cell] + ("Cell" if workload.single_step else "")
    module: torch.nn.Module = getattr(namespace, name)(*sizes, dtype=dtype, **options)
    return module


def parameter_suffixes(workload: Workload, layer: int) -> list[str]:
    """Return how the names of a layer's parameters end, one for each direction."""
    if workload.single_step:
        return [""]
    return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + workload.bidirectional]


def _layer_options(workload: Workload) -> dict[str, Any]:
    if workload.single_step:
        return {}
    options: dict[str, Any] = {
        "num_layers": workload.layers,
        "bidirectional": workload.bidirectional,
        "batch_first": workload.batch_first,
    }
    options |= dict(workload.variant)
    # torch's GRU and RNN refuse the very name of the option.
    return options | ({"proj_size": workload.proj_size} if workload.proj_size else {})


def _input_shape(workload: Workload) -> tuple[int, ...]:
    if workload.single_step:
        return (workload.B, workload.I)
    if workload.batch_first:
        return (workload.B, workload.T, workload.I)
    return (workload.T, workload.B, workload.I)
