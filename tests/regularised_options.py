"""Options of regularised layers: one of each, and any of them together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

ONE_OF_EACH: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"input_dropout": 0.3}) for kind in ("LSTM", "GRU", "RNN")),
    (
        "LSTM",
        {"input_dropout": 0.3, "input_dropout_per": "step", "input_dropout_gates": "separate"},
    ),
    *((kind, {"recurrent_dropout": 0.3}) for kind in ("LSTM", "GRU", "RNN")),
    ("LSTM", {"recurrent_dropout": 0.3, "recurrent_dropout_gates": "separate"}),
    ("GRU", {"recurrent_dropout": 0.3, "recurrent_dropout_gates": "separate"}),
    ("GRU", {"recurrent_dropout": 0.3, "recurrent_dropout_per": "step", "reset_after": False}),
    ("LSTM", {"recurrent_dropout": 0.3, "recurrent_dropout_on": "candidate"}),
    ("LSTM", {"weight_dropout": 0.3}),
    ("GRU", {"weight_dropout": 0.3, "weight_dropout_by": "row", "weight_dropout_in_eval": True}),
    ("LSTM", {"zoneout": (0.1, 0.4)}),
    ("GRU", {"zoneout": 0.3}),
    ("RNN", {"zoneout": 0.3, "layer_norm": "input"}),
    (
        "LSTM",
        {
            **{"layer_norm": "both", "layer_norm_cell": "inside", "layer_norm_beta": "cell"},
            "layer_norm_eps": 0.1,
        },
    ),
    ("LSTM", {"layer_norm": "recurrent", "layer_norm_cell": "carried", "peephole": "ifo"}),
    ("GRU", {"layer_norm": "both", "layer_norm_over": "gate", "reset_after": False}),
    ("LSTM", {"layer_norm": "both", "recurrent_dropout": 0.2, "zoneout": (0.1, 0.1)}),
]
one_of_each = pytest.mark.parametrize(
    ("kind", "options"), ONE_OF_EACH, ids=lambda value: str(value).strip("{}")
)


@st.composite
def options_of(draw: st.DrawFn, kind: str, projected: bool = False) -> dict[str, Any]:
    """Any options of a kind of layer, with some of the variants'."""
    rates = st.sampled_from((0.0, 0.2, 0.5))
    per, gates = st.sampled_from(("call", "step")), st.sampled_from(("tied", "separate"))
    candidate = kind != "RNN" and (projected or draw(st.booleans()))
    options: dict[str, Any] = {
        "input_dropout": draw(rates),
        "input_dropout_per": draw(per),
        "input_dropout_gates": draw(gates),
        "recurrent_dropout": draw(rates),
        "recurrent_dropout_on": "candidate" if candidate else "h",
        "recurrent_dropout_per": draw(per),
        "recurrent_dropout_gates": "tied" if candidate else draw(gates),
        "weight_dropout": draw(rates),
        "weight_dropout_by": draw(st.sampled_from(("element", "row"))),
        "zoneout": 0.0 if projected else draw(rates),
    }
    if draw(st.booleans()):
        options["layer_norm"] = draw(st.sampled_from(("input", "recurrent", "both")))
        options["layer_norm_over"] = draw(st.sampled_from(("all", "gate")))
        options["layer_norm_gamma"] = draw(st.booleans())
        options["layer_norm_beta"] = draw(st.booleans())
    if kind == "LSTM":
        options["zoneout"] = (options["zoneout"], draw(rates))
        options["layer_norm_cell"] = draw(st.sampled_from(("none", "inside", "carried")))
        options["peephole"] = draw(st.sampled_from(("", "ifo", "g")))
    if kind == "GRU":
        over_all = options.get("layer_norm", "input") != "input"
        over_all = over_all and options["layer_norm_over"] == "all"
        options["reset_after"] = over_all or draw(st.booleans())
    if "layer_norm" in options or options.get("layer_norm_cell", "none") != "none":
        # The deviation of a few units may be next to nothing, and would multiply their rounding.
        options["layer_norm_eps"] = draw(st.sampled_from((0.1, 1.0)))
    return options
