"""Instructions that the kernels name are what their forms in plain C++ are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compiled import CSRC, program

import fastrnn

FLAGS = {
    "sse2": (16, ()),
    "avx2": (32, ("-mavx2", "-mfma")),
    "avx512": (64, ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl")),
    "neon": (16, ()),
    "generic": (16, ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", fastrnn.isa.available())
def test_sums_of_pairs_are_those_of_plain_integers(name: str) -> None:
    width, flags = FLAGS[name]
    own = ("-O2", "-Wno-psabi", f"-DFASTRNN_VECTOR_BYTES={width}", *flags)
    built = program(f"pairs_{name}", [CSRC / "testing" / "instructions" / "pairs.cpp"], own)
    done = subprocess.run([built], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


DOTS = {
    "avx2_vnni": "-mavxvnni",
    "avx512_vnni": "-mavx512vnni",
    "avx512_bf16": "-mavx512bf16",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", fastrnn.isa.available())
def test_dot_products_in_each_lane_are_those_of_plain_numbers(name: str) -> None:
    width, flags = FLAGS[name]
    here = [own.name for own in fastrnn.isa.extensions() if own.isa == name and own.available]
    more = [DOTS[own] for own in here if own in DOTS]
    own = ("-O2", "-Wno-psabi", f"-DFASTRNN_VECTOR_BYTES={width}", *flags, *more)
    built = program(f"dots_{name}", [CSRC / "testing" / "instructions" / "dots.cpp"], own)
    done = subprocess.run([built], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def tiles_built(name: str, isa: str, *more: str) -> Path:
    width, flags = FLAGS[isa]
    own = ("-O2", "-Wno-psabi", f"-DFASTRNN_VECTOR_BYTES={width}", *flags, *more)
    return program(name, [CSRC / "testing" / "instructions" / "tiles.cpp"], own)


@pytest.mark.slow
@pytest.mark.parametrize("name", fastrnn.isa.available())
def test_tiles_in_plain_code_are_loops_over_plain_numbers(name: str) -> None:
    built = tiles_built(f"tiles_{name}", name)
    done = subprocess.run([built], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


TILES = {"avx512_amx_int8", "avx512_amx_bf16"}


@pytest.mark.slow
def test_tiles_are_those_in_plain_code() -> None:
    if not {own.name for own in fastrnn.isa.extensions() if own.available} >= TILES:
        pytest.skip("no AMX: its instructions were not run")
    built = tiles_built("tiles_amx", "avx512", "-mamx-tile", "-mamx-int8", "-mamx-bf16")
    done = subprocess.run([built], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
