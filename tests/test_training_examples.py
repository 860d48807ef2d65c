"""The examples that train beat what costs no learning, and refuse data that are not right."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from torch.multiprocessing import ProcessRaisedException

from examples import (
    compare,
    direction,
    forecast,
    language_model,
    missing_values,
    rows_to_digit,
)

EXAMPLES = Path(__file__).parents[1] / "examples"


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def quick(example, out, *options):
    """Runs an example with `--quick`, and returns what it prints.

    The models are small: threads gain little, and on a busy machine they wait for each other.
    """
    threads, dtype, said = torch.get_num_threads(), torch.get_default_dtype(), io.StringIO()
    torch.set_num_threads(1)
    try:
        with redirect_stdout(said):
            example.main(["--quick", "--out", str(out), *options])
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
    return said.getvalue()


def check_last_line(said, metrics):
    expected = f"{metrics['name']}: {metrics['metric']} {metrics['value']:.4g}"
    assert said.splitlines()[-1] == expected


def check_same_curves(out):
    """In float64, where training has no rounding to amplify that would matter."""
    ours, theirs = (metrics_of(out / backend)["curves"] for backend in ("fastrnn", "torch"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        for curve in ("training", "validation"):
            np.testing.assert_allclose(
                ours[name][curve], theirs[name][curve], rtol=1e-7, err_msg=f"{name}, {curve}"
            )


@pytest.mark.slow
def test_forecasts_beat_the_season_before_with_either_cell(tmp_path):
    said = quick(forecast, tmp_path, "--epochs", "16")
    metrics = metrics_of(tmp_path)
    check_last_line(said, metrics)
    assert metrics["value"] < metrics["baseline"]
    for name, scores in metrics["details"].items():
        for cell in ("lstm", "gru"):
            assert scores[cell]["mse"] < scores["seasonal naive"]["mse"], name
    co2 = metrics["details"]["co2"]
    assert max(co2["lstm"]["mae"], co2["gru"]["mae"]) < co2["naive with drift"]["mae"]


@pytest.mark.slow
def test_gru_d_makes_more_of_a_series_with_gaps_than_a_gru_on_filled_ones(tmp_path):
    said = quick(missing_values, tmp_path)
    metrics = metrics_of(tmp_path)
    check_last_line(said, metrics)
    errors = metrics["details"]["mse"]
    assert 0.15 < metrics["details"]["seen"] < 0.25
    assert errors["GRU-D"] < errors["GRU on filled gaps"] < errors["last value seen"]


def test_gaps_say_what_was_seen_last_and_how_long_before():
    values = torch.tensor([[0.0, 2.0, 0.0, 0.0, 5.0, 0.0]])
    seen = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 0.0]])
    last, since = missing_values.gaps(values, seen)
    assert last.tolist() == [[0.0, 2.0, 2.0, 2.0, 5.0, 5.0]]
    assert since.tolist() == [[0.0, 1.0, 1.0, 2.0, 3.0, 1.0]]


@pytest.mark.slow
def test_direction_finds_a_rule_where_there_is_one_and_claims_none_for_prices(tmp_path):
    said = quick(direction, tmp_path, "--epochs", "8")
    metrics = metrics_of(tmp_path)
    check_last_line(said, metrics)
    control, prices = metrics["details"]["control"], metrics["details"]["prices"]
    assert control["low"] > control["majority"]
    assert prices["high"] >= prices["majority"]
    told = next(line for line in said.splitlines() if line.startswith("prices:"))
    if prices["low"] <= prices["majority"]:
        assert "nothing has been predicted" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "options"),
    [
        *((forecast, []), (direction, []), (missing_values, [])),
        (rows_to_digit, ["--hidden", "32"]),
    ],
    ids=["forecast", "direction", "missing_values", "rows_to_digit"],
)
def test_either_backend_learns_along_the_same_curve_with_the_same_masks(tmp_path, example, options):
    both = ("--backend", "both", "--double", "--epochs", "2")
    said = quick(example, tmp_path, *both, *options)
    check_last_line(said, metrics_of(tmp_path / "fastrnn"))
    check_same_curves(tmp_path)


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    """What the example prints, and where it writes: a regularised model, and the same without."""
    folder = tmp_path_factory.mktemp("language_models")
    rates = ("--weight-dropout", "0.3", "--zoneout", "0.05")
    options = ("--cell", "gru", "--prompt", "import ", "--epochs", "1", "--beside", "--formats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model.common, "RUNS", 1)
        return quick(language_model, folder, *options, *rates), folder


@pytest.mark.slow
def test_the_language_model_knows_more_than_frequencies_and_writes(language_models):
    said, folder = language_models
    metrics = metrics_of(folder)
    check_last_line(said, metrics)
    assert metrics["value"] < metrics["baseline"] / 2
    written = metrics["details"]["written"]
    assert len(written) == 400
    assert f"import {written}" in said
    assert (folder / "language_model.png").stat().st_size > 0


@pytest.mark.slow
def test_a_language_model_is_drawn_beside_the_same_without_regularisation(language_models):
    metrics = metrics_of(language_models[1])
    curves, alone = metrics["curves"]["text"], metrics["curves"]["without"]
    assert curves["training"] != alone["training"]
    assert max(metrics["value"], metrics["details"]["without"]) < metrics["baseline"] / 2


@pytest.mark.slow
def test_number_formats_cost_a_language_model_little(language_models):
    lines = metrics_of(language_models[1])["details"]["formats"]
    perplexity = {name: line["perplexity"] for name, line in lines.items()}
    assert perplexity["trained"] == perplexity["float32"] != perplexity["bfloat16"]
    assert perplexity["bfloat16"] == pytest.approx(perplexity["trained"], rel=0.003)
    assert perplexity["int8"] == pytest.approx(perplexity["trained"], rel=0.01)


def test_formats_are_those_of_float32(capsys):
    for example in (language_model, rows_to_digit):
        with pytest.raises(SystemExit):
            example.main(["--formats", "--double"])
        assert "frozen layers compute in float32" in capsys.readouterr().err


def test_torchs_layers_are_not_asked_for_what_they_have_not(capsys):
    for backend in ("torch", "both"):
        with pytest.raises(SystemExit):
            language_model.main(["--backend", backend, "--zoneout", "0.1"])
        assert "torch.nn has no layers with them" in capsys.readouterr().err


@pytest.mark.slow
def test_digits_read_row_by_row_are_told_in_98_of_100_cases(tmp_path):
    said = quick(rows_to_digit, tmp_path, "--cell", "gru", "--hidden", "64")
    metrics = metrics_of(tmp_path)
    check_last_line(said, metrics)
    assert metrics["value"] >= 0.98 > metrics["baseline"]


@pytest.mark.slow
def test_gated_cells_remember_what_a_plain_rnn_cannot(tmp_path):
    said = quick(compare, tmp_path, "--delay", "25", "--epochs", "10")
    metrics = metrics_of(tmp_path)
    check_last_line(said, metrics)
    accuracy = {name: line["accuracy"] for name, line in metrics["details"].items()}
    assert accuracy.keys() == {row.name for row in compare.ROWS}
    assert min(accuracy["LSTM"], accuracy["GRU"], accuracy["GRU, reset before"]) > 0.9
    assert accuracy["RNN"] < 0.5


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Options for a text of which two processes read all in 8 steps, each two windows in one."""
    folder = tmp_path_factory.mktemp("text")
    for part, text in language_model.standard_library(quick=True).items():
        characters = text[: 70_000 if part == "train" else 5_000]
        (folder / f"ptb.{part}.txt").write_text(characters, encoding="utf-8")
    return "--data", str(folder), "--level", "char"


