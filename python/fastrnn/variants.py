"""Options that torch's layers lack, for cells and weights of other worlds.

Every layer and cell takes, as keywords:

- ``recurrent_activation``, of the gates: i, f, o or r, z. Default "sigmoid". Not in RNN.
- ``activation``, of the candidate: g, n, or h of the RNN; and in the LSTM, unless
  ``output_activation`` names another, that of the cell state on its way out. Default "tanh".
- ``cell_clip``: what goes into the activations of gates and candidate is first limited to
  -cell_clip .. cell_clip. This is ONNX's ``clip``, as ONNX Runtime computes it.

Every layer takes ``reverse=True``: it runs through time backwards, outputs in the input's order.
The LSTM has also:

- ``peephole``, a subset of the letters "ifgo" in any order: these gates see the cell state through
  weights of their own, i, f and g the one before the step, o the one after it. Its parameters
  ``weight_ch_l{k}[_reverse]`` have one block of H for each letter, in the order of the letters.
- ``input_forget=True``: the forget gate is 1 - i, and what belongs to f has no effect.
- ``forget_bias``: what b_if + b_hf starts from, where torch draws both.

And the GRU has ``reset_after=False``: the reset gate acts on h before the product with W_hn.

Activations are those of `ACTIVATIONS`, by name or with parameters: "leaky_relu", "leaky_relu(0.2)".

An option that says what torch's layer does anyway makes torch's layer: ``variant`` is None, and
`fastrnn.revert` takes it. The ``activation`` "tanh" or "relu" of an RNN is its ``nonlinearity``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Real
from typing import Any

from ._call.activations import ACTIVATIONS, own_activation, parse_activation
from ._call.spec import CELLS, PLAIN, Variant

__all__ = [
    "ACTIVATIONS",
    "ALL_OPTIONS",
    "OPTIONS",
    "check_directions",
    "describe",
    "make_variant",
    "options_of",
    "own_activation",
    "parse_activation",
    "take_nonlinearity",
]

OPTIONS = {
    "LSTM": (
        "activation",
        "recurrent_activation",
        "output_activation",
        "peephole",
        "cell_clip",
        "input_forget",
        "reverse",
    ),
    "GRU": ("activation", "recurrent_activation", "cell_clip", "reset_after", "reverse"),
    "RNN": ("activation", "cell_clip", "reverse"),
}
"""The options of each kind of layer; cells have the same but for ``reverse``."""

ALL_OPTIONS = sorted({name for names in OPTIONS.values() for name in names} | {"forget_bias"})
"""Every option that a layer's constructor may find among its keywords."""


def describe(variant: Variant | None, forget_bias: float | None) -> list[str]:
    """The options that are not torch's, as a constructor would take them."""
    options = []
    if variant is not None:
        for field in fields(Variant):
            value = getattr(variant, field.name)
            if value != getattr(PLAIN, field.name):
                options.append(f"{field.name}={value!r}")
    if forget_bias is not None:
        options.append(f"forget_bias={forget_bias}")
    return options


def options_of(kind: str, variant: Variant) -> dict[str, Any]:
    """The options of which `make_variant` makes this one."""
    if variant == PLAIN:
        return {}
    own = {name: getattr(variant, name) for name in _options_of(kind)}
    return {name: value for name, value in own.items() if value != getattr(PLAIN, name)} | {
        name: own[name] for name in ("output_activation",) if name in own
    }


def check_directions(variant: Variant | None, bidirectional: bool) -> None:
    """Refuse to reverse a layer that runs in both directions.

    Raises
    ------
    ValueError
        That is what ``variant`` says.
    """
    if variant is not None and variant.reverse and bidirectional:
        raise ValueError(
            "reverse: expected False with bidirectional=True, whose second direction is reversed "
            "already, got True"
        )


def make_variant(kind: str, options: Mapping[str, Any]) -> Variant | None:
    """The checked options of a kind of layer or cell such as "LSTM" or "GRUCell", None if torch's.

    Raises
    ------
    ValueError
        This kind has no such option, or it is not to have such a value.
    """
    if not options:
        return None
    own = _options_of(kind)
    for name in options:
        if name not in own:
            raise ValueError(_explain_unknown(kind, name))
    activation = _canonical(options, "activation", "tanh")
    output = activation if "output_activation" in own else "tanh"
    variant = Variant(
        activation="" if activation == "tanh" else activation,
        recurrent_activation=_canonical(options, "recurrent_activation", "sigmoid"),
        output_activation=_canonical(options, "output_activation", output),
        peephole=_check_peephole(options.get("peephole") or ""),
        cell_clip=_check_clip(options.get("cell_clip")),
        input_forget=bool(options.get("input_forget", False)),
        reset_after=bool(options.get("reset_after", True)),
        reverse=bool(options.get("reverse", False)),
    )
    return None if variant == PLAIN else variant


def take_nonlinearity(options: dict[str, Any]) -> str | None:
    """Take the ``activation`` out of an RNN's options if torch has it as a ``nonlinearity``.

    Raises
    ------
    ValueError
        It is no activation of `ACTIVATIONS`.
    """
    name = _canonical(options, "activation", "")
    if name not in ("tanh", "relu"):
        return None
    del options["activation"]
    return name


def _options_of(kind: str) -> list[str]:
    layer = kind.removesuffix("Cell")
    return [name for name in OPTIONS[layer] if kind == layer or name != "reverse"]


def _explain_unknown(kind: str, name: str) -> str:
    owners = " and ".join(owner for owner, names in OPTIONS.items() if name in names)
    having = f"; it is one of {owners}" if owners else ""
    return f"{name}: expected an option of {kind} ({', '.join(_options_of(kind))}){having}"


def _canonical(options: Mapping[str, Any], option: str, default: str) -> str:
    """The activation that ``option`` names, always written the same way."""
    text = options.get(option)
    if text is None:
        return default
    name, parameters = parse_activation(text, option)
    if parameters == ACTIVATIONS[name]:
        return name
    return f"{name}({', '.join(map(repr, parameters))})"


def _check_peephole(letters: Any) -> str:
    gates = CELLS["lstm"].gates
    known = isinstance(letters, str) and set(letters) <= set(gates)
    if not known or len(set(letters)) != len(letters):
        raise ValueError(
            f"peephole: expected letters of {gates!r}, each at most once, got {letters!r}"
        )
    return str(letters)


def _check_clip(clip: Any) -> float:
    if clip is None:
        return 0.0
    number = isinstance(clip, Real)
    if not number or not 0 < clip < math.inf:
        raise ValueError(f"cell_clip: expected a positive number or None, got {clip!r}")
    return float(clip)
