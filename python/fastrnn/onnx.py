"""Export of models with these layers to ONNX, as ONNX's own LSTM, GRU and RNN, and as Scan.

torch's exporter takes a table of translations for operators that it does not know::

    torch.onnx.export(
        model,
        (x,),
        "model.onnx",
        dynamo=True,
        custom_translation_table=fastrnn.onnx.translations(),
    )

Each layer of a stack becomes one node; of a `fastrnn.Recurrent` each direction of a layer becomes a
Scan, whose body is the cell's step. Weights keep torch's names and layout in the file; nodes next
to them bring them into ONNX's, which a runtime does once, when it loads the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ._autograd import operators  # noqa: F401  (defines torch.ops.fastrnn)
from ._call.arguments import taken_apart
from ._interop.onnx_layers import OfOperators
from ._interop.onnx_layout import (
    biases_from_onnx,
    biases_to_onnx,
    gates_from_onnx,
    gates_to_onnx,
)
from ._interop.onnx_scans import OfProgram

__all__ = [
    "biases_from_onnx",
    "biases_to_onnx",
    "gates_from_onnx",
    "gates_to_onnx",
    "translations",
]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What to give to ``torch.onnx.export`` as its ``custom_translation_table``.

    Layers and cells are exported with every option but ``proj_size``, with or without initial
    states, and with ``lengths`` if that is a Tensor. Batch and time may be dynamic. A
    `fastrnn.Recurrent` is exported with ``resets`` and the states of every step, too, and a
    `fastrnn.RecurrentCell` as the nodes of its step.

    Returns
    -------
    dict
        From an operator of ``torch.ops.fastrnn`` to a function that builds its nodes.

    Raises
    ------
    ImportError
        onnxscript is not installed, which torch's exporter needs, too.
    NotImplementedError
        The model uses what ONNX's operators do not have: a PackedSequence, dropout that is at work,
        or, of a layer that is no `fastrnn.Recurrent`, ``proj_size``, ``resets`` or an LSTM's
        ``return_states``. torch's exporter raises it as the cause of an error of its own.
    """
    from onnxscript import opset18

    def recurrence(*arguments: Any) -> Sequence[Any]:
        layout, _ = taken_apart(arguments)
        export = OfOperators if layout.spec.program is None else OfProgram
        return export(opset18, arguments).outputs()

    return {torch.ops.fastrnn.recurrence.default: recurrence}
