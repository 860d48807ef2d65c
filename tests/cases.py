"""Layers, inputs and ways to compare two layers, for every test that holds fastrnn against torch.

A `Case` is one point of the option space together with one shape of input; `cases` draws from all
of it. Torch's layer in float64 is the judge of values, torch's layer in the same dtype that of
behaviour.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import roads
import torch
from finite_differences import assert_gradients
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastrnn

LAYERS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")
OLD_TORCH = torch.__version__.startswith("2.6.")
"""The oldest version that is supported, with defects of its own."""
SAFETY = 3
"""Between the usual error and the largest of very many; none that was measured came to a third."""


GPU = torch.cuda.is_available()


@dataclass(frozen=True)
class Case:
    """One layer and one kind of input."""

    kind: str = "LSTM"
    input_size: int = 3
    hidden_size: int = 4
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    nonlinearity: str = "tanh"
    dtype: torch.dtype = torch.float32
    lengths: tuple[int, ...] = (5, 5)
    form: str = "dense"  # dense, unbatched, packed, unsorted
    memory: str = "contiguous"  # contiguous, transposed, strided, expanded
    with_state: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """Constructor keywords."""
        options = {
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype,
        }
        if self.kind == "LSTM":
            options["proj_size"] = self.proj_size
        if self.kind == "RNN":
            options["nonlinearity"] = self.nonlinearity
        return options

    @property
    def tolerance(self) -> float:
        """`tolerance` of outputs and gradients."""
        directions = 2 if self.bidirectional else 1
        forward = max(self.input_size, directions * self.hidden_size) + self.hidden_size
        backward = 4 * directions * self.hidden_size
        of_weights = sum(self.lengths)
        terms = max(forward, backward, of_weights)
        return tolerance(self.dtype, terms, max(self.lengths) * self.num_layers)

    def build(self, module: Any = fastrnn, **changes: Any) -> Any:
        """The layer, from fastrnn or from ``torch.nn``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dropout with a single layer
            options = {**self.options, **changes}
            return getattr(module, self.kind)(self.input_size, self.hidden_size, **options)

    def pair(self) -> tuple[Any, Any]:
        """fastrnn's layer and torch's, equal weights, nothing shared."""
        fast, plain = self.build(), self.build(torch.nn)
        plain.load_state_dict(fast.state_dict())
        return fast, plain

    def input(self) -> Tensor | PackedSequence:
        """Random input of the case's form and memory layout."""
        if self.form in ("packed", "unsorted"):
            lengths = self.lengths
            if self.form == "packed":
                lengths = tuple(sorted(lengths, reverse=True))
            sequences = [torch.empty(n, self.input_size) for n in lengths]
            packed = pack_sequence(sequences, enforce_sorted=self.form == "packed")
            data = _laid_out(self.memory, tuple(packed.data.shape), self.dtype)
            return PackedSequence(data, *packed[1:])
        steps, batch = self.lengths[0], len(self.lengths)
        if self.form == "unbatched":
            return _laid_out(self.memory, (steps, self.input_size), self.dtype)
        sizes = (batch, steps) if self.batch_first else (steps, batch)
        return _laid_out(self.memory, (*sizes, self.input_size), self.dtype)

    def state(self) -> Any:
        """Random ``hx`` of the case's memory layout, or None if the case has none."""
        if not self.with_state:
            return None
        count = self.num_layers * (2 if self.bidirectional else 1)
        batch = () if self.form == "unbatched" else (len(self.lengths),)
        h = _laid_out(self.memory, (count, *batch, self.proj_size or self.hidden_size), self.dtype)
        if self.kind != "LSTM":
            return h
        return h, _laid_out(self.memory, (count, *batch, self.hidden_size), self.dtype)


def twins(kind: str, **options: Any) -> tuple[Any, Any]:
    """A layer or cell of fastrnn's and torch's of 3 features and 4 units, with equal weights."""
    fast, plain = (getattr(module, kind)(3, 4, **options) for module in (fastrnn, torch.nn))
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def input_of(kind: str) -> Tensor:
    """Random input for `twins`: 5 steps of 2 sequences, or one step for a cell."""
    return torch.randn(*((5,) if kind in LAYERS else ()), 2, 3)


