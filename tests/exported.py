"""Models that torch's exporter has put into ONNX, run by ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnxruntime
import torch
from cases import assert_near, flat
from torch import Tensor
from torch.utils._pytree import tree_leaves

import fastrnn

T, B = 5, 3
TERMS, IN_A_ROW = 2 * 4 + 4, 2 * 9
"""At most: a layer's sums over both directions below and its own state; two layers of 9 steps."""


class Exported:
    """A model in ONNX Runtime.

    Without ``optimize`` its nodes stay as they were made, which costs a third.
    """

    def __init__(
        self, model: Any, *args: Any, sizes: Any = None, optimize: bool = True, **keywords: Any
    ) -> None:
        self.program = torch.onnx.export(
            model,
            args,
            kwargs=keywords,
            dynamo=True,
            verbose=False,
            dynamic_shapes=sizes,
            optimize=optimize,
            custom_translation_table=fastrnn.onnx.translations(),
        )
        content = self.program.model_proto.SerializeToString()
        self.runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    @property
    def nodes(self) -> Counter[str]:
        return Counter(node.op_type for node in self.program.model.graph)

    def __call__(self, *args: Any, **keywords: Any) -> list[Tensor]:
        given = [leaf for leaf in tree_leaves((args, keywords)) if isinstance(leaf, Tensor)]
        names = [put.name for put in self.runtime.get_inputs()]
        feeds = {name: t.numpy() for name, t in zip(names, given, strict=True)}
        return [torch.from_numpy(output) for output in self.runtime.run(None, feeds)]


def assert_agrees(exported: Exported, model: Any, *args: Any, **keywords: Any) -> None:
    with torch.no_grad():
        expected = flat(model(*args, **keywords))
    for got, want in zip(exported(*args, **keywords), expected, strict=True):
        assert_near(got, want, TERMS, IN_A_ROW)


class Together(torch.nn.Module):
    """Layers side by side, each with a call of its own: exporting one model costs a second."""

    def __init__(self, layers: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers).eval()

    def forward(self, calls: list[dict[str, Any]]) -> list[Any]:
        return [layer(**call) for layer, call in zip(self.layers, calls, strict=True)]
