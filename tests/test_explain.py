"""`python -m fastrnn explain`: what would run and why, and mistakes in what it is asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from new_process import run_python

import fastrnn
from fastrnn import __main__, _core, _explain, isa

ISAS = (Path(__file__).parent.parent / "cmake" / "isa.cmake").read_text()
VECTOR_BYTES = {name: int(size) for name, size in re.findall(r"add_isa\((\w+) (\d+)", ISAS)}


def explained(words: str) -> dict[str, Any]:
    """What is said of a call, on two threads unless it says otherwise."""
    cell, *options = words.split()
    if "threads=" not in words:
        options.append("threads=2")
    return _explain.collect(_explain.parse(cell, options))


def crews(layer: dict[str, Any]) -> list[int]:
    return [crew["threads"] for crew in layer["crews"]]


def test_a_single_step_of_one_thread_asks_no_cost_model() -> None:
    facts = explained("LSTM T=1 B=1 I=64 H=128 threads=1 training=1")
    assert facts["weights_once"]
    assert facts["weights_in_place"]
    (forward,), (backward,) = facts["forward"], facts["backward"]
    (crew,) = forward["crews"]
    assert crew["fused"] == {"yes": True, "reason": "weights once", "cycles": 0, "instead": 0}
    assert facts["threads"]["cycles"] == crew["cycles"] == backward["crews"][0]["cycles"] == 0


def test_two_directions_of_a_single_step_run_side_by_side() -> None:
    facts = explained("GRU T=1 B=40 I=600 H=600 bidirectional=1 threads=3 training=1")
    (forward,) = facts["forward"]
    assert forward["side_by_side"]["reason"] == "weights once"
    assert crews(forward) == [2, 1]
    assert [crew["unit_groups"] for crew in forward["crews"]] == [2, 1]


def test_steps_whose_few_rows_read_weights_in_place_do_not_claim_to_read_them_once() -> None:
    facts = explained("GRU T=3 B=2 I=600 H=600 bidirectional=1 training=1")
    assert facts["weights_in_place"]
    assert not facts["weights_once"]
    (backward,) = facts["backward"]
    assert crews(backward) == [1, 1]
    assert backward["side_by_side"]["reason"] == "few rows"
    assert "a direction each: few rows meet the weights" in _explain.as_text(facts)


def test_two_directions_that_outgrow_the_caches_take_turns() -> None:
    (layer,) = explained("LSTM T=9 B=6 I=3000 H=3000 bidirectional=1")["forward"]
    choice = layer["side_by_side"]
    assert not choice["yes"]
    assert choice["reason"] == "cycles"
    assert choice["cycles"] < choice["instead"]
    assert crews(layer) == [2]


def test_threads_without_a_part_in_the_steps_project_meanwhile() -> None:
    (layer,) = explained("LSTM T=1000 B=1 I=100 H=16")["forward"]
    (crew,) = layer["crews"]
    assert (crew["row_groups"], crew["unit_groups"]) == (1, 1)
    assert not crew["fused"]["yes"]
    assert 0 < crew["piece_steps"] < crew["helped_steps"] <= crew["block_rows"] // 2


def test_what_runs_within_the_step_is_the_cheaper_way() -> None:
    for words in ("LSTM T=30 B=48 I=128 H=128", "LSTM T=30 B=1 I=128 H=128"):
        (layer,) = explained(words)["forward"]
        choice = layer["crews"][0]["fused"]
        assert choice["yes"] == (words.split()[2] == "B=48")
        assert choice["cycles"] <= choice["instead"]
        assert bool(layer["crews"][0]["block_rows"]) != choice["yes"]


def test_an_input_without_features_leaves_no_choice() -> None:
    (layer,) = explained("RNN T=9 B=8 I=0 H=64")["forward"]
    choice = layer["crews"][0]["fused"]
    assert not choice["yes"]
    assert choice["reason"] == "no choice"


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("words", ["LSTM T=1 B=1 I=2 H=2", "GRU T=50 B=64 I=64 H=650"])
def test_no_more_threads_than_are_offered_or_worth_it(words: str, threads: int) -> None:
    facts = explained(f"{words} bidirectional=1 layers=3 training=1 threads={threads}")
    used = facts["threads"]["used"]
    assert used == (1 if words.startswith("LSTM") else threads)
    for layer in facts["forward"] + facts["backward"]:
        assert sum(crews(layer)) == used
        for crew in layer["crews"]:
            assert crew["row_groups"] * crew["unit_groups"] <= crew["threads"]


def test_layers_above_the_first_have_their_own_panels_and_decisions() -> None:
    facts = explained("LSTM T=9 B=20 I=3000 H=32 layers=3")
    first, second, third = facts["panels"]["bytes"]
    assert first > second == third
    first, second, third = facts["forward"]
    assert first != second == third


@pytest.mark.parametrize("name", isa.built())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_panels_are_as_wide_as_the_vectors_of_the_instruction_set(name: str, dtype: str) -> None:
    panels = explained(f"LSTM T=9 B=4 I=7 H=33 dtype={dtype} isa={name}")["panels"]
    assert panels["units"] == VECTOR_BYTES[name] // (4 if dtype == "float32" else 8)
    assert panels["count"] == -(-33 // panels["units"])
    assert panels["columns"] == 4 * panels["units"]


def test_inference_keeps_nothing_and_has_no_backward() -> None:
    facts = explained("LSTM T=9 B=4 I=7 H=33")
    assert facts["backward"] == []
    assert facts["memory"]["saved"] == facts["memory"]["backward_workspace"] == 0


def test_memory_is_what_a_call_takes() -> None:
    facts = explained("LSTM T=9 B=4 I=7 H=33 training=1 proj=5")
    kept = 9 * 4 * 33 * (4 + 1 + 1) * 4  # gates, cell and hidden states, float32
    assert kept < facts["memory"]["saved"] < 2 * kept


def test_text_says_what_the_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    words = "LSTM T=9 B=4 I=7 H=300 layers=3 bidirectional=1 training=1 threads=2"
    __main__.main(["explain", *words.split(), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts == explained(words)
    for where in (0, 1, 4):  # --json may stand anywhere
        __main__.main(["explain", *words.split()[:where], "--json", *words.split()[where:]])
        assert json.loads(capsys.readouterr().out) == facts
    __main__.main(["explain", *words.split()])
    text = capsys.readouterr().out
    assert "LSTM T=9 B=4 I=7 H=300, 3 layers of two directions, float32, training" in text
    assert f"{facts['threads']['used']} of 2 offered" in text
    for layer in facts["forward"] + facts["backward"]:
        for crew in layer["crews"]:
            assert f"{round(crew['cycles']):,} cycles each" in text
    assert "forward, layers 1 to 2" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("LSTM T=1 B=1 I=1 H=500 threads=1", "1 of 1 offered\n"),
        ("LSTM T=1 B=1 I=1 H=1", "1 of 2 offered: waking more would cost more"),
        ("LSTM T=1 B=1 I=8 H=8", "read where they lie: a single row"),
        ("LSTM T=1 B=2 I=8 H=8", "packed, used and forgotten: a single step"),
        ("LSTM T=1 B=2 I=8 H=8 training=1", "read where they lie: few tiles of rows"),
        ("LSTM T=99 B=9 I=8 H=8 training=1", "kept for backward"),
        ("LSTM T=1 B=1 I=8 H=8 bidirectional=1 threads=1", "there is one thread"),
        ("LSTM T=1 B=9 I=900 H=900 bidirectional=1", "a direction each: each weight is used once"),
        ("LSTM T=9 B=6 I=3000 H=3000 bidirectional=1", "both directions in turn"),
        ("LSTM T=1000 B=1 I=100 H=16", "by threads without a part in the steps"),
        ("LSTM T=30 B=1 I=128 H=128 threads=1", "rows of each group at a time"),
        ("RNN T=9 B=8 I=0 H=64", "has no features"),
        ("LSTM T=9 B=2 I=8 H=64 proj=7 dtype=float64", "H=64 proj=7, 1 layer, float64"),
    ],
)
def test_every_reason_is_told(words: str, told: str) -> None:
    assert told in _explain.as_text(explained(words)) + "\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "LSMT T=1 B=1 I=1 H=1",
            "expected LSTM, GRU, RNN or MODULE:CELL as fastrnn.cells:MGU, got",
        ),
        ("nowhere:A T=1 B=1 I=1 H=1", "cell: nowhere:A: No module named 'nowhere'"),
        ("fastrnn.cells:A T=1 B=1 I=1 H=1", "cell: fastrnn.cells:A: module 'fastrnn.cells' has no"),
        ("json:dumps T=1 B=1 I=1 H=1", "json:dumps: expected a fastrnn.Cell, got function"),
        ("fastrnn.cells:SLSTM T=1 B=1 I=1 H=4", "SLSTM.recurrent is 'heads', so num_heads must"),
        ("fastrnn.cells:MGU T=1 B=1 I=1 H=4 heads=2", "MGU.recurrent must be 'heads' to take it"),
        ("fastrnn.cells:SLSTM T=1 B=1 I=1 H=4 heads=3", "H: expected a multiple of the 3 heads"),
        ("fastrnn.cells:MGU T=1 B=1 I=1 H=4 proj=2", "proj: expected an LSTM to have one, got"),
        ("LSTM T=1 B=1 I=1 H=4 heads=2", "heads: expected a cell of heads, got LSTM"),
        ("LSTM T=1 I=1", "expected T, B, I and H, got no B and no H"),
        ("LSTM T=1 B=1 I=1 H=1 K=3", "NAME one of T, B, I, H, layers, bidirectional"),
        ("LSTM T=1 B=1 I=1 H=1 T=2", "T: expected once, got it twice"),
        ("LSTM T=0 B=1 I=1 H=1", "T: expected a whole number from 1 to 10000000, got '0'"),
        ("LSTM T=1 B=-1 I=1 H=1", "B: expected a whole number from 1 to 10000000, got '-1'"),
        ("LSTM T=1 B=1 I=1.5 H=1", "I: expected a whole number from 0 to 10000000, got '1.5'"),
        ("LSTM T=1 B=1 I=1 H=", "H: expected a whole number from 1 to 10000000, got ''"),
        (f"LSTM T=1 B=1 I=1 H={'9' * 5000}", "H: expected a whole number from 1 to 10000000"),
        ("LSTM T=9999999 B=9999999 I=1 H=1", "expected a call that fits into memory"),
        ("LSTM T=1 B=1 I=1 H=9999999", "expected a call that fits into memory"),
        ("LSTM T=1 B=1 I=1 H=4 proj=4", "proj: expected less than H=4, got 4"),
        ("GRU T=1 B=1 I=1 H=4 proj=2", "proj: expected an LSTM to have one, got GRU"),
        ("LSTM T=1 B=1 I=1 H=1 bidirectional=2", "bidirectional: expected 0 or 1, got '2'"),
        ("LSTM T=1 B=1 I=1 H=1 dtype=half", "dtype: expected float32 or float64, got 'half'"),
        ("LSTM T=1 B=1 I=1 H=1 isa=mmx", f"isa: expected one of {', '.join(isa.built())}, got"),
        ("LSTM T=1 B=1 I=1 H=1 threads=0", "threads: expected a whole number from 1 to 1024"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["explain", *words.split()])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("python -m fastrnn explain: ")
    assert told in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("words", ["info now", "explain LSTM T=1 --jsn", "info --json T=1"])
def test_words_that_no_command_takes_are_refused(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        __main__.main(words.split())
    assert f"unrecognized arguments: {words.split()[-1]}" in capsys.readouterr().err


def test_help_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--help"])
    assert "`" not in capsys.readouterr().out


def test_a_cell_that_is_a_program_is_planned_and_its_program_printed() -> None:
    words = "fastrnn.cells:MGU T=9 B=20 I=7 H=33 layers=2 bidirectional=1 training=1"
    facts = explained(words)
    program = fastrnn.Recurrent(fastrnn.cells.MGU, 7, 33).program
    assert facts["program"] == str(program).splitlines()
    assert "forward, 19 instructions:" in facts["program"]
    assert "    d_operand1 = U^T @ d_u.n" in facts["program"]
    text = _explain.as_text(json.loads(json.dumps(facts)))
    assert "fastrnn.cells:MGU T=9 B=20 I=7 H=33, 2 layers of two directions" in text
    assert "units for each slot" in text
    assert text.endswith(f"\n\n{program}")
    kept_for_each_unit = 3  # x.n, f and n
    rows = 9 * 20 * 2 * 2
    assert facts["memory"]["saved"] > rows * (kept_for_each_unit + 1) * 33 * 4
    assert explained("GRU T=9 B=20 I=7 H=33")["program"] is None


def test_heads_cost_their_own_work() -> None:
    dense, heads = (
        explained(f"fastrnn.cells:SLSTM T=9 B=64 I=8 H=512 heads={heads}") for heads in (1, 8)
    )
    assert heads["threads"]["cycles"] < dense["threads"]["cycles"] / 2
    assert "H=512 heads=8, 1 layer" in _explain.as_text(heads)


def test_an_instance_of_a_cell_is_a_cell_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastrnn.cells, "chosen", fastrnn.cells.CoRNN(dt=0.25), raising=False)
    lines = explained("fastrnn.cells:chosen T=9 B=2 I=8 H=8")["program"]
    assert lines[0] == "CoRNN: gates y z; states y z"
    assert any("0.25" in line for line in lines)


def test_threads_are_those_of_torch_and_the_instruction_set_the_active_one() -> None:
    call = _explain.parse("GRU", ["T=1", "B=1", "I=1", "H=1"])
    assert call["threads"] == torch.get_num_threads()
    assert call["isa"] == isa.active() == _core.isa_active()


def test_it_works_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fastrnn.__main__ import main; main(['explain', 'GRU', 'T=5', 'B=2', 'I=3', 'H=4'])"
    )
    done = run_python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "GRU T=5 B=2 I=3 H=4" in done.stdout
    code = code.replace("'GRU'", "'fastrnn.cells:MGU'")
    done = run_python("-c", code)
    assert done.returncode == 2
    assert done.stderr.startswith("python -m fastrnn explain: cell: fastrnn.cells:MGU: ")
    assert "torch" in done.stderr
