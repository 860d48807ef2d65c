"""Dropout within the recurrence, zoneout and layer normalisation, of torch's layers and cells.

Every layer and cell takes, as keywords:

- ``input_dropout``: p of the input of every layer of a stack. ``input_dropout_per`` "call" draws
  one mask [B, I] for all steps (Gal and Ghahramani; AWD-LSTM's "locked" dropout), "step" one for
  each. ``input_dropout_gates`` "separate" draws one for each gate, as Keras does beside its
  recurrent dropout; "tied" has one for all.
- ``recurrent_dropout``: p of what is ``recurrent_dropout_on``: "h", the state before the step as
  the recurrent weights meet it, the initial one too (Gal and Ghahramani; stanza), or "candidate", g
  or n before it goes into the state (Semeniuta et al.); an RNN has no candidate beside its state.
  ``recurrent_dropout_per`` and ``recurrent_dropout_gates`` are as those of ``input_dropout``: Keras
  has one mask a call for each gate. The z * h of a GRU is never masked.
- ``weight_dropout``: p of ``weight_hh``, drawn at every call ``weight_dropout_by`` "element"
  (DropConnect; AWD-LSTM, haste) or "row" (AWD-LSTM's "variational" form); with
  ``weight_dropout_in_eval`` in eval as well, as the latter does.
- ``zoneout``: p of h, or (p of h, p of c): the probability that a unit of the state stays what it
  was before the step (Krueger et al.), drawn for every step. Into h goes c before its zoneout.
- ``layer_norm``, of "input", W x, of "recurrent", U h, or of "both", each before its bias is added.
  ``layer_norm_over`` "all" takes mean and variance over all gates, "gate" over each;
  ``layer_norm_eps`` is added to the variance. ``layer_norm_cell``, in the LSTM, is "inside",
  o * tanh(LN(c)) with c itself carried on; "carried", LN(c) carried on; or "none". The parameters
  ``norm_ih_weight_l{k}[_reverse]``, ``norm_hh_...`` [G*H] and ``norm_cell_...`` [H], gamma called
  ``weight`` and beta ``bias``, begin with ones and zeros. ``layer_norm_gamma`` and
  ``layer_norm_beta`` False leave them out, the latter "cell" those of the shares alone.

What is not dropped is scaled by 1 / (1 - p), so that nothing is to be done in eval. Zoneout scales
nothing: in eval a state is p times the one before and 1 - p times the new one. Masks are drawn by
torch's generator, at every call before anything is computed, layer by layer: of the input; then for
each direction of the weights, of the recurrent dropout, of zoneout of h and of c; then that of
torch's ``dropout``. So equal seeds give equal results however a call is computed; but a padded
batch and the same one packed have other masks, where they have one for each step. A rate between
1/128 and 127/128 is rounded to a multiple of 1/65536. In a cell each call is one step, and draws
its masks.

The options combine with one another and with those of `fastrnn.variants`. `docs/equations.md` says
which implementations have which. A layer without any has None as ``regularised``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Real
from typing import Any

from ._call.regularised import Regularised
from ._call.spec import Variant

__all__ = [
    "NAMES",
    "Regularised",
    "check_combination",
    "describe_regularised",
    "make_regularised",
    "take_regularised",
]

NAMES = tuple(field.name for field in fields(Regularised))
"""Every option by the name of its keyword."""

_CHOICES = {
    "input_dropout_per": ("call", "step"),
    "input_dropout_gates": ("tied", "separate"),
    "recurrent_dropout_on": ("h", "candidate"),
    "recurrent_dropout_per": ("call", "step"),
    "recurrent_dropout_gates": ("tied", "separate"),
    "weight_dropout_by": ("element", "row"),
    "weight_dropout_in_eval": (False, True),
    "layer_norm": ("", "input", "recurrent", "both"),
    "layer_norm_over": ("all", "gate"),
    "layer_norm_gamma": (False, True),
    "layer_norm_beta": (False, True, "cell"),
    "layer_norm_cell": ("none", "inside", "carried"),
}
_RATES = ("input_dropout", "recurrent_dropout", "weight_dropout")
_NONE = Regularised()


def take_regularised(kind: str, options: dict[str, Any]) -> Regularised | None:
    """Take the options that belong here out of a constructor's keywords: as `make_regularised`."""
    return make_regularised(kind, {name: options.pop(name) for name in NAMES if name in options})