def cell_state(kind: str, *batch: int, dtype: torch.dtype = torch.float32) -> Any:
    """Random ``hx`` for a cell of `twins`."""
    h, c = torch.randn(*batch, 4, dtype=dtype), torch.randn(*batch, 4, dtype=dtype)
    return (h, c) if kind == "LSTMCell" else h


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> Case:
    """Any `Case`; what is given in ``fixed`` is not drawn."""
    kind = fixed.pop("kind", None) or draw(st.sampled_from(LAYERS))
    hidden = draw(st.sampled_from((1, 2, 3, 5, 8, 17)))
    proj = draw(st.integers(0, hidden - 1)) if kind == "LSTM" and draw(st.booleans()) else 0
    form = fixed.pop("form", None) or draw(
        st.sampled_from(("dense", "unbatched", "packed", "unsorted"))
    )
    if form in ("packed", "unsorted"):
        lengths = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=5)))
    else:
        batch = 1 if form == "unbatched" else draw(st.sampled_from((1, 2, 3, 7)))
        lengths = (draw(st.sampled_from((1, 2, 6))),) * batch
    drawn: dict[str, Any] = {
        "input_size": draw(st.sampled_from((1, 2, 3, 9, 16))),
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from((0.0, 0.3))),
        "bidirectional": draw(st.booleans()),
        "nonlinearity": draw(st.sampled_from(("tanh", "relu"))),
        "dtype": draw(st.sampled_from((torch.float32, torch.float64))),
        "memory": draw(st.sampled_from(("contiguous", "transposed", "strided", "expanded"))),
        "with_state": draw(st.booleans()),
    }
    return Case(
        kind, hidden_size=hidden, proj_size=proj, form=form, lengths=lengths, **drawn | fixed
    )


@st.composite
def lengths_of(draw: st.DrawFn, case: Case) -> list[int]:
    """A length for each sequence of a dense case; some may be 0, not all."""
    steps = case.lengths[0]
    lengths = [draw(st.integers(0, steps)) for _ in case.lengths]
    lengths[draw(st.integers(0, len(lengths) - 1))] = draw(st.integers(1, steps))
    return lengths


