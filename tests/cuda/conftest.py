"""Tests run on a GPU, where there is one, and with the same kernels emulated on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

import emulated
import pytest
from devices import products, why_no_gpu
from pretended import Pretended, pretended

from fastrnn._engine import backends, cuda
from fastrnn._engine.cuda import engine, policy


@pytest.fixture(autouse=True)
def kernels_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the policy gives to torch's layers: the kernels are what is tested here."""
    monkeypatch.setattr(policy._SETTING, "chosen", "kernels")


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
        mock.patch.object(engine, "handle_of_stream", return_value=0),
        backends.using("cuda"),
    ):
        yield "cpu"


@pytest.fixture
def pretence() -> Iterator[Pretended]:
    """A device "cuda" that is memory of the CPU, with the kernels emulated."""
    reason = emulated.missing()
    if reason:
        pytest.skip(reason)
    with pretended(_emulation()) as mode:
        yield mode


def _slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(params=["cuda", *_slow("emulation", "pretence")])
def device(request: pytest.FixtureRequest) -> str:
    """Where the tensors of a test go.

    A GPU; the CPU, with the kernels emulated; or the same CPU, as a device "cuda" of its own.
    """
    if request.param == "emulation":
        name: str = request.getfixturevalue("emulation")
        return name
    if request.param == "pretence":
        request.getfixturevalue("pretence")
        return "cuda"
    reason = why_no_gpu()
    if reason:
        pytest.skip(reason)
    return "cuda"


@pytest.fixture(params=["cuda", *_slow("emulation")])
def device_without_pretence(request: pytest.FixtureRequest) -> str:
    """The same for torch's compiler, which does not look into a mode that pretends.

    It also serves what takes long and asks for kernels alone: those of the pretence are the same.
    """
    return device.__wrapped__(request)


@pytest.fixture
def exact_products() -> Iterator[None]:
    """float32 is multiplied in float32 by our kernels, as it is by torch unless told otherwise."""
    with products("ieee"):
        yield
