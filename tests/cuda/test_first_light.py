"""The script for a machine with a GPU does all that it can do without one, and notices mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import first_light
import pytest

SCRIPT = Path(__file__).parent / "run_all.sh"


@pytest.mark.slow
def test_a_dry_run_says_and_saves_what_it_found(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = ["bash", str(SCRIPT), "--dry-run", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = (tmp_path / "results" / "2-smoke.txt").read_text()
    assert "float64   LSTM 40 33 both" in saved
    assert saved in done.stdout
    assert len(list((tmp_path / "results").iterdir())) <= 8


@pytest.mark.slow
@pytest.mark.usefixtures("pretence")
def test_the_smoke_runs_every_precision_through_the_cuda_path(capsys):
    with mock.patch.object(first_light, "SHAPES", [(40, 5, 3, True)]):
        first_light.smoke("cuda", time.monotonic() + 60)
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(first_light.DTYPES) * len(first_light.LAYERS)
    assert [line for line in lines if not line.endswith(" right")] == []


def test_a_wrong_result_is_said_to_be_wrong(capsys):
    with (
        mock.patch.object(first_light, "DTYPES", {"float64": first_light.DTYPES["float64"]}),
        mock.patch.object(first_light, "error", side_effect=[1e-16, 1e-9] * 20),
    ):
        first_light.smoke("cpu", time.monotonic() + 60)
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.endswith("1.0e-16 1.0e-09 WRONG") for line in lines)


def test_one_failure_stops_nothing(capsys):
    with mock.patch.object(first_light, "microseconds", side_effect=RuntimeError("no\nGPU")):
        first_light.speed("cuda", time.monotonic() + 60)
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(first_light.POINTS)
    assert all("FAILED RuntimeError no GPU" in line for line in lines)


def test_what_there_is_no_time_for_is_counted(capsys):
    first_light.speed("cuda", time.monotonic() - 1)
    points = len(first_light.POINTS)
    assert f"out of time: {points} of {points} are left out" in capsys.readouterr().out
