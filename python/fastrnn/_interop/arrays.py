"""Layers out of the arrays of other libraries, whatever order and layout they keep them in.

What differs between libraries that compute the same cells: the order of the gates, which side the
units of a weight stand on, one matrix or one for each gate or one for input and state together, how
many biases there are, what is added to the forget gate, and which of z and 1 - z keeps the state.
docs/equations.md has a table of who does what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._call.spec import GATES
from .._call.weights import NAMES, Weights
from .._layers import modules

__all__ = ["from_arrays", "tensor_of_array"]

_SHORT = dict(zip(NAMES, Weights._fields, strict=True))


def from_arrays(
    cell: str,
    w_ih: Any,
    w_hh: Any = None,
    b_ih: Any = None,
    b_hh: Any = None,
    w_ch: Any = None,
    *,
    gates: str | None = None,
    transposed: bool = False,
    joined: str | None = None,
    z_keeps_new: bool = False,
    forget_bias: float = 0.0,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Any:
    """The layer that computes with copies of another library's weights.

    Letters: I input features, H units, G gates; i, f, g, o of the LSTM (g is the candidate), r, z,
    n of the GRU (n is the candidate), h of the RNN. Each of the five weights is one of

    - an array: what NumPy can read, or a Tensor, with the gates side by side;
    - a mapping from letters to arrays, where gates are kept apart: ``{"rz": ..., "n": ...}``. A
      bias may lack gates: theirs is zero;
    - a list of those, for each layer and in it for each direction, as torch orders them.

    Parameters
    ----------
    cell : str
        "LSTM", "GRU" or "RNN".
    w_ih : array [G*H, I], mapping or list
        Of the input. ``[I, G*H]`` if ``transposed``; of input and state if ``joined``.
    w_hh : array [G*H, H], mapping or list, optional
        Of the state. ``[H, G*H]`` if ``transposed``, None if ``joined``.
    b_ih, b_hh : array [G*H], mapping or list, optional
        Where there is one bias it is ``b_ih``. The two are added, but for n of a GRU with
        ``reset_after``: there ``b_hh`` stands inside the product with r.
    w_ch : array [n*H], mapping or list, optional
        Peepholes of an LSTM. Of an array, the option ``peephole`` tells the letters, by default
        "ifo". Those of i, f and g see the state before the step, that of o the one after it.
    gates : str, optional
        The order of the gates in what is an array, say "ifog" or "zrn"; torch's if not given.
    transposed : bool
        The units of the gates are columns: ``y = x @ w``.
    joined : {"xh", "hx"}, optional
        ``w_ih`` multiplies input and state side by side, in this order.
    z_keeps_new : bool
        The GRU's z multiplies the new value, ``h' = (1 - z) * h + z * n``; in torch it multiplies
        the old one.
    forget_bias : float
        What the other library adds inside of the forget gate, beyond its biases.
    dtype : torch.dtype, optional
        Of the layer; if not given that of the first array, or float32 where that has integers.
    **options
        Those of the layer's constructor: ``bidirectional``, ``batch_first``, ``dropout``, and
        those of `fastrnn.variants`, such as ``reset_after=False`` of a GRU.

    Returns
    -------
    LSTM, GRU or RNN
        On the CPU. Initial states are given at the call.

    Raises
    ------
    ValueError
        A shape does not fit, a gate is missing or unknown, a weight is missing, or an option is
        none of this layer's.

    Examples
    --------
    Gates i, f, o, g and 1 inside of the forget gate, as in DyNet:

    >>> layer = fastrnn.from_arrays("LSTM", wx, wh, b, gates="ifog", forget_bias=1.0)

    A GRUCell of TensorFlow 1, which keeps r and z (its u) apart from the candidate:

    >>> layer = fastrnn.from_arrays(
    ...     "GRU",
    ...     {"rz": gates_kernel, "n": candidate_kernel},
    ...     b_ih={"rz": gates_bias, "n": candidate_bias},
    ...     joined="xh",
    ...     transposed=True,
    ...     reset_after=False,
    ... )
    """
    own = _gates_of(cell, gates, z_keeps_new, forget_bias)
    if joined not in (None, "xh", "hx"):
        raise ValueError(f"joined: expected 'xh', 'hx' or None, got {joined!r}")
    if w_ch is not None and cell != "LSTM":
        raise ValueError(f"w_ch: expected None for {cell}, which has no peepholes, got weights")
    if w_ch is not None:
        options.setdefault("peephole", "ifo")
    arrays = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "w_ch": w_ch}
    count = len(w_ih) if isinstance(w_ih, (list, tuple)) else 1
    letters = options.get("peephole") or ""
    layout = _Layout(own, gates or own, transposed, joined, z_keeps_new, forget_bias, letters)
    weights = [layout.read(_of_direction(arrays, k, count)) for k in range(count)]
    return _layer_with(cell, weights, dtype, options)


def _gates_of(cell: str, gates: str | None, z_keeps_new: bool, forget_bias: float) -> str:
    """The letters of a layer's gates in torch's order, when the arguments have been checked."""
    own = GATES.get(cell)
    if own is None:
        raise ValueError(f"cell: expected one of {', '.join(GATES)}, got {cell!r}")
    if gates is not None and sorted(gates) != sorted(own):
        raise ValueError(f"gates: expected the letters of {own!r} in some order, got {gates!r}")
    if z_keeps_new and cell != "GRU":
        raise ValueError(f"z_keeps_new: expected False for {cell}, which has no z, got True")
    if forget_bias and cell != "LSTM":
        raise ValueError(f"forget_bias: expected 0 for {cell}, which has no f, got {forget_bias}")
    return own


def _of_direction(arrays: dict[str, Any], k: int, count: int) -> dict[str, Any]:
    """What is given for one direction of a layer, under its names in messages."""
    found = {}
    for name, value in arrays.items():
        if value is None:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if len(values) != count:
            raise ValueError(f"{name}: expected {count} of them, as of w_ih, got {len(values)}")
        found[name] = values[k]
    return found


@dataclass(frozen=True)
class _Layout:
    """How the other library keeps the weights of one direction."""

    own: str
    order: str
    transposed: bool
    joined: str | None
    z_keeps_new: bool
    forget_bias: float
    peephole: str

    def read(self, given: dict[str, Any]) -> dict[str, Tensor]:
        """The weights by name, with gates in torch's order; both biases or none."""
        weights = self._matrices(given)
        H = weights["w_hh"].shape[1]
        if self.forget_bias or "b_ih" in given or "b_hh" in given:
            for name in ("b_ih", "b_hh"):
                weights[name] = self._stacked(name, given.get(name, {}), self.own, self.order, H)
        second = slice(H, 2 * H)  # f of an LSTM, z of a GRU
        if self.forget_bias:
            weights["b_ih"][second] += self.forget_bias
        for weight in weights.values() if self.z_keeps_new else ():
            weight[second].neg_()  # 1 - sigmoid(a) = sigmoid(-a)
        if "w_ch" in given:
            weights["w_ch"] = self._stacked("w_ch", given["w_ch"], self.peephole, self.peephole, H)
        return weights

    def _matrices(self, given: dict[str, Any]) -> dict[str, Tensor]:
        """w_ih [G*H, I] and w_hh [G*H, H]."""
        w_ih = self._stacked("w_ih", given["w_ih"], self.own, self.order)
        H = len(w_ih) // len(self.own)
        if self.joined is None:
            w_hh = self._stacked("w_hh", given.get("w_hh", {}), self.own, self.order)
        elif "w_hh" in given or w_ih.shape[1] <= H:
            raise ValueError(
                f"w_ih: expected the weights of input and state, and no w_hh, with joined="
                f"{self.joined!r}, got {w_ih.shape[1]} columns for {H} units"
            )
        else:
            I = w_ih.shape[1] - H  # noqa: E741
            at = I if self.joined == "xh" else H
            w_ih, w_hh = w_ih[:, :at], w_ih[:, at:]
            if self.joined == "hx":
                w_ih, w_hh = w_hh, w_ih
        if w_hh.shape != (len(w_ih), H):
            raise ValueError(
                f"w_hh: expected {(len(w_ih), H)}, [G*H, H], beside w_ih of {tuple(w_ih.shape)}, "
                f"read with transposed={self.transposed}, got {tuple(w_hh.shape)}"
            )
        return {"w_ih": w_ih.clone(), "w_hh": w_hh.clone()}

    def _stacked(self, name: str, value: Any, own: str, order: str, H: int | None = None) -> Tensor:
        """The blocks of all gates, one below the other: of a matrix, or with ``H`` of a vector."""
        parts = value if isinstance(value, Mapping) else {order: value}
        blocks: dict[str, Tensor] = {}
        for letters, array in parts.items():
            tensor = tensor_of_array(array)
            if tensor.dim() != (2 if H is None else 1):
                expected = 2 if H is None else 1
                raise ValueError(f"{name}: expected {expected} dimensions, got {tensor.dim()}")
            tensor = tensor.t() if self.transposed and H is None else tensor
            if not letters or set(letters) - set(own) or len(tensor) % len(letters):
                raise ValueError(
                    f"{name}: expected equal blocks of rows for letters of {own!r}, "
                    f"got {len(tensor)} rows for {letters!r}"
                )
            blocks.update(zip(letters, tensor.chunk(len(letters)), strict=True))
        if H is not None:
            blocks = {letter: torch.zeros(H, device="cpu") for letter in own} | blocks
        missing = [letter for letter in own if letter not in blocks]
        if missing:
            raise ValueError(f"{name}: expected the gates {own!r}, got none for {missing}")
        shapes = {letter: tuple(block.shape) for letter, block in blocks.items()}
        if len({(H,) if H is not None else shapes[own[0]], *shapes.values()}) > 1:
            raise ValueError(f"{name}: expected gates of one size, got {shapes}")
        return torch.cat([blocks[letter] for letter in own])