def distributed(out, *options):
    """Arguments of the example."""
    return ["--quick", "--out", str(out), *options]


def losses_of(folder):
    return metrics_of(folder)["curves"]["text"]["training"]


def kill_a_rank_of_torchrun_after_the_first_checkpoint(arguments, out):
    """Run the example until there is a checkpoint, and end one of its processes unannounced."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", str(EXAMPLES / "distributed.py"), *arguments]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=one_thread, **silent) as agent:
        deadline = time.monotonic() + 100
        while not (out / "checkpoint.pt").exists():
            assert agent.poll() is None, "it ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.02)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
    assert agent.returncode != 0


@pytest.mark.slow
def test_a_run_that_is_killed_in_mid_epoch_goes_on_along_the_same_curve(text, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = (*text, "--steps", "24", "--save-every", "5")
    check_last_line(ranks.run_example(distributed(whole, *steps), 2), metrics_of(whole))
    assert metrics_of(whole)["value"] < metrics_of(whole)["baseline"]

    again = distributed(killed, *steps)
    kill_a_rank_of_torchrun_after_the_first_checkpoint(again, killed)
    assert not (killed / "metrics.json").exists()
    ranks.run_example(again, 2)
    details = metrics_of(killed)["details"]
    assert details["resumed"][0] % details["steps_an_epoch"] != 0
    assert losses_of(killed) == losses_of(whole)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_twice_the_windows(text, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    dry = (*text, "--dropout", "0", "--steps", "20")
    ranks.run_example(distributed(one, "--accumulate", "2", *dry), 1)
    ranks.run_example(distributed(two, "--accumulate", "1", *dry), 2)
    np.testing.assert_allclose(losses_of(two), losses_of(one), rtol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_that_is_broken_is_refused(text, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ProcessRaisedException, match="distributed: cannot go on from"):
        ranks.run_example(distributed(tmp_path, *text), 1)


def csv(folder, text):
    path = folder / "series.csv"
    path.write_text(text)
    return ["--csv", str(path), "--column", "value"]


def complaint(example, arguments):
    with pytest.raises(SystemExit) as caught:
        example.main(["--quick", *arguments])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No columns to parse"),
        ("other\n1\n", "expected a column 'value', found other"),
        ("value\n1\ntwo\n3\n", "expected numbers in column 'value', found 'two' in row 2"),
        ("value\n1\n\n2\n", "or more, found 2"),
    ],
)
@pytest.mark.parametrize(
    ("example", "more"),
    [(forecast, ["--season", "4"]), (direction, [])],
    ids=["forecast", "direction"],
)
def test_a_csv_file_that_is_not_a_series_is_refused(tmp_path, example, more, text, message):
    assert message in complaint(example, csv(tmp_path, text) + more)


def test_missing_files_are_named(tmp_path):
    nowhere = tmp_path / "nowhere"
    series = ["--csv", str(nowhere), "--column", "x"]
    assert str(nowhere) in complaint(direction, series)
    assert str(nowhere) in complaint(forecast, [*series, "--season", "4"])
    assert f"{nowhere}/ptb.train.txt" in complaint(language_model, ["--data", str(nowhere)])
    assert "train-images-idx3-ubyte" in complaint(rows_to_digit, ["--data", str(nowhere)])


@pytest.mark.parametrize(
    ("example", "option"),
    [
        (compare, "--delay"),
        (forecast, "--epochs"),
        (forecast, "--season"),
        (language_model, "--length"),
        (rows_to_digit, "--hidden"),
    ],
)
@pytest.mark.parametrize("text", ["0", "-1", "few"])
def test_counts_are_positive_numbers(capsys, example, option, text):
    complaint(example, [f"{option}={text}"])
    assert f"argument {option}: expected a positive number, got {text}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--dropout", "--weight-dropout", "--zoneout", "--seed"])
@pytest.mark.parametrize("text", ["-1", "few", "nan", str(2**32)])
def test_rates_and_seeds_are_such_before_the_training(capsys, option, text):
    complaint(language_model, [f"{option}={text}"])
    expected = "a number from 0 to 4294967295" if option == "--seed" else "a rate from 0 to less"
    assert f"argument {option}: expected {expected}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("example", "arguments", "message"),
    [
        (forecast, ["--column", "x"], "--column and --season: expected a file"),
        (forecast, ["--season", "4"], "--column and --season: expected a file"),
        (direction, ["--column", "x"], "--column: expected a file"),
        (language_model, ["--temperature", "nan"], "a positive temperature"),
    ],
)
def test_an_option_that_would_be_ignored_or_fail_late_is_refused(
    capsys, example, arguments, message
):
    complaint(example, arguments)
    assert message in capsys.readouterr().err


def test_results_go_into_a_folder_which_is_known_before_the_training(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    complaint(forecast, ["--out", str(file)])
    assert f"argument --out: expected a folder, got {file}" in capsys.readouterr().err


def test_prices_have_to_be_positive(tmp_path):
    rows = "\n".join(["value", *map(str, range(300))])
    assert "positive prices" in complaint(direction, csv(tmp_path, rows))


def test_a_text_that_is_no_text_or_too_short_is_refused(tmp_path):
    for part in language_model.PARTS:
        (tmp_path / f"ptb.{part}.txt").write_text("a few words\n")
    assert "tokens or more, found 4" in complaint(language_model, ["--data", str(tmp_path)])
    (tmp_path / "ptb.valid.txt").write_bytes(b"\xff\xfe")
    assert "utf-8" in complaint(language_model, ["--data", str(tmp_path)])


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def test_idx_files_are_read_gzipped_or_not_and_refused_if_cut_short(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(images))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(images)))
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(rows_to_digit.read_idx(tmp_path, name, 3), images)
    refused = {
        "short": (idx(images)[:-1], "expected 24 values"),
        "kind": (idx(images[0]), "expected an idx file"),
        "empty": (b"", "expected an idx file"),
        "unpacked.gz": (idx(images), "cannot read"),
        "cut.gz": (gzip.compress(idx(images))[:-9], "cannot read"),
    }
    for name, (data, message) in refused.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(rows_to_digit.DataFileError, match=message):
            rows_to_digit.read_idx(tmp_path, name.removesuffix(".gz"), 3)


def test_a_digit_for_every_image_is_asked_for(tmp_path):
    images = np.zeros((2, 3, 4), np.uint8)
    for part, digits in (("train", [1, 2]), ("t10k", [1, 11])):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        labels = np.array(digits, np.uint8)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    assert len(rows_to_digit.read_mnist(tmp_path, "train").classes) == 2
    with pytest.raises(rows_to_digit.DataFileError, match="found 2 up to 11"):
        rows_to_digit.read_mnist(tmp_path, "t10k")
