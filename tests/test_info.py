"""``python -m fastrnn info``."""

from __future__ import annotations

import json

import pytest
import torch
from new_process import run_python

import fastrnn
from fastrnn import __main__, isa


def test_json_says_everything_that_a_report_needs(capsys):
    __main__.main(["info", "--json"])
    info = json.loads(capsys.readouterr().out)
    assert info["version"] == fastrnn.__version__
    assert info["compiler"]
    assert info["torch"] == torch.__version__
    assert info["threads"] == torch.get_num_threads()
    processors = info["processors"]
    assert processors["allowed"] >= 1
    assert processors["quota"] is None or processors["quota"] > 0
    assert info["isa"] == {
        "built": isa.built(),
        "available": isa.available(),
        "active": isa.active(),
        "error": None,
    }
    assert set(info["formats"]) == {"float32", "bfloat16", "int8"}
    assert info["extensions"] == [own._asdict() for own in fastrnn.isa.extensions()]
    assert info["cuda"]["built"] or info["cuda"]["reason"]


def test_text_says_the_same(capsys):
    __main__.main(["info"])
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    told = {name.strip(): value.strip() for name, value in lines.items()}
    assert told["fastrnn"] == fastrnn.__version__
    assert told["torch"] == torch.__version__
    assert told["threads"].startswith(f"{torch.get_num_threads()}, ")
    assert (fastrnn._core.build_info()["openmp"] or "the engine's own") in told["threads"]
    assert told["processors"].startswith(str(fastrnn._core.processors()["usable"]))
    assert told["isa active"] == isa.active()
    assert told["isa available"].split() == isa.available()
    assert told["formats"].startswith("float32 (")
    for own in fastrnn.isa.extensions():
        assert own.name in told["extensions"]
    assert told["cuda"].startswith(("built for ", "not built: "))


def test_the_module_runs_as_a_command():
    result = run_python("-m", "fastrnn", "info", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["isa"]["built"] == isa.built()


def test_nonsense_in_the_environment_is_reported_and_not_raised():
    result = run_python("-m", "fastrnn", "info", FASTRNN_ISA="nonsense")
    assert result.returncode == 0, result.stderr
    assert "nonsense" in result.stdout
    assert all(name in result.stdout for name in isa.available())


def test_no_command_is_an_error_with_usage():
    with pytest.raises(SystemExit):
        __main__.main([])
