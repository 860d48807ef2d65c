"""What one set of options asks of a call, made once for each set and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _core
from .._autograd.direct import make_direct
from .._autograd.direct_on_gpu import DirectOnGpu
from .._call.checks import check_sizes
from .._call.precision import REDUCED
from .._call.regularised import Regularised, options_of
from .._call.spec import PLAIN, Spec, Variant
from .._call.weights import Expected, expected_of_cell, expected_of_layer
from ..variants import check_directions

__all__ = [
    "DTYPES",
    "Asked",
    "Options",
    "Plan",
    "cell_plan",
    "check_dtype",
    "layer_plan",
    "regularised_cell",
    "regularised_layer",
    "spec_of",
    "spec_of_cell",
    "what_asks",
]

DTYPES = (torch.float32, torch.float64, *REDUCED)
"""What there are kernels for."""

Options = tuple[str, int, int, int, int, bool, bool, float, Variant | None]
"""The arguments of `layer_plan`."""


class Plan(NamedTuple):
    """What a call is held to, and its short ways.

    On the CPU those of `Spec.products` in each format; ``call`` is that of most calls.
    """

    expected: Expected
    direct: _core.Direct | None
    in_bfloat16: _core.Direct | None = None
    on_gpu: DirectOnGpu | None = None
    call: Callable[..., Any] | None = None


@lru_cache(maxsize=1024)
def layer_plan(
    cell: str,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    dropout: float,
    variant: Variant | None = None,
) -> Plan:
    """The plan of a stack of layers.

    Raises
    ------
    ValueError
        A size is out of range, or both directions are to be reversed.
    RuntimeError
        ``dropout`` is no probability.
    """
    check_sizes(input_size, hidden_size, proj_size, num_layers, dropout)
    check_directions(variant, bidirectional)
    spec = Spec(
        cell=cell,
        input_size=input_size,
        hidden_size=hidden_size,
        proj_size=proj_size,
        num_layers=num_layers,
        bidirectional=bool(bidirectional),
        bias=bool(bias),
        dropout=float(dropout),
        variant=variant or PLAIN,
    )
    expected = expected_of_layer(spec)
    if torch.compiler.is_dynamo_compiling():  # which takes none of the short ways
        return Plan(expected, None)
    direct = make_direct(spec)
    in_bfloat16 = make_direct(replace(spec, products="bfloat16"))
    if direct is None or in_bfloat16 is None:
        return Plan(expected, None)
    on_gpu = None if spec.dropout and num_layers > 1 else DirectOnGpu(spec)
    return Plan(expected, direct, in_bfloat16, on_gpu, direct.call)


@lru_cache(maxsize=256)
def cell_plan(
    cell: str, input_size: int, hidden_size: int, bias: bool, variant: Variant | None = None
) -> Plan:
    """The plan of a single step, of any number of features and units, as of torch's cells."""
    spec = spec_of_cell(cell, input_size, hidden_size, bias, variant or PLAIN)
    direct = make_direct(spec, one_step=True) if input_size and hidden_size else None
    if direct is None:
        return Plan(expected_of_cell(spec), None)
    # The products of a single step are those of float32.
    on_gpu = DirectOnGpu(spec, one_step=True)
    return Plan(expected_of_cell(spec), direct, direct, on_gpu, direct.call)


def spec_of_cell(
    cell: str, input_size: int, hidden_size: int, bias: bool, variant: Variant
) -> Spec:
    """What a single step computes."""
    return Spec(
        cell=cell,
        input_size=input_size,
        hidden_size=hidden_size,
        proj_size=0,
        num_layers=1,
        bidirectional=False,
        bias=bias,
        dropout=0.0,
        variant=variant,
    )


def spec_of(layer: Any) -> Spec:
    """What a layer of this package or of torch's computes when it does not train."""
    return Spec(
        cell=layer.mode.lower(),
        input_size=layer.input_size,
        hidden_size=layer.hidden_size,
        proj_size=layer.proj_size,
        num_layers=layer.num_layers,
        bidirectional=layer.bidirectional,
        bias=layer.bias,
        dropout=0.0,
        variant=getattr(layer, "_fastrnn_variant", None) or PLAIN,
    )


Asked = tuple[str, int, int, int, int, bool, bool, float, str]
"""What says all that a layer with the options of `fastrnn.regularised` computes."""


def what_asks(layer: Any) -> Asked:
    return (
        layer.mode.lower(),
        layer.input_size,
        layer.hidden_size,
        layer.proj_size,
        layer.num_layers,
        layer.bidirectional,
        layer.bias,
        layer.dropout if layer.training else 0.0,
        layer._fastrnn_options,
    )


@lru_cache(maxsize=256)
def regularised_layer(asked: Asked) -> tuple[Spec, Regularised]:
    """What a layer with options computes without them, and those."""
    cell, features, units, projected, layers, both, bias, dropout, text = asked
    variant, options = options_of(text)
    return Spec(cell, features, units, projected, layers, both, bias, dropout, variant), options


@lru_cache(maxsize=256)
def regularised_cell(
    cell: str, input_size: int, hidden_size: int, bias: bool, text: str
) -> tuple[Spec, Regularised]:
    """The same of a cell; ``text`` as `options_of` reads it."""
    variant, options = options_of(text)
    return spec_of_cell(cell, input_size, hidden_size, bias, variant), options


def check_dtype(data: Tensor) -> None:
    """NotImplementedError where nobody here computes this dtype."""
    if data.dtype not in DTYPES:
        raise NotImplementedError(
            f"input: expected one of {', '.join(map(str, DTYPES))}, got {data.dtype}"
        )
