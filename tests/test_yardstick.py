"""The limit that shares refer to: which products are candidates, and which of them is chosen."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import engine
import pytest
import torch
from cases import assert_near
from stand_ins import BRIEF, without_pauses

from benchmarks import in_cache, yardstick
from benchmarks.timing import Call, Rounds
from benchmarks.yardstick import Product, chosen_yardsticks, fastest

OWN = "own kernel in cache"


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
    monkeypatch.setattr(yardstick, "SIZE", 32)
    monkeypatch.setattr(yardstick, "_PROBE", BRIEF)
    monkeypatch.setattr(in_cache, "_BRIEF", BRIEF)


@pytest.fixture
def _binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead this process, and those that it starts, to the tests' module."""
    module = engine.probe()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    folder = str(Path(module.__file__).parent)
    paths = (folder, os.environ.get("PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


needs_binding = pytest.mark.usefixtures("_binding")


class Told:
    """A clock that believes what a call returns."""

    def each(self, call: Call, calls: int) -> tuple[float, ...]:
        return tuple(call() for _ in range(calls))

    def settle(self) -> None:
        """Nothing goes on after a call."""


def names(dtype: str) -> set[str]:
    with ExitStack() as stack:
        return set(yardstick._candidates(dtype, "cpu", stack))  # type: ignore[arg-type]


def test_the_highest_rate_is_chosen_and_not_the_shortest_call() -> None:
    products = {
        "short": Product(lambda: 1.0, flops=2e9),
        "long": Product(lambda: 4.0, flops=20e9),
        "middling": Product(lambda: 2.0, flops=6e9),
    }
    found = fastest(products, Told())
    assert found.name == "long"
    assert found.product is products["long"]
    assert found.probed_gflops == {"short": 2.0, "long": 5.0, "middling": 3.0}


@needs_binding
@pytest.mark.slow
def test_candidates_are_torchs_product_onednns_and_the_engines() -> None:
    assert names("float32") == {"torch.mm", "oneDNN", OWN}
    assert names("float64") == {"torch.mm", OWN}


def test_a_build_without_the_binding_does_without_the_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> Callable[..., None]:
        raise ImportError

    monkeypatch.setattr(in_cache, "_multiply", absent)
    assert in_cache.active_isa() is None
    assert names("float32") == {"torch.mm", "oneDNN"}


@pytest.mark.parametrize("packed", [True, False])
def test_onednns_product_is_onednns_and_right(
    packed: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not packed:
        monkeypatch.setattr(yardstick.torch.ops, "mkldnn", SimpleNamespace())
    a, b = torch.randn(2, 32, 32).unbind()
    call = yardstick._onednn_product(a, b)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        found = call()
    ctypes.CDLL(None).fflush(None)
    assert "exec,cpu,inner_product" in capfd.readouterr().out
    dense = found.to_dense() if found.is_mkldnn else found
    assert_near(dense, a @ b.T, a.shape[1], 1)


@needs_binding
@pytest.mark.parametrize("dtype", in_cache.DTYPES)
def test_the_engines_product_is_the_product_of_its_operands(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply, addresses = in_cache._multiply(), []

    def noted(*arguments: int) -> None:
        addresses.extend(arguments[2:5])
        multiply(*arguments)

    monkeypatch.setattr(in_cache, "_multiply", lambda: noted)
    product = in_cache._product(in_cache.active_isa() or "", dtype)
    product(in_cache.ROWS)
    sizes = [(in_cache.ROWS, in_cache.K), (in_cache.K, in_cache.COLUMNS)]
    a, b, c = (
        torch.frombuffer(
            (ctypes.c_char * (rows * columns * getattr(torch, dtype).itemsize)).from_address(at),
            dtype=getattr(torch, dtype),
        ).view(rows, columns)
        for at, (rows, columns) in zip(
            addresses, [*sizes, (in_cache.ROWS, in_cache.COLUMNS)], strict=True
        )
    )
    assert a.count_nonzero() == a.numel()
    assert_near(c, a @ b, in_cache.K, 1)


@needs_binding
def test_packing_is_not_counted_as_the_kernels_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = {"all": Rounds(((10.0,),)), "one": Rounds(((1.0,),))}
    monkeypatch.setattr(in_cache, "take_turns", lambda *_: timed)
    rows, K, columns = in_cache.ROWS, in_cache.K, in_cache.COLUMNS
    counted = in_cache.flops(in_cache.active_isa() or "", "float32")
    assert counted / 10.0 == pytest.approx(2 * (rows - 1) * K * columns / (10.0 - 1.0))


@needs_binding
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_every_process_of_a_team_computes_and_ends_with_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = []
    send = in_cache._send

    def noted(member: in_cache.Companion, products: int) -> None:
        members.append(member)
        send(member, products)

    def computed_s(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    monkeypatch.setattr(in_cache, "_send", noted)
    with in_cache.team(in_cache.active_isa() or "", "float32", 2) as compute:
        first, second = members
        before = [computed_s(member.pid) for member in (first, second)]
        compute(2000)
        after = [computed_s(member.pid) for member in (first, second)]
    assert all(late - early > 0.1 for early, late in zip(before, after, strict=True))
    assert None not in (first.returncode, second.returncode)


@needs_binding
@pytest.mark.slow
def test_the_chosen_product_is_one_of_the_probed_and_can_be_called() -> None:
    with chosen_yardsticks(["float32"]) as found:
        best = found["float32"]
        assert best.name == max(best.probed_gflops, key=lambda name: best.probed_gflops[name])
        assert best.probed_gflops.keys() == {"torch.mm", "oneDNN", OWN}
        best.product.call()
        # Two operations for each multiply-add; what packs at every call is credited for it.
        assert best.product.flops >= 2 * min(32**3, in_cache.MULTIPLY_ADDS)
