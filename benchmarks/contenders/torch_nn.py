"""torch.nn, and whatever has its class names: the contender, and in float64 the reference."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from benchmarks.contenders.base import OUTPUTS, Array, Entry, Results
from benchmarks.contenders.cell_loop import loop_of
from benchmarks.contenders.masked_loop import MaskedLoop
from benchmarks.device import DEVICES, Device
from benchmarks.problem import Problem, build_module
from benchmarks.workloads import Phase, Workload
from fastrnn import reference
from fastrnn._call.spec import Spec


@dataclass(frozen=True)
class TorchLayers:
    """A contender whose layers are called as torch.nn's are.

    Attributes
    ----------
    name : key in tables and JSON.
    namespace : module that holds ``LSTM``, ``GRU``, ``RNN`` and their cells; imported when needed.
    devices : where it computes.
    """

    name: str
    namespace: str
    devices: tuple[Device, ...] = DEVICES

    def missing(self) -> str | None:
        try:
            importlib.import_module(self.namespace)
        except ImportError as error:
            return str(error)
        return None

    def supports(self, workload: Workload, phase: Phase) -> bool:
        return True

    def prepare(self, problem: Problem, phase: Phase) -> Entry:
        module = self.build(problem.workload).to(problem.device)
        module.load_state_dict(problem.weights)
        batch = problem.batch()
        # Of one's own: a training step asks for their gradients.
        inputs = {name: values.clone() for name, values in problem.inputs.items()}
        problem = replace(problem, inputs=inputs)
        apply = self.application(module, problem)
        if phase == "inference":
            module.eval().requires_grad_(False)
            return Entry(lambda: apply(batch), outputs)
        return _training_entry(module, apply, batch, inputs)

    def build(self, workload: Workload) -> torch.nn.Module:
        """The workload's layer; where torch.nn has none, one that holds the weights."""
        if not workload.is_in_torch:
            return build_module(fastrnn, workload)
        built_in = replace(workload, program="")
        return build_module(importlib.import_module(self.namespace), built_in)

    def application(self, module: torch.nn.Module, problem: Problem) -> Callable[[Any], Any]:
        """How a user of this library runs the module on a batch."""
        if isinstance(module, fastrnn.Recurrent):
            return loop_of(module, problem.inputs)
        if getattr(module, "regularised", None) is not None:
            return MaskedLoop(module)
        if problem.workload.variant:
            return _ByEquations(module, problem.workload)
        if problem.workload.padded:
            return lambda x: _pack_run_unpack(module, problem, x)
        if problem.resets is not None:
            return _StepByStep(module, problem.resets)
        return module


def _pack_run_unpack(module: torch.nn.Module, problem: Problem, x: torch.Tensor) -> Any:
    packed, state = module(problem.pack(x))
    return problem.unpack(packed), state


class _StepByStep:
    """The loop that reinforcement-learning libraries run to clear states in mid-sequence."""

    def __init__(self, module: Any, resets: torch.Tensor) -> None:
        self.module = module
        dtype = module.weight_hh_l0.dtype
        self.keeps = (~resets).to(dtype).view(len(resets), 1, -1, 1)
        shape = (module.num_layers, resets.shape[1], module.hidden_size)
        self.start = torch.zeros(shape, dtype=dtype, device=resets.device)

    def __call__(self, x: torch.Tensor) -> Any:
        pair = isinstance(self.module, torch.nn.LSTM)
        state: Any = (self.start, self.start) if pair else self.start
        outputs = []
        for x_t, keep in zip(x, self.keeps, strict=True):
            state = (keep * state[0], keep * state[1]) if pair else keep * state
            output, state = self.module(x_t.unsqueeze(0), state)
            outputs.append(output)
        return torch.cat(outputs), state


class _ByEquations:
    """The loop of plain torch operations that a cell takes which torch.nn has not."""

    def __init__(self, module: Any, workload: Workload) -> None:
        self.module = module
        self.spec = Spec(
            cell=workload.cell,
            input_size=workload.I,
            hidden_size=workload.H,
            proj_size=workload.proj_size,
            num_layers=workload.layers,
            bidirectional=workload.bidirectional,
            bias=True,
            dropout=0.0,
            variant=module.variant,
        )

    def __call__(self, x: torch.Tensor) -> Any:
        y, h_n, c_n, *_ = reference.rnn(self.spec, x, None, None, self.module._flat_weights)
        return y, h_n if c_n is None else (h_n, c_n)


def _training_entry(
    module: torch.nn.Module,
    apply: Callable[[Any], Any],
    batch: torch.Tensor | PackedSequence,
    inputs: dict[str, torch.Tensor],
) -> Entry:
    named = {"x": _data(batch), **inputs, **dict(module.named_parameters())}
    leaves = [leaf.requires_grad_() for leaf in named.values()]

    def call() -> Any:
        for leaf in leaves:
            leaf.grad = None
        returned = apply(batch)
        output = returned[0] if isinstance(returned, tuple) else returned
        _data(output).sum().backward()  # type: ignore[no-untyped-call]
        return returned

    def results(returned: Any) -> Results:
        gradients = {f"{name}.grad": array(leaf.grad) for name, leaf in named.items()}
        return outputs(returned) | gradients

    return Entry(call, results)


def _data(batch: torch.Tensor | PackedSequence) -> torch.Tensor:
    # A PackedSequence is a named tuple, and Tensor.data would drop the history.
    return batch.data if isinstance(batch, PackedSequence) else batch


def outputs(returned: Any) -> Results:
    """Name the tensors of a layer's (y, (h, c)) or (y, h), or of a cell's (h, c) or h."""
    output, state = returned if isinstance(returned, tuple) else (returned, ())
    states = state if isinstance(state, tuple) else (state,)
    tensors = (_data(output), *states)
    return {name: array(tensor) for name, tensor in zip(OUTPUTS, tensors, strict=False)}


def array(tensor: torch.Tensor | None) -> Array:
    if tensor is None:
        raise ValueError("a gradient is missing after backward()")
    values: Array = tensor.detach().double().cpu().numpy()
    return values


CONTENDER = TorchLayers("torch", "torch.nn")
