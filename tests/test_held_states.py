"""States that a call keeps, and values that nothing is learned of, in cells that are programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import OnReference, assert_same

import fastrnn
from fastrnn import _core
from fastrnn._program.lowering import engine_arguments, lowered
from fastrnn._program.tracing import trace

F64 = torch.float64


class Masked(fastrnn.Cell):
    """A mask of a call, and one of every step."""

    gates = "h"
    states = "h m"
    held = "m"
    inputs = "keep"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.h + u.h) * s.m.detach() + p.keep.detach() * s.h}


def changed(**declarations: Any) -> Any:
    return type("Wrong", (Masked,), declarations)


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        ({"held": "n"}, "Wrong.held: 'n' is no state, expected some of h m"),
        ({"held": "h m"}, "held: expected the last of the states and not the first"),
        ({"states": "h m c"}, "held: expected the last of the states"),
        (
            {"step": lambda self, x, u, s, p: {"h": x.h, "m": s.m}},
            r"Wrong.step .* returns 'm', which is held: expected no new value of it",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(declarations, message):
    with pytest.raises(ValueError, match=message):
        trace(changed(**declarations))


@pytest.mark.usefixtures("each_isa", "each_long_road")
@pytest.mark.parametrize("both", [False, True])
def test_no_reset_touches_what_a_call_keeps(both):
    torch.manual_seed(0)
    rnn = fastrnn.Recurrent(Masked, 3, 5, num_layers=2, bidirectional=both, dtype=F64)
    x, keep = torch.randn(6, 4, 3, dtype=F64), torch.rand(6, 4, 5, dtype=F64)
    count = 4 if both else 2
    hx = torch.randn(count, 4, 5, dtype=F64), torch.rand(count, 4, 5, dtype=F64)
    given = {"keep": keep, "resets": torch.rand(6, 4) < 0.5, "return_states": True}
    _, (_, m), (_, of_steps) = rnn(x, hx, **given)
    assert torch.equal(m, hx[1])
    assert torch.equal(of_steps, hx[1].unsqueeze(1).expand_as(of_steps))
    got, expected = rnn(x, hx, **given)[0], OnReference(rnn, **given)(x, hx)[0]
    assert_same([got], [expected], F64)


class Chain(fastrnn.Cell):
    """A product of one gate at a time: stages of four slots and of five."""

    gates = "a b c d"
    late = ("a", "b", "c", "d")

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        return torch.tanh(getattr(u, "abcd"[stage - 1])) if stage else s.h

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.a + x.b + u.b) * torch.sigmoid(x.c + u.c) + x.d * u.d * s.h}


@pytest.mark.usefixtures("each_isa", "restore_threads")
def test_many_rows_meet_many_products():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rnn = fastrnn.Recurrent(Chain, 3, 130, dtype=F64)
    x = torch.randn(3, 150, 3, dtype=F64)
    assert_same([rnn(x)[0]], [OnReference(rnn)(x)[0]], F64)


@pytest.mark.usefixtures("each_isa")
def test_no_gradient_flows_to_what_is_detached():
    torch.manual_seed(0)
    rnn = fastrnn.Recurrent(Masked, 3, 5, dtype=F64)
    x, keep = torch.randn(6, 4, 3, dtype=F64), torch.rand(6, 4, 5, dtype=F64, requires_grad=True)
    h, m = (torch.rand(1, 4, 5, dtype=F64, requires_grad=True) for _ in "hm")
    y, (_, m_n) = rnn(x, (h, m), keep=keep)
    loss = y.sum() + (2 * m_n).sum()
    d_keep, d_m = torch.autograd.grad(loss, [keep, m])
    assert not d_keep.any()
    assert torch.equal(d_m, torch.full_like(m, 2.0))


def test_backward_has_no_instructions_for_what_is_detached():
    backward = lowered(trace(Masked, [True])).backward
    names = [(name, to) for stage in backward.stages for name, to, *_ in stage.code]
    assert not any(name == "add_d_extra" for name, _ in names)
    assert [to for name, to in names if name == "set_d_state"] == [0]


def test_the_engine_refuses_code_that_sets_a_held_state():
    known = engine_arguments(trace(Masked, [True]), 5)
    _core.Program(**known)
    stages = [(-1, 1, [("constant", 0, 0, 0, 0), ("set_state", 1, 0, 0, 0)])]
    with pytest.raises(ValueError, match="a number is out of range"):
        _core.Program(**{**known, "constants": [1.0], "forward": stages})
    with pytest.raises(ValueError, match="all states are held"):
        _core.Program(**{**known, "held": 2})
