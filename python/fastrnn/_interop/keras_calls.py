"""One call of a recurrent layer of Keras 3 on its torch backend, computed by the engine.

What comes out is what Keras's loop over the steps gives: at a step that the mask leaves out the
states stay, and the output is the one before, or zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._call.regularised import Regularised
from .._call.spec import PLAIN, Variant
from .._call.weights import Weights
from .._layers import masks
from .._layers.masked_stack import Call, Direction, run_stack
from .._layers.plan import spec_of_cell
from .._layers.run import run_layer
from ..regularised import make_regularised
from ..variants import make_variant, take_nonlinearity
from .keras_activations import activation_from_keras, package_of
from .keras_dropout import dropout_from_keras
from .keras_weights import KINDS, in_our_order, weights_from_keras

__all__ = ["Unserved", "compute"]

_STEPS = (
    *("call", "__call__", "get_dropout_mask", "get_recurrent_dropout_mask"),
    *("_compute_carry_and_output", "_compute_carry_and_output_fused"),
)
"""The methods of a cell that make up a step."""

Results = tuple[Tensor, Tensor, list[Any]]
"""Of a layer's ``inner_loop``: the last output [B, H], all outputs [B, T, H], or [B, 1, H] where
only the last is wanted, and the states [B, H] at the end, nested as the initial ones."""


class Unserved(Exception):
    """A call that is left to Keras, and why, as the end of a sentence."""


def compute(
    layer: Any, sequences: Any, initial_state: Any, mask: Any, training: Any
) -> Results | None:
    """What ``layer.inner_loop`` returns; None where there is nothing to gain.

    That is a call whose shapes Keras refuses, one without features, and an export of Keras's to
    ONNX, which has nothing but the operations of the loop.

    Raises
    ------
    Unserved
        The layer does something that layers here do not.
    """
    if torch.onnx.is_in_onnx_export():
        return None
    if getattr(layer, "use_cudnn", None) is True:
        raise Unserved("use_cudnn=True asks for cuDNN")
    stacked = _is_stack(layer.cell)
    cells = layer.cell.cells if stacked else [layer.cell]
    described = [_described(cell, layer.go_backwards) for cell in cells]
    if not isinstance(sequences, Tensor) or sequences.dim() != 3 or not sequences.shape[2]:
        return None
    mask = mask[0] if isinstance(mask, (list, tuple)) else mask
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != sequences.shape[:2]):
        raise Unserved(f"its mask is not one of shape {tuple(sequences.shape[:2])}")
    if not (sequences.is_cpu or sequences.is_meta):
        raise Unserved(f"its tensors are on {sequences.device}")
    backwards, zero = layer.go_backwards, layer.zero_output_for_mask
    steps = None if mask is None or sequences.is_meta else _steps_of(mask, backwards)
    lengths = None if steps is None else steps.lengths
    y = sequences if steps is None else steps.gathered(sequences)
    finals: list[Any] = []
    each_states = initial_state if stacked else [initial_state]
    for cell, own, states in zip(cells, described, each_states, strict=True):
        given = states if isinstance(states, (list, tuple)) else [states]
        if layer.stateful:  # which writes over its states before backward reads them
            given = [state.clone() for state in given]
        y, final = _run(cell, own, y, given, lengths, training)
        finals.append(final)
    finals = finals if stacked else finals[0]
    if not layer.return_sequences:
        last = final[0] if steps is None else steps.last(final[0], zero)
        return last, last.unsqueeze(1), finals
    outputs = y if steps is None else steps.scattered(y, zero)
    outputs = outputs.flip(1) if backwards else outputs
    return outputs[:, -1], outputs, finals


class _Own(NamedTuple):
    """What a cell of Keras's is here."""

    kind: str
    cell: str
    variant: Variant | None
    dropout: Regularised | None


def _run(
    cell: Any,
    own: _Own,
    input: Tensor,
    states: Sequence[Tensor],
    lengths: Tensor | None,
    training: Any,
) -> tuple[Tensor, list[Tensor]]:
    """The outputs [B, T, H] of a cell and its states [B, H] at the end."""
    weights = _weights(own.kind, cell)
    data = input.to(weights[0].dtype)
    h, *others = (state.to(data.dtype).unsqueeze(0) for state in states)
    hx = (h, *others) if others else h
    sizes, bias = (data.shape[-1], h.shape[-1]), cell.bias is not None
    if training and own.dropout is not None:
        of_layer = _masks(own.kind, cell, data, h)
        call = Call(
            spec_of_cell(own.cell, *sizes, bias, own.variant or PLAIN),
            own.dropout,
            training=True,
            batch_first=True,
            lengths=lengths,
        )
        y, final = run_stack(call, data, hx, [Direction(Weights(*weights))], [of_layer])
    else:
        options = (own.cell, *sizes, 0, 1, bias, False, 0.0, own.variant)
        y, final = run_layer(options, data, hx, weights, True, lengths)
    return y, [state.squeeze(0) for state in (final if others else [final])]


# ---- what a cell computes ----


def _is_stack(cell: Any) -> bool:
    return type(cell).__name__ == "StackedRNNCells" and type(cell).__module__.startswith("keras.")


