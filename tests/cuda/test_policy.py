"""Who computes a call on a GPU: the table's borders, the way to torch's layers, and explain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from cases import CELLS, LAYERS, Case, run, twins
from devices import on

import fastrnn
from fastrnn import __main__, _explain_gpu
from fastrnn._engine import cuda
from fastrnn._engine.cuda import choice, policy
from fastrnn._engine.setting import Setting
from fastrnn._layers import overrides

USUAL = policy.Call(90, "bfloat16", "lstm", T=256, B=16, I=512, H=512)
PERSISTENT = USUAL._replace(precision="float16")
SMALL = USUAL._replace(H=100)

# A call, what to change of it so that it just stays, and so that it goes to the other one
BORDERS: dict[str, tuple[policy.Call, str, dict[str, Any], dict[str, Any]]] = {
    "steps": (USUAL, "kernels", {"T": 32}, {"T": 31}),
    "units": (USUAL, "kernels", {"H": 2048}, {"H": 2049, "B": 1}),
    "multiplications": (USUAL, "kernels", {"H": 1024, "B": 64}, {"H": 1024, "B": 65}),
    "precision": (USUAL, "kernels", {"precision": "tf32"}, {"precision": "float64"}),
    "an older GPU": (USUAL, "kernels", {}, {"capability": 89}),
    "a newer GPU": (USUAL, "kernels", {}, {"capability": 100}),
    "few units, LSTM": (SMALL, "torch", {"H": 192}, {"H": 193}),
    "few units, GRU": (SMALL._replace(cell="gru"), "torch", {"H": 192}, {"H": 193}),
    "few units, RNN": (SMALL._replace(cell="rnn_tanh"), "torch", {"H": 384}, {"H": 385}),
    "few units, training": (SMALL._replace(training=True), "torch", {"H": 128}, {"H": 129}),
    "few units, training an RNN": (
        SMALL._replace(cell="rnn_relu", training=True),
        *("torch", {"H": 256}, {"H": 257}),
    ),
    "few units, packed": (SMALL, "torch", {"directions": 2}, {"packed": True}),
    "few units, projected": (SMALL, "torch", {"layers": 3}, {"projected": True}),
    "persistent, rows": (PERSISTENT, "torch", {"B": 128}, {"B": 136}),
    "persistent, rows of eight": (PERSISTENT, "torch", {"B": 8}, {"B": 12}),
    "persistent, features": (PERSISTENT, "torch", {"I": 128}, {"I": 129}),
    "persistent, no features": (PERSISTENT, "torch", {}, {"I": 0}),
    "persistent, units": (PERSISTENT, "torch", {"H": 1024}, {"H": 1152}),
    "persistent, units of 128": (PERSISTENT, "torch", {"H": 640}, {"H": 641}),
    "persistent, cell": (PERSISTENT, "torch", {}, {"cell": "gru"}),
    "persistent, precision": (PERSISTENT, "torch", {}, {"precision": "bfloat16"}),
    "persistent, directions": (PERSISTENT, "torch", {}, {"directions": 2}),
    "persistent, layers": (PERSISTENT, "torch", {}, {"layers": 2}),
    "persistent, packed": (PERSISTENT, "torch", {}, {"packed": True}),
}


@pytest.mark.parametrize("border", BORDERS)
def test_on_either_side_of_a_border(border: str) -> None:
    call, who, within, beyond = BORDERS[border]
    assert policy.row_of(call._replace(**within)).who == who
    assert policy.row_of(call._replace(**beyond)).who != who


def test_every_row_decides_something() -> None:
    calls = [call._replace(**d) for call, _, *both in BORDERS.values() for d in both]
    assert {id(policy.row_of(call)) for call in calls} == set(map(id, policy.TABLE))


# ---- calls ----


@contextmanager
def watched() -> Iterator[list[str]]:
    """The table decides, and the list says when it chose torch's layers."""
    by_torch = overrides.by_torch
    computed: list[str] = []
    choice._row.cache_clear()

    def spied(*arguments: Any) -> Any:
        computed.append("torch")
        return by_torch(*arguments)

    with (
        mock.patch.object(policy._SETTING, "chosen", None),
        mock.patch.object(overrides, "by_torch", spied),
    ):
        yield computed


