"""Programs whose output is projected: the hidden state has other features than there are units."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from program_cells import GRU, LSTM, MGU
from test_program_engine import computed, drawn

import fastrnn
from fastrnn._autograd import eager
from fastrnn._call.arguments import Arguments
from fastrnn._call.spec import PLAIN, Spec
from fastrnn._program.tracing import trace


class PutOut(fastrnn.Cell):
    """Backward reads the new hidden state, as it was before the projection."""

    gates = "i f n"
    states = "h c"
    vectors = {"w": "unit"}  # noqa: RUF012
    inputs = "dt"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        f = torch.sigmoid(x.f + u.f + p.w * s.c)
        c = f * s.c + p.dt * torch.sigmoid(x.i + u.i) * (x.n + u.n)
        return {"h": torch.tanh(c), "c": c}


CELLS = {"LSTM": LSTM, "PutOut": PutOut}


def projected(cell: Any, H: int, P: int, layers: int = 1, both: bool = False) -> Spec:
    return Spec(trace(cell).text, 3, H, P, layers, both, True, 0.0, PLAIN)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@settings(max_examples=15)
@given(
    sizes=st.sampled_from(((3, 2), (9, 8), (21, 5), (66, 40))),
    T=st.integers(1, 4),
    B=st.integers(1, 9),
    stack=st.booleans(),
    ragged=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_projected_program_is_what_autograd_makes_of_its_equations(
    cell: Any,
    sizes: tuple[int, int],
    T: int,
    B: int,
    stack: bool,
    ragged: bool,
    seed: int,
    each_isa: str,
) -> None:
    torch.manual_seed(seed)
    spec = projected(cell, *sizes, 1 + stack, stack)
    call = drawn(spec, T, B, ragged=ragged)
    got, d_got = computed(spec, call, "cpu")
    expected, d_expected = computed(spec, call, "reference")
    for g, e in zip((*got, *d_got), (*expected, *d_expected), strict=True):
        torch.testing.assert_close(g, e, rtol=1e-9, atol=1e-10)


def test_the_equations_of_a_projected_program_are_torch_s() -> None:
    layer = torch.nn.LSTM(3, 8, proj_size=5, num_layers=2, bidirectional=True).double()
    spec = projected(LSTM, 8, 5, 2, True)
    call = drawn(spec, 4, 3, ragged=False)._replace(weights=list(layer.parameters()))
    y, (h_n, c_n) = layer(call.data, (call.hx, call.cx))
    got, _ = computed(spec, call._replace(weights=list(call.weights)), "reference")
    torch.testing.assert_close(got[:3], (y, h_n, c_n), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_rows_and_inference_give_the_bits_of_training_in_any_company(
    cell: Any, each_isa: str, restore_threads: None
) -> None:
    torch.manual_seed(0)
    spec, B = projected(cell, 40, 24, 2, True), 11
    call = drawn(spec, 3, B, ragged=False)
    together, d_together = computed(spec, call, "cpu")
    assert torch.equal(eager.run(spec, call).y, together.y)
    torch.set_num_threads(1)
    one_thread, d_one_thread = computed(spec, call, "cpu")
    for a, b in zip((*together, *d_together), (*one_thread, *d_one_thread), strict=True):
        assert torch.equal(a, b)
    alone, _ = computed(spec, _of_row(call, 5), "cpu")
    assert torch.equal(alone.y, together.y[:, 5:6])
    assert torch.equal(alone.h_all, together.h_all[:, :, 5:6])


def _of_row(call: Arguments, row: int) -> Arguments:
    own = slice(row, row + 1)
    data, hx, cx = call.data[:, own], call.hx[:, own], call.cx[:, own]
    return call._replace(data=data, hx=hx, cx=cx)


@pytest.mark.parametrize(
    ("cell", "words"),
    [(GRU, "reads the hidden state before"), (MGU, "one product, and a dense one")],
    ids=["GRU", "MGU"],
)
def test_a_projection_of_a_program_that_reads_the_hidden_state_is_refused(
    cell: Any, words: str
) -> None:
    spec = projected(cell, 8, 4)
    with pytest.raises(ValueError, match=words):
        eager.run(spec, drawn(spec, 2, 2, ragged=False))
