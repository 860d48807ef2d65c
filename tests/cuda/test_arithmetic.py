"""The arithmetic under the kernels that needs no GPU: tiling, and conversions of 16-bit numbers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from compiled import CSRC, compiler

HERE = Path(__file__).parent
HOST = [compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
NVCC = shutil.which("nvcc")

needs_compiler = pytest.mark.skipif(shutil.which(compiler()) is None, reason="no C++ compiler")


def compiled(command, source, target):
    whole = [*command, f"-I{CSRC}", str(HERE / source), "-o", str(target)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@needs_compiler
def test_tiling_covers_every_element_once(tmp_path):
    compiled([*HOST, "-c"], "tiling.cpp", tmp_path / "tiling.o")


@pytest.mark.skipif(NVCC is None, reason="no nvcc")
def test_tiling_is_the_same_to_nvcc(tmp_path):
    flags = ["-std=c++17", "-x", "cu", "-arch=sm_80", "-c"]
    compiled([str(NVCC), *flags], "tiling.cpp", tmp_path / "tiling.o")


@pytest.fixture(scope="module")
def conversions(tmp_path_factory):
    target = tmp_path_factory.mktemp("numbers") / "numbers.so"
    return ctypes.CDLL(str(compiled([*HOST, "-shared", "-fPIC"], "numbers.cpp", target)))


def converted(function, values, dtype):
    out = torch.empty(values.shape, dtype=dtype)
    pointers = (ctypes.c_void_p(t.data_ptr()) for t in (values, out))
    function(*pointers, ctypes.c_int64(values.numel()))
    return out


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), [("half", torch.float16), ("bfloat16", torch.bfloat16)])
def test_every_16_bit_number_becomes_the_float_that_torch_makes_of_it(conversions, name, dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    got = converted(getattr(conversions, f"{name}_to_float"), every, torch.float32)
    torch.testing.assert_close(got, every.view(dtype).float(), rtol=0, atol=0, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), [("half", torch.float16), ("bfloat16", torch.bfloat16)])
def test_floats_round_to_16_bits_as_torch_rounds_them(conversions, name, dtype):
    anything = torch.randint(-(2**31), 2**31 - 1, (1 << 20,)).to(torch.int32).view(torch.float32)
    near = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    halfway = (near[:-1] + near[1:]) / 2  # ties, between all neighbours
    values = torch.cat([anything, near, halfway, near * (1 + 2**-20), near * (1 - 2**-20)])
    got = converted(getattr(conversions, f"float_to_{name}"), values, torch.int16).view(dtype)
    torch.testing.assert_close(got, values.to(dtype), rtol=0, atol=0, equal_nan=True)