def _laid_out(memory: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A random tensor of ``shape`` whose elements lie in memory in the way named."""
    if memory == "transposed":
        order = tuple(reversed(range(len(shape))))
        return torch.randn([shape[i] for i in order], dtype=dtype).permute(order)
    if memory == "strided":
        return torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
    if memory == "expanded":
        return torch.randn(*shape[:-2], 1, shape[-1], dtype=dtype).expand(shape)
    return torch.randn(shape, dtype=dtype)


class Called:
    """A layer that is always called with some keywords, to stand where `run` expects a layer."""

    def __init__(self, layer: Any, **keywords: Any) -> None:
        self.layer, self.keywords = layer, keywords
        self.parameters = layer.parameters

    def __call__(self, x: Any, hx: Any = None) -> Any:
        return self.layer(x, hx, **self.keywords)


class OnReference(Called):
    """The same, and every call is computed by the reference."""

    def __call__(self, x: Any, hx: Any = None) -> Any:
        with roads.reference():
            return super().__call__(x, hx)


def flat(*values: Any) -> list[Tensor]:
    """All Tensors in nested outputs or states, the data of packed sequences included."""
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, PackedSequence):
            tensors.append(value.data)
        elif value is not None:
            tensors += flat(*value)
    return tensors


def same_outputs(a: Any, b: Any) -> bool:
    """All Tensors in nested outputs or states are equal, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def like(value: Any, dtype: torch.dtype) -> Any:
    """The values in ``dtype`` as leaves that require gradients; the same memory if it is theirs."""
    if isinstance(value, Tensor):
        return value.detach().to(dtype).requires_grad_()
    if isinstance(value, PackedSequence):
        return PackedSequence(like(value.data, dtype), *value[1:])
    return None if value is None else tuple(like(v, dtype) for v in value)


def seed(number: int) -> None:
    """`torch.manual_seed`, which takes a millisecond where there is no GPU that could be seeded.

    It writes down, for each kind of device, the calls that have led there.
    """
    if GPU:
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


def run(layer: Any, x: Any, hx: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of one call, and the gradients of a fixed weighted sum of them.

    Gradients are those of x, the states and the parameters, in that order.
    """
    seed(1)  # dropout
    outputs = flat(layer(x, hx))
    own = torch.Generator().manual_seed(2)  # not shared with other threads
    factors = [torch.randn(y.shape, generator=own, dtype=torch.float64) for y in outputs]
    loss = sum((y * f.to(y)).sum() for y, f in zip(outputs, factors, strict=True))
    wanted = [t for t in [*flat(x, hx), *layer.parameters()] if t.requires_grad]
    return outputs, list(torch.autograd.grad(loss, wanted))  # type: ignore[arg-type]


def second_derivatives(layer: Any, x: Any, hx: Any) -> list[Tensor]:
    """Gradients of a fixed weighted sum of the gradients that `run` returns.

    They are those of x, the states, the parameters and the factors of `run`, in that order.
    """
    seed(1)  # dropout
    outputs = flat(layer(x, hx))
    own = torch.Generator().manual_seed(2)  # not shared with other threads
    factors = [torch.randn(y.shape, generator=own, dtype=y.dtype) for y in outputs]
    factors = [f.requires_grad_() for f in factors]
    wanted = [t for t in [*flat(x, hx), *layer.parameters()] if t.requires_grad]
    first = torch.autograd.grad(outputs, wanted, factors, create_graph=True)
    weights = [torch.randn(g.shape, generator=own, dtype=g.dtype) for g in first]
    wanted += factors
    return list(torch.autograd.grad(first, wanted, weights, materialize_grads=True))


def tolerance(dtype: torch.dtype, K: int, T: int) -> float:
    """How far two correct results may lie apart, as a share of their magnitude.

    ``K`` is the number of terms of the longest sum, ``T`` the number of steps that follow one
    another. Each rounding is half an ``eps``, up or down. Those of a sum's K additions wander
    apart by sqrt(K) of them; on the way through an activation come a few more; and a step hands
    its error on to the next, so that they add up over T.
    """
    return SAFETY * torch.finfo(dtype).eps * (K**0.5 + 4) * T


def assert_same(got: Sequence[Tensor], expected: Sequence[Tensor], of: Case | torch.dtype) -> None:
    """Every pair agrees within the `tolerance` of a case, shapes included.

    In place of a case a dtype stands for the usual one, `Case(dtype=dtype)`. What a tensor's
    elements are sums of has a magnitude of one or, if that is more, of the largest of them.
    """
    case = of if isinstance(of, Case) else Case(dtype=of)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == case.dtype
        _assert_near(g, e, case.tolerance)


def assert_near(got: Any, expected: Any, K: int, T: int) -> None:
    """A pair of Tensors or arrays agrees within the `tolerance` of the dtype of ``got``."""
    got, expected = torch.as_tensor(got), torch.as_tensor(expected)
    _assert_near(got, expected, tolerance(got.dtype, K, T))


def _assert_near(got: Tensor, expected: Tensor, share: float) -> None:
    got, expected = got.detach().to(expected.dtype), expected.detach()
    magnitude = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    atol = magnitude * share
    if got.shape != expected.shape or not bool(((got - expected).abs() <= atol).all()):
        # What it has to say costs it twenty times as long, even where it has nothing to say.
        torch.testing.assert_close(got, expected, rtol=0, atol=atol)


def assert_derivatives_of_the_equations(layer: Any, case: Case, **keywords: Any) -> None:
    """A call's outputs, gradients and second derivatives are those of the reference."""
    x, hx = case.input(), case.state()
    ways = [Called(layer, **keywords), OnReference(layer, **keywords)]
    got, expected = (run(way, like(x, case.dtype), like(hx, case.dtype)) for way in ways)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, case)
    again = [second_derivatives(way, like(x, case.dtype), like(hx, case.dtype)) for way in ways]
    assert_same(*again, case)


def assert_gradients_of_finite_differences(layer: Any, case: Case) -> None:
    """Of input, states and parameters, in float64; equal seeds for whatever the layer draws."""
    names = [name for name, _ in layer.named_parameters()]
    x, *states = flat(like(case.input(), torch.float64), like(case.state(), torch.float64))

    def call(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, weights = tensors[: len(tensors) - len(names)], tensors[-len(names) :]
        hx = states if case.kind == "LSTM" else states[0]
        parameters = dict(zip(names, weights, strict=True))
        seed(3)
        return tuple(flat(torch.func.functional_call(layer, parameters, (x, hx))))

    weights = [w.detach().clone().requires_grad_() for w in layer.parameters()]
    assert_gradients(call, x, *states, *weights)
