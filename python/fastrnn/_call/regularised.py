"""How a layer is regularised and normalised, as plain data, and what of it a call has to do."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import NamedTuple

from .. import _torch
from .spec import Spec, Variant

__all__ = ["Parts", "Regularised", "norm_sizes", "options_of", "parts_of"]


@dataclass(frozen=True, slots=True)
class Regularised:
    """What a layer has of the options of `fastrnn.regularised`, which explains; by default none.

    ``zoneout`` has the rates of h and c; ``layer_norm`` is "" for none of the two shares.
    """

    input_dropout: float = 0.0
    input_dropout_per: str = "call"
    input_dropout_gates: str = "tied"
    recurrent_dropout: float = 0.0
    recurrent_dropout_on: str = "h"
    recurrent_dropout_per: str = "call"
    recurrent_dropout_gates: str = "tied"
    weight_dropout: float = 0.0
    weight_dropout_by: str = "element"
    weight_dropout_in_eval: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    layer_norm: str = ""
    layer_norm_over: str = "all"
    layer_norm_gamma: bool = True
    layer_norm_beta: bool | str = True
    layer_norm_eps: float = 1e-5
    layer_norm_cell: str = "none"

    @property
    def normalises(self) -> bool:
        return bool(self.layer_norm) or self.layer_norm_cell != "none"

    def drops_weights(self, training: bool) -> bool:
        return self.weight_dropout > 0 and (training or self.weight_dropout_in_eval)

    def draws(self, training: bool) -> bool:
        """Whether a call draws masks."""
        rates = self.input_dropout, self.recurrent_dropout, *self.zoneout
        return self.drops_weights(training) or (training and any(rates))

    def is_at_work(self, training: bool) -> bool:
        """Whether a call computes anything else than the layer without these options."""
        always = self.normalises or any(self.zoneout) or self.drops_weights(training)
        return always or (training and (self.input_dropout > 0 or self.recurrent_dropout > 0))


Regularised.__module__ = "fastrnn.regularised"  # pickles name what is public


@_torch.constant_to_compilers  # which take numbers of a dataclass for unknown ones
def options_of(text: str) -> tuple[Variant, Regularised]:
    """All options of a layer or cell, from the tuples of their fields as a text."""
    of_variant, own = ast.literal_eval(text)
    return Variant(*of_variant), Regularised(*own)


class Parts(NamedTuple):
    """What the cell of a call has to do that the cell without these options has not.

    ``on`` is "h", "candidate" or "" for no recurrent dropout; ``per_step`` and ``separate`` belong
    to its masks. ``zoneout`` has the rates, which ``drawn`` masks stand for in training.
    ``norm_input`` is the norm of the input's share, behind which ``moved`` adds biases and betas;
    ``norm`` that of the recurrent share, to which ``shifted`` adds in the gate n of a GRU. Where
    the weights are ``centred`` the means of both are 0, which no step has to compute.
    """

    on: str
    per_step: bool
    separate: bool
    zoneout_h: float
    zoneout_c: float
    drawn: bool
    norm_input: bool
    moved: bool
    norm: bool
    norm_over: str
    centred: bool
    eps: float
    gamma: bool
    shifted: bool
    norm_cell: str
    beta_cell: bool

    def masks(self, gates: str) -> list[str]:
        """The masks of the recurrent dropout by name."""
        if self.on == "h":
            return [f"mask_{gate}" for gate in gates] if self.separate else ["mask_h"]
        return ["mask_candidate"] if self.on else []

    def held(self, gates: str) -> list[str]:
        """The masks that a call keeps."""
        return [] if self.per_step else self.masks(gates)

    def inputs(self, gates: str) -> list[str]:
        """What every step has of its own: shares of the input, and masks."""
        zoned = {"zoneout_h": self.zoneout_h, "zoneout_c": self.zoneout_c}
        of_zoneout = [name for name, rate in zoned.items() if rate and self.drawn]
        return [*(self.masks(gates) if self.per_step else []), *of_zoneout]

    def vectors(self) -> dict[str, str]:
        """The learned numbers of each direction that go into its step, by name and kind."""
        names = _parameters("ih", self.gamma, self.moved) if self.norm_input else []
        names += _parameters("hh", self.gamma, False) if self.norm else []
        found = dict.fromkeys(names, "gate")
        if self.shifted:
            found["shift_n"] = "unit"
        if self.norm_cell != "none":
            found |= dict.fromkeys(_parameters("cell", self.gamma, self.beta_cell), "unit")
        return found


def parts_of(spec: Spec, options: Regularised, training: bool, centred: bool) -> Parts | None:
    """What the cell of a call does; None if it does what the cell without options does.

    ``centred`` says whether the weights of normalised shares are to be.
    """
    drops = training and options.recurrent_dropout > 0
    if not (drops or options.normalises or any(options.zoneout)):
        return None
    norm, (h, c) = options.layer_norm in ("recurrent", "both"), options.zoneout
    norm_input, beta = options.layer_norm in ("input", "both"), options.layer_norm_beta is True
    n_apart = spec.cell == "gru" and spec.variant.reset_after and bool(options.layer_norm)
    separate = drops and options.recurrent_dropout_gates == "separate"
    # What gates make of states of their own does not have its mean from the mean of their rows.
    mixed = separate and norm and options.layer_norm_over == "all"
    return Parts(
        on=options.recurrent_dropout_on if drops else "",
        per_step=drops and options.recurrent_dropout_per == "step",
        separate=separate,
        zoneout_h=h,
        zoneout_c=c,
        drawn=training,
        norm_input=norm_input,
        moved=norm_input and (spec.bias or beta),
        norm=norm,
        norm_over=options.layer_norm_over,
        centred=(norm or norm_input) and centred and not mixed,
        eps=options.layer_norm_eps,
        gamma=options.layer_norm_gamma,
        shifted=n_apart and (spec.bias or (norm and beta)),
        norm_cell=options.layer_norm_cell,
        beta_cell=options.layer_norm_beta is not False,
    )


def norm_sizes(options: Regularised, gates: int, hidden_size: int) -> dict[str, int]:
    """The parameters of the norms of each direction, by name, and how many numbers they have."""
    gamma, beta = options.layer_norm_gamma, options.layer_norm_beta
    found: dict[str, int] = {}  # by update: a compiler of torch 2.6 knows no |= of dicts
    for place in _PLACES[options.layer_norm]:
        found.update(dict.fromkeys(_parameters(place, gamma, beta is True), gates * hidden_size))
    if options.layer_norm_cell != "none":
        found.update(dict.fromkeys(_parameters("cell", gamma, beta is not False), hidden_size))
    return found


_PLACES = {"": (), "input": ("ih",), "recurrent": ("hh",), "both": ("ih", "hh")}


def _parameters(place: str, gamma: bool, beta: bool) -> list[str]:
    kinds = [kind for kind, there in (("weight", gamma), ("bias", beta)) if there]
    return [f"norm_{place}_{kind}" for kind in kinds]
