"""Tests run on a GPU, where there is one, and with the same kernels emulated on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from unittest import mock

import emulated
import pytest
from devices import products, why_no_gpu

from fastrnn._engine import backends, cuda
from fastrnn._engine.cuda import passes


@cache
def _emulation() -> ModuleType:
    return emulated.load()


@pytest.fixture
def emulation() -> Iterator[str]:
    """Tensors on the CPU go the way of CUDA tensors, into the emulated kernels."""
    reason = emulated.missing()
    if reason:
        pytest.skip(reason)
    module = _emulation()
    with (
        mock.patch.object(cuda, "extension", return_value=module),
        mock.patch.object(passes, "stream_of", return_value=module.Stream(0, 0)),
        backends.using("cuda"),
    ):
        yield "cpu"


@pytest.fixture(params=["cuda", pytest.param("emulation", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> str:
    """Where the tensors of a test go: a GPU, or the CPU with the kernels emulated."""
    if request.param == "emulation":
        name: str = request.getfixturevalue("emulation")
        return name
    reason = why_no_gpu()
    if reason:
        pytest.skip(reason)
    return "cuda"


@pytest.fixture
def exact_products() -> Iterator[None]:
    """float32 is multiplied in float32 by our kernels, as it is by torch unless told otherwise."""
    with products("ieee"):
        yield
