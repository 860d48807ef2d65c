"""Which processor a committed results file is of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.results import processors_of

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", re.M)


def test_the_readme_names_the_processor_of_every_results_file() -> None:
    found = processors_of(BENCHMARKS / "results")
    assert found
    rows = ROW.findall((BENCHMARKS / "README.md").read_text(encoding="utf-8"))
    assert [(name, {cpu}) for name, cpu in rows] == sorted(found.items())


def test_a_processor_is_what_stands_between_grid_and_instruction_set(tmp_path: Path) -> None:
    def write(name: str, cpu: str) -> None:
        text = json.dumps({"machine": {"cpu": cpu}, "points": []})
        tmp_path.joinpath(name).write_text(text, encoding="utf-8")

    write("cudnn-quick-some-gpu-avx2-16threads.json", "a")
    write("cudnn-some-gpu-avx512-2threads.json", "b")
    write("frozen-small-some-gpu-avx2-16threads.json", "a")
    write("busy-arm-neoverse-neon-4threads.json", "c")
    assert processors_of(tmp_path) == {"some-gpu": {"a", "b"}, "arm-neoverse": {"c"}}


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("peers.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected GRID-PROCESSOR-ISA-Nthreads.json, got peers"):
        processors_of(tmp_path)
