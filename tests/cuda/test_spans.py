"""Inference of a long batch takes its steps in spans, with the same results in less memory."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from cases import Case, flat
from devices import BF16, F32, F64, TOLERANCE, largest_error, on

from fastrnn._engine.cuda.forward import ForwardPass
from fastrnn._layers import short_way

OPTIONS: dict[str, dict[str, Any]] = {
    "one direction": {},
    "both, stacked": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True, "bidirectional": True},
    "unbatched": {"form": "unbatched", "lengths": (7,)},
    "16 bits": {"dtype": BF16, "num_layers": 2},
}
BYTES_OF_STEP = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.fixture(autouse=True)
def _no_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has one span, and leaves what needs several to the way that is tested here."""
    monkeypatch.setattr(short_way, "directly_on_gpu", lambda *_: None)


def spans_of(case: Case, layer: Any, x: Any, hx: Any, steps: int) -> tuple[list[Any], int]:
    """Outputs with room for so many steps at once, and how often the kernels were called."""
    B, sums = len(case.lengths), 8 if case.dtype == F64 else 4
    room = steps * B * BYTES_OF_STEP[case.kind] * case.hidden_size * sums
    spans = ForwardPass.spans_of_steps
    with (
        torch.no_grad(),
        mock.patch.object(ForwardPass, "ROOM", room),
        mock.patch.object(ForwardPass, "spans_of_steps", autospec=True, side_effect=spans) as asked,
    ):
        outputs = flat(layer(x, hx))
        (of_first, *_) = (call.args[0] for call in asked.call_args_list)
        return outputs, len(spans(of_first))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", BYTES_OF_STEP)
def test_spans_give_the_same_as_all_steps_at_once(device: str, kind: str, options: str) -> None:
    proj_size = 5 if kind == "LSTM" and options != "16 bits" else 0
    given = {"lengths": (7,) * 3, "dtype": F64, **OPTIONS[options]}
    case = Case(kind, hidden_size=9, proj_size=proj_size, **given)
    layer = case.build().to(device)
    x, hx = on(device, case.input()), on(device, case.state())
    expected, once = spans_of(case, layer, x, hx, 7)
    expected = [y.cpu().double() for y in expected]
    assert once == 1
    for steps, count in ((5, 2), (2, 4), (1, 7)):
        got, spans = spans_of(case, layer, x, hx, steps)
        assert spans == count
        assert largest_error(got, expected) < TOLERANCE[case.dtype]


def test_a_single_direction_in_reverse(device: str) -> None:
    case = Case("GRU", lengths=(7,) * 3, dtype=F64)
    layer = case.build(reverse=True).to(device)
    x, hx = on(device, case.input()), on(device, case.state())
    expected = [y.cpu() for y in spans_of(case, layer, x, hx, 7)[0]]
    got, spans = spans_of(case, layer, x, hx, 2)
    assert spans == 4
    assert largest_error(got, expected) < TOLERANCE[F64]


@pytest.mark.parametrize("more", ["packed", "lengths", "resets", "states", "training"])
def test_what_differs_by_row_or_is_kept_is_not_cut(device: str, more: str) -> None:
    form = "packed" if more == "packed" else "dense"
    case = Case("GRU", lengths=(7, 5, 2), form=form, dtype=F32, with_state=False)
    layer, x = case.build().to(device), on(device, case.input())
    keywords: dict[str, Any] = {}
    if more in ("lengths", "states"):
        keywords = {"lengths": [7, 5, 2]} if more == "lengths" else {"return_states": True}
    if more == "resets":
        keywords = {"resets": torch.zeros(x.shape[:2], dtype=torch.bool, device=device)}
    spans = ForwardPass.spans_of_steps
    with (
        torch.set_grad_enabled(more == "training"),
        mock.patch.object(ForwardPass, "ROOM", 1),
        mock.patch.object(ForwardPass, "spans_of_steps", autospec=True, side_effect=spans) as asked,
    ):
        layer(x, **keywords)
        assert [len(spans(call.args[0])) for call in asked.call_args_list] == [1]