def steps(T: int, B: int = 2) -> torch.Tensor:
    return torch.randn(T, B, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_what_goes_to_torch_is_torchs_bit_for_bit(kind: str) -> None:
    fast, plain = twins(kind)
    x = (torch.randn(2, 3) if kind in CELLS else steps(7)).requires_grad_()
    fast.to("cuda")
    with watched() as computed:
        got = run(fast, on("cuda", x), None)
    for ours, theirs in zip(got, run(plain, x, None), strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(ours, theirs, strict=True))
    assert computed == ["torch"]


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("form", ["dense", "batch first", "packed", "unbatched"])
def test_the_table_sees_the_steps_and_rows_of_every_form(form: str) -> None:
    """With a border between 31 and 32 steps, and one where few units are a batch's, not packed."""
    first = form == "batch first"
    for T, who in ((31, ["torch"]), (32, [] if form == "packed" else ["torch"])):
        lengths = (T,) if form == "unbatched" else (T, T)
        own = form if form in ("packed", "unbatched") else "dense"
        case = Case("GRU", lengths=lengths, form=own, batch_first=first, with_state=False)
        layer = case.build().to("cuda")
        with watched() as computed, mock.patch.object(policy, "row_of", wraps=policy.row_of) as row:
            layer(on("cuda", case.input()))
        assert computed == who
        (call,) = row.call_args.args
        assert (call.T, call.B, call.packed) == (T, len(lengths), form == "packed")


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
def test_what_only_the_kernels_can_stays_theirs() -> None:
    case = Case("GRU", with_state=False)
    layer, x = case.build().to("cuda"), on("cuda", case.input())
    expected = layer(x)[0]
    with watched() as computed:
        got = layer(x, lengths=[5, 5])[0]
        fastrnn.functional.gru(x, None, list(layer.parameters()))
        case.build(reverse=True).to("cuda")(x)
    assert torch.equal(got, expected)
    assert computed == []


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize(
    ("to", "who"), [("kernels", []), ("fastest", ["torch"]), ("torch", ["torch"] * 2)]
)
def test_somebody_may_choose(to: str, who: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = fastrnn.LSTM(3, 200).to("cuda"), on("cuda", steps(40))
    cell = fastrnn.LSTMCell(3, 4).to("cuda")

    def called() -> list[str]:
        with watched() as computed:
            fastrnn.set_cuda_policy(to)
            layer(x), cell(x[0])
        with watched() as by_environment:
            monkeypatch.setenv(policy.VARIABLE, to)
            layer(x), cell(x[0])
        assert by_environment == computed
        return computed

    assert called() == who


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
def test_without_cudnn_the_kernels_compute() -> None:
    layer, x = fastrnn.GRU(3, 4).to("cuda"), on("cuda", steps(5))
    with watched() as computed, torch.backends.cudnn.flags(enabled=False):
        layer(x)
    assert computed == []


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
def test_one_operation_is_seen_whoever_computes() -> None:
    layer, x = fastrnn.GRU(3, 4, dtype=torch.float64).to("cuda"), on("cuda", steps(5))
    x = x.double()
    expected = layer(x)[0]
    with watched() as computed:
        got = torch.func.vmap(lambda one: layer(one)[0])(x[None])[0]
    torch.testing.assert_close(got, expected)
    assert computed == []


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
def test_what_torch_refuses_it_refuses_in_its_own_words() -> None:
    fast, plain = twins("GRU")
    fast.to("cuda")
    for x in (torch.randn(5), torch.randn(5, 2, 7), torch.randn(5, 2, 3, 3)):
        with watched(), pytest.raises((RuntimeError, ValueError)) as ours:
            fast(on("cuda", x))
        with pytest.raises(ours.type) as theirs:
            plain(x)
        assert str(ours.value) == str(theirs.value)


def test_another_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="to: expected one of 'fastest', 'kernels', 'torch', got"):
        fastrnn.set_cuda_policy("cudnn")
    monkeypatch.setattr(policy._SETTING, "chosen", None)
    monkeypatch.setenv(policy.VARIABLE, "cudnn")
    with pytest.raises(ValueError, match=r"FASTRNN_CUDA_POLICY.*'cudnn'"):
        policy.chosen()


# ---- explain ----


GIVEN = "GRU T=9 B=4 I=7 H=33"


def explained(words: str) -> dict[str, Any]:
    cell, *options = words.split()
    with mock.patch.object(policy._SETTING, "chosen", None):
        return _explain_gpu.collect(_explain_gpu.parse(cell, options))


@pytest.mark.parametrize(
    ("words", "who"),
    [
        ("LSTM T=100 B=16 I=512 H=512 dtype=bfloat16", "kernels"),
        ("LSTM T=100 B=16 I=512 H=512 dtype=float16", "torch"),
        ("LSTM T=100 B=16 I=512 H=512 dtype=float16 bidirectional=1", "kernels"),
        ("LSTM T=100 B=16 I=512 H=512 dtype=float16 proj=8", "kernels"),
        ("GRU T=100 B=16 I=512 H=192 packed=1", "kernels"),
        ("GRU T=100 B=16 I=512 H=192 training=1", "kernels"),
        ("GRU T=100 B=16 I=512 H=192", "torch"),
        ("GRU T=100 B=16 I=512 H=512 capability=8.6", "torch"),
    ],
)
def test_explain_says_what_the_table_says(words: str, who: str) -> None:
    with mock.patch.object(cuda, "is_built", return_value=True):
        facts = explained(words)
        assert facts["computes"] == facts["table"]["computes"] == who
        assert facts["table"]["source"] == "estimated"
    facts = explained(words)
    assert facts["computes"] == ("torch" if not cuda.is_built() else who)


def test_explain_prints_it_and_refuses_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(cuda, "is_built", return_value=False):
        __main__.main(["explain", *f"{GIVEN} device=cuda capability=12.0".split()])
    text = capsys.readouterr().out
    assert "GRU T=9 B=4 I=7 H=33, 1 layer, tf32, inference, on a GPU of capability 12.0" in text
    assert "no GPU has measured it" in text
    assert "FASTRNN_CUDA=ON pip install" in text
    for words in (
        "capability=9",
        "capability=\u0669.0",
        "dtype=int8",
        "proj=3",
        "H=3",
        "heads=2",
        "packed=yes",
    ):
        with pytest.raises(SystemExit):
            __main__.main(["explain", *f"{GIVEN} device=cuda {words}".split()])
        assert words.split("=")[0] in capsys.readouterr().err


def test_explain_says_that_the_variable_has_none_of_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policy, "_SETTING", Setting(policy.VARIABLE, policy.CHOICES))
    monkeypatch.setenv(policy.VARIABLE, "quickest")
    with pytest.raises(SystemExit):
        __main__.main(["explain", *f"{GIVEN} device=cuda".split()])
    assert "explain: FASTRNN_CUDA_POLICY: expected one of" in capsys.readouterr().err


def test_a_call_of_no_gpu_has_no_such_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("device=tpu", "packed=1", "capability=9.0"):
        with pytest.raises(SystemExit):
            __main__.main(["explain", *f"{GIVEN} {words}".split()])
        assert words in capsys.readouterr().err or "tpu" in words
