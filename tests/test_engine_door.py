"""The engine's door: tensors are addresses there, and only their names tell one from another."""

from __future__ import annotations

import pytest

from fastrnn import _core, isa

SIZES = {"T": 1, "B": 1, "I": 1, "H": 1, "threads": 1}
FORWARD = {
    "x": (0, 0, 0),
    "y": (0, 0, 0),
    **dict.fromkeys(("h0", "c0", "h_n", "c_n", "h_all", "c_all"), 0),
    "weights": [],
    "masks": [],
    "saved": 0,
}
BACKWARD = {
    **dict.fromkeys(("x", "d_y", "d_x"), (0, 0, 0)),
    **dict.fromkeys(("h0", "c0", "d_h_n", "d_c_n", "d_h_all", "d_c_all", "d_h0", "d_c0"), 0),
    "weights": [],
    "d_weights": [],
    "masks": [],
    "saved": 0,
}


def plan(*positional: object, **named: object) -> _core.Plan:
    return _core.Plan(*positional, dtype=_core.DType.float32, isa=isa.active(), **SIZES, **named)  # type: ignore[arg-type, misc]


def test_a_plan_takes_no_argument_by_its_place() -> None:
    assert plan(cell=_core.Cell.lstm).saved_bytes == 0
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        plan(_core.Cell.lstm)


@pytest.mark.parametrize(("way", "named"), [("forward", FORWARD), ("backward", BACKWARD)])
def test_a_pass_takes_no_address_by_its_place(way: str, named: dict[str, object]) -> None:
    run = getattr(plan(cell=_core.Cell.lstm, save=True), way)
    with pytest.raises(ValueError, match="weights: expected 4 addresses, got 0"):
        run(**named)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        run(*named.values())
    first = next(iter(named))
    with pytest.raises(TypeError, match="incompatible function arguments"):
        run(named[first], **{name: value for name, value in named.items() if name != first})