def make_regularised(kind: str, options: Mapping[str, Any]) -> Regularised | None:
    """The checked options of a kind of layer or cell such as "LSTM" or "GRUCell"; None if none.

    Raises
    ------
    ValueError
        A rate is outside [0, 1), this kind has no such option, it is not to have such a value, or
        it says something about another that is not there.
    """
    known = {name: value for name, value in options.items() if value is not None}
    for name in _RATES:
        known[name] = _rate(name, known.get(name, 0.0))
    known["zoneout"] = _check_zoneout(kind, known.get("zoneout", 0.0))
    for name, choices in _CHOICES.items():
        if name in known and not any(known[name] is c or known[name] == c for c in choices):
            expected = ", ".join(map(repr, choices))
            raise ValueError(f"{name}: expected one of {expected}, got {known[name]!r}")
    eps = _check_eps(known.get("layer_norm_eps", _NONE.layer_norm_eps))
    if "layer_norm_eps" in known:
        known["layer_norm_eps"] = eps
    _check_owners(options)
    made = Regularised(**known)
    _check_kind(kind, made)
    made = _without_idle(made)
    return None if made == _NONE else made


def check_combination(options: Regularised, variant: Variant | None, proj_size: int) -> None:
    """Refuse what cannot go together with a variant's options or a projection.

    Raises
    ------
    ValueError
        Naming both.
    """
    reset_before = variant is not None and not variant.reset_after
    over_all = options.layer_norm in ("recurrent", "both") and options.layer_norm_over == "all"
    if reset_before and over_all:
        raise ValueError(
            "layer_norm_over: expected 'gate' with reset_after=False, where the recurrent share of "
            "n comes after those of r and z, got 'all'"
        )
    if not proj_size:
        return
    if options.recurrent_dropout and options.recurrent_dropout_on == "h":
        raise ValueError(
            "recurrent_dropout_on: expected 'candidate' with proj_size, got 'h': what is projected "
            "cannot be masked in the step"
        )
    if options.zoneout[0]:
        raise ValueError(
            "zoneout: expected (0, p), of c alone, with proj_size, got a rate of h, which is "
            f"projected: {options.zoneout}"
        )


def describe_regularised(options: Regularised | None) -> list[str]:
    """The options that are there, as a constructor would take them."""
    if options is None:
        return []
    own = {name: getattr(options, name) for name in NAMES}
    return [f"{name}={value!r}" for name, value in own.items() if value != getattr(_NONE, name)]


def _rate(name: str, value: Any) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a rate of at least 0 and less than 1, got {value!r}")
    return float(value)


def _check_zoneout(kind: str, value: Any) -> tuple[float, float]:
    pair = value if isinstance(value, (tuple, list)) else (value, 0.0)
    if len(pair) != 2:
        raise ValueError(f"zoneout: expected a rate of h, or rates of h and c, got {value!r}")
    h, c = (_rate("zoneout", one) for one in pair)
    if c and not kind.startswith("LSTM"):
        raise ValueError(
            f"zoneout: expected a rate of h alone in {kind}, which has no c, got {value!r}"
        )
    return h, c


def _check_eps(eps: Any) -> float:
    number = isinstance(eps, Real) and not isinstance(eps, bool)
    if not number or not 0 < eps < float("inf"):
        raise ValueError(f"layer_norm_eps: expected a positive number, got {eps!r}")
    return float(eps)


def _check_owners(options: Mapping[str, Any]) -> None:
    """Every option that says how another works has that other with it."""
    given = {name for name, value in options.items() if value is not None}
    for name in given:
        owner = next((owner for owner in _RATES if name.startswith(f"{owner}_")), None)
        if owner is not None and owner not in given:
            raise ValueError(f"{name}: expected {owner} with it, got none")
        if name.startswith("layer_norm_") and not given & {"layer_norm", "layer_norm_cell"}:
            raise ValueError(f"{name}: expected layer_norm or layer_norm_cell with it, got neither")
    if "layer_norm_over" in given and "layer_norm" not in given:
        raise ValueError("layer_norm_over: expected layer_norm with it, got none")


def _without_idle(options: Regularised) -> Regularised:
    """The same without what says how another option works that does nothing."""
    idle = [f"{name}_" for name in _RATES if not getattr(options, name)]
    if not options.normalises:
        idle.append("layer_norm_")
    elif not options.layer_norm:
        idle.append("layer_norm_over")
    names = (name for name in NAMES if name.startswith(tuple(idle)))
    return replace(options, **{name: getattr(_NONE, name) for name in names})


def _check_kind(kind: str, options: Regularised) -> None:
    on_candidate = options.recurrent_dropout_on == "candidate"
    if on_candidate and kind.startswith("RNN"):
        raise ValueError(
            f"recurrent_dropout_on: expected 'h' in {kind}, whose candidate is its state, got "
            "'candidate'"
        )
    if on_candidate and options.recurrent_dropout_gates == "separate":
        raise ValueError(
            "recurrent_dropout_gates: expected 'tied' with recurrent_dropout_on='candidate', which "
            "is of one gate, got 'separate'"
        )
    if options.layer_norm_cell != "none" and not kind.startswith("LSTM"):
        raise ValueError(
            f"layer_norm_cell: expected 'none' in {kind}, which has no cell state, got "
            f"{options.layer_norm_cell!r}"
        )
