"""Calls of layers whose weights were packed once: the short way, and the checked one.

They have no gradients, and nobody sees them as one operation of torch's: whoever asks for either
gets an error that says what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import _core, _torch
from .._autograd.direct import make_direct
from .._autograd.operators import is_watched
from .._call import precision, ragged_checks
from .._call.arguments import Arguments
from .._call.batch import Batch
from .._call.spec import Outputs, Spec
from .._call.weights import Expected
from .._engine import backend
from .._engine.addresses import is_plain
from .._engine.packed import PackedLayers, pack
from . import run, short_way
from .plan import Plan

__all__ = ["FrozenPlan", "outside_graphs"]

outside_graphs: Any = torch.compiler.disable
"""Makes a function one that compilers do not look into."""

_HOW = "fastrnn.thaw(model) has layers for that"


class FrozenPlan:
    """What one set of options asks of the calls of a frozen layer, or of a cell with ``one_step``.

    ``weights`` gives the weights in float32, whenever another instruction set becomes active.
    """

    def __init__(
        self,
        expected: Expected,
        number_format: str,
        weights: Callable[[], Sequence[Tensor]],
        *,
        one_step: bool = False,
    ) -> None:
        self._expected, self._one_step = expected, one_step
        self._number_format, self._weights = number_format, weights
        self._of_isa: dict[str, tuple[PackedLayers, Plan]] = {}
        self._plan = Plan(expected, None)

    def run_layer(
        self,
        input: Any,
        hx: Any,
        batch_first: bool,
        lengths: Any = None,
        resets: Any = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """As `fastrnn._layers.run.run_layer` without weights."""
        if torch.compiler.is_dynamo_compiling():
            extras = batch_first, lengths, resets, return_states
            apart: tuple[Any, ...] = outside_graphs(self.run_layer)(input, hx, *extras)
            return apart
        if not return_states:
            done: tuple[Any, ...] | None = short_way.layer_directly(
                self._plan, input, hx, (), batch_first, lengths, resets
            )
            if done is not None:
                return done
        extras = batch_first, lengths, resets, return_states
        done = self._in_full_precision(self._run_checked, input, hx, *extras)
        assert done is not None
        return done

    def run_step(self, input: Any, hx: Any) -> Any:
        """As `fastrnn._layers.run.run_cell` without weights."""
        if torch.compiler.is_dynamo_compiling():
            return outside_graphs(self.run_step)(input, hx)
        done = self.run_step_directly(input, hx)
        if done is not None:
            return done
        return self._in_full_precision(self._run_step_checked, input, hx)

    def run_step_directly(self, input: Any, hx: Any) -> Any:
        """The same by the short way; None if this call is none for it."""
        return short_way.cell_directly(self._plan, input, hx, ())

    def _in_full_precision(self, compute: Any, input: Any, hx: Any, *extras: Any) -> Any:
        """bfloat16 and float16 are computed in float32 and rounded once, whatever the weights."""
        _refuse(input, hx)
        data = input.data if isinstance(input, PackedSequence) else input
        reduced = isinstance(data, Tensor) and data.dtype in precision.REDUCED
        if not reduced or _torch.is_any_autocast_enabled():
            return compute(input, hx, *extras)
        returned = compute(precision.raised(input), precision.raised(hx), *extras)
        return precision.lowered(returned, data.dtype)

    def _run_checked(
        self,
        input: Any,
        hx: Any,
        batch_first: bool,
        lengths: Any,
        resets: Any,
        return_states: bool,
    ) -> tuple[Any, ...]:
        expected = self._expected
        dtypes, tensors = run._under_autocast(expected.spec, (input, hx, _stand_ins(expected)))
        if not isinstance(input, PackedSequence):
            return run._run_padded(
                expected, tensors, batch_first, lengths, resets, return_states, dtypes, self._run
            )
        ragged_checks.check_absent("lengths", lengths)
        ragged_checks.check_absent("resets", resets)
        return run._run_packed(expected, tensors, return_states, dtypes, self._run)

    def _run_step_checked(self, input: Any, hx: Any) -> Any:
        expected = self._expected
        tensors = input, hx, _stand_ins(expected)
        dtypes, tensors = run._under_autocast(expected.spec, tensors, one_step=True)
        return run._run_step(expected, tensors, dtypes, self._run)

    def _run(
        self,
        spec: Spec,
        arguments: Arguments,
        *,
        batch_first: bool = False,
        states: bool = False,
    ) -> Outputs:
        """As `fastrnn._autograd.eager.run`; what stands for the weights is not read."""
        arguments = arguments._replace(weights=())
        batch = Batch.of(spec, arguments, batch_first=batch_first, states=states)
        if not all(is_plain(tensor) for tensor in arguments.inputs() if tensor is not None):
            raise RuntimeError(f"a frozen layer computes with plain tensors alone: {_HOW}")
        outputs, _ = backend.forward(self._layers(), batch, arguments)
        return outputs._replace(h_n=outputs.y) if batch.single_step else outputs

    def _layers(self) -> PackedLayers:
        """Those for the instruction set that is active; from here on its short way is taken."""
        isa, spec = _core.isa_active(), self._expected.spec
        if isa not in self._of_isa:
            packed = pack(spec, self._number_format, self._weights())
            direct = make_direct(spec, self._one_step, packed)
            plan = Plan(self._expected, direct, call=None if direct is None else direct.call)
            self._of_isa[isa] = PackedLayers(packed), plan
        layers, self._plan = self._of_isa[isa]
        return layers


def _refuse(input: Any, hx: Any) -> None:
    if is_watched():
        raise RuntimeError(
            f"a frozen layer cannot be traced, exported or transformed by torch.func: {_HOW}"
        )
    states = hx if isinstance(hx, (tuple, list)) else (hx,)
    data = input.data if isinstance(input, PackedSequence) else input
    given = [tensor for tensor in (data, *states) if isinstance(tensor, Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        raise RuntimeError(
            "a frozen layer has no gradients, and an argument requires them: call the model within "
            f"torch.no_grad() or torch.inference_mode(), or, to train it, {_HOW}"
        )


@lru_cache(maxsize=1024)
def _stand_ins(expected: Expected) -> tuple[Tensor, ...]:
    """Tensors of the weights' shapes, each of one number, for checks that look at no more."""
    zero = torch.zeros((), dtype=torch.float32, device="cpu")  # whatever the defaults are
    return tuple(zero.expand(shape) for shape in expected.shapes)