def _layer_with(
    cell: str, weights: list[dict[str, Tensor]], dtype: torch.dtype | None, options: dict[str, Any]
) -> Any:
    """A layer of these weights, which it copies."""
    D = 2 if options.get("bidirectional") else 1
    if len(weights) % D or not weights:
        raise ValueError(f"w_ih: expected {D} for each layer, got {len(weights)}")
    w_ih, w_hh = weights[0]["w_ih"], weights[0]["w_hh"]
    layer = getattr(modules, cell)(
        w_ih.shape[1],
        w_hh.shape[1],
        len(weights) // D,
        bias="b_ih" in weights[0],
        dtype=dtype or w_ih.dtype,
        **options,
    )
    with torch.no_grad():
        for names, given in zip(layer._all_weights, weights, strict=True):
            wanted = {_SHORT[name.partition("_l")[0]]: getattr(layer, name) for name in names}
            expected = {name: tuple(parameter.shape) for name, parameter in wanted.items()}
            got = {name: tuple(weight.shape) for name, weight in given.items()}
            if got != expected:
                raise ValueError(f"{names[0]}: expected shapes {expected}, got {got}")
            for name, parameter in wanted.items():
                parameter.copy_(given[name])
    return layer


def tensor_of_array(value: Any) -> Tensor:
    """A copy of an array of any library, of its dtype, which NumPy itself need not know."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    array = np.array(value)
    if array.dtype.name in ("float16", "float32", "float64"):
        return torch.from_numpy(array)
    dtype: Any = getattr(torch, array.dtype.name, None)
    floating = isinstance(dtype, torch.dtype) and dtype.is_floating_point
    return torch.from_numpy(array.astype("float32")).to(dtype if floating else torch.float32)