def _described(cell: Any, backwards: bool) -> _Own:
    """What it is here; `Unserved` if it is nothing."""
    kind, own = _kind_and_class(cell)
    for name in _STEPS:
        if name in vars(cell) or getattr(type(cell), name, None) is not getattr(own, name, None):
            raise Unserved(f"its cell, a {type(cell).__name__}, has a {name} of its own")
    if cell._forward_hooks or cell._forward_pre_hooks:
        raise Unserved("its cell has hooks, which see every step")
    if cell.activity_regularizer is not None:
        raise Unserved("its cell has an activity_regularizer, which sees every step")
    try:
        return _with_options(kind, cell, backwards)
    except ValueError as error:
        raise Unserved(str(error)) from None


def _with_options(kind: str, cell: Any, backwards: bool) -> _Own:
    names = ("activation",) if kind == "RNN" else ("activation", "recurrent_activation")
    options: dict[str, Any] = {
        name: activation_from_keras(getattr(cell, name), name, package_of(cell)) for name in names
    }
    options["reverse"] = bool(backwards)
    if kind == "GRU":
        options["reset_after"] = bool(cell.reset_after)
    name = kind.lower()
    if kind == "RNN":
        name = f"rnn_{take_nonlinearity(options) or 'tanh'}"
    dropout = make_regularised(kind, dropout_from_keras(kind, cell))
    return _Own(kind, name, make_variant(kind, options), dropout)


def _kind_and_class(cell: Any) -> tuple[str, type]:
    """Our kind of layer for a cell of Keras's, and Keras's class that it is an instance of."""
    for own in type(cell).__mro__:
        kind = KINDS.get(own.__name__.removesuffix("Cell"))
        if kind is not None and own.__module__.startswith("keras."):
            return kind, own
    raise Unserved(f"its cell is a {type(cell).__name__}")


def _weights(kind: str, cell: Any) -> list[Tensor]:
    """Those of Keras's variables as they are now, in the dtype that the cell computes in."""
    from keras import ops

    def value(variable: Any) -> Tensor:
        tensor: Tensor = ops.convert_to_tensor(variable, dtype=cell.compute_dtype)
        return tensor

    bias = None if cell.bias is None else value(cell.bias)
    return weights_from_keras(kind, value(cell.kernel), value(cell.recurrent_kernel), bias)


# ---- dropout ----


def _masks(kind: str, cell: Any, data: Tensor, h: Tensor) -> masks.OfLayer:
    """Keras's own, the same at every step.

    Keras may have drawn them before the call, in the dtypes of the sequences and states that a
    layer has around its cells.
    """
    of_input = _of_gates(kind, cell.get_dropout_mask(data[:, 0]), data.dtype)
    recurrent = _of_gates(kind, cell.get_recurrent_dropout_mask(h.squeeze(0)), data.dtype)
    return masks.OfLayer(of_input, [masks.OfDirection(recurrent=recurrent)])


def _of_gates(kind: str, found: Any, dtype: torch.dtype) -> list[Tensor]:
    """The masks of a dropout: none, one for all gates, or one for each."""
    if found is None:
        return []
    own = [found] if isinstance(found, Tensor) else in_our_order(kind, found)
    return [mask.to(dtype) for mask in own]


# ---- steps that a mask leaves out ----


class _Steps(NamedTuple):
    """The steps of a masked batch, those that count moved to the front of each row."""

    mask: Tensor
    """[B, T] bool, of the steps that count."""
    lengths: Tensor
    """[B] int64, how many those are."""
    order: Tensor | None
    """[B, T] int64, which step stands at each place; None where all stand where they stood."""
    place: Tensor
    """[B, T] int64, the place of the output that a step has; -1 where there is none yet."""
    last_counts: Tensor
    """[B] bool, whether the last step that Keras takes counts."""

    def gathered(self, data: Tensor) -> Tensor:
        """[B, T, I] with the steps that count in front."""
        if self.order is None:
            return data
        return data.gather(1, self.order.unsqueeze(-1).expand_as(data))

    def scattered(self, y: Tensor, zero: bool) -> Tensor:
        """[B, T, H], the output that every step has, of those of the places."""
        has = self.mask if zero else self.place >= 0
        index = self.place.clamp(min=0).unsqueeze(-1).expand_as(y)
        return y.gather(1, index).where(has.unsqueeze(-1), 0.0)

    def last(self, h_n: Tensor, zero: bool) -> Tensor:
        """[B, H], the output of the last step that Keras takes, of the states at the end."""
        has = self.last_counts if zero else self.lengths > 0
        return h_n.where(has.unsqueeze(-1), 0.0)


def _steps_of(mask: Tensor, backwards: bool) -> _Steps | None:
    """The steps of a batch with this mask; None if all of them count."""
    mask = mask.bool()
    traced = torch.compiler.is_compiling()  # where values are not known
    if not traced and bool(mask.all()):
        return None
    counts = mask.long().cumsum(1)
    lengths = counts[:, -1]
    in_front = torch.arange(mask.shape[1], device=mask.device) < lengths.unsqueeze(1)
    order = None
    if traced or not torch.equal(mask, in_front):
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    if not backwards:
        return _Steps(mask, lengths, order, counts - 1, mask[:, -1])
    # A step has the output of the first one from it on, which comes before it in this direction; if
    # there is none, that of a place past the last one, which is zero.
    return _Steps(mask, lengths, order, counts - mask.long(), mask[:, 0])
