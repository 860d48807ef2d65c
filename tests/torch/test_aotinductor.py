"""Packages of AOTInductor: with the operators in Python, and by equations where there is none."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, OLD_TORCH, flat, input_of
from new_process import run_python
from program_cells import layer_of
from torch import Tensor
from torch.export import Dim

import fastrnn

pytestmark = [
    pytest.mark.skipif(OLD_TORCH, reason="torch 2.6 packages otherwise"),
    pytest.mark.filterwarnings("ignore:`isinstance"),  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
]


class WithKeywords(torch.nn.Module):
    """A layer that is given ``lengths`` and ``resets``."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor | None, resets: Tensor | None) -> Any:
        return self.layer(x, lengths=lengths, resets=resets)


SOONER_DONE = {"compile_wrapper_opt_level": "O0", "precompile_headers": False}


def packaged(exported: Any, path: Path) -> Path:
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(path),
            inductor_configs={
                f"aot_inductor.{name}": value
                for name, value in SOONER_DONE.items()
                if hasattr(torch._inductor.config.aot_inductor, name)
            },
        )
    return path


def assert_computes(program: Any, layer: Any, *arguments: Any) -> None:
    with torch.no_grad():
        for got, expected in zip(flat(program(*arguments)), flat(layer(*arguments)), strict=True):
            torch.testing.assert_close(got, expected)


def exported(layer: Any, *arguments: Any, dims: Any = None) -> Any:
    return torch.export.export(layer.eval(), arguments, dynamic_shapes=dims)


@dataclass(frozen=True)
class Packages:
    """A package with our operators, one without, and where a process on its own has left y."""

    layer: WithKeywords
    path: Path
    decomposed: fastrnn.GRU
    x: Tensor
    y: Path
    said: subprocess.CompletedProcess[str]


ALONE = """
import sys, torch
path, decomposed, x, y = sys.argv[1:]
try:
    torch._inductor.aoti_load_package(path)
except RuntimeError as error:
    assert "Could not find schema for fastrnn::recurrence" in str(error), error
else:
    raise AssertionError("it was loaded without operators")
torch.save(torch._inductor.aoti_load_package(decomposed)(torch.load(x))[0], y)
assert "fastrnn" not in sys.modules
import fastrnn.functional
torch._inductor.aoti_load_package(path)
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Both packages, loaded in a process that knows nothing of fastrnn at first."""
    folder = tmp_path_factory.mktemp("packages")
    layer = WithKeywords(fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2))
    time, batch = Dim("time"), Dim("batch")
    program = exported(
        layer,
        torch.randn(5, 2, 3),
        torch.tensor([3, 5]),
        None,
        dims=({0: time, 1: batch}, {0: batch}, None),
    )
    path = packaged(program, folder / "operators.pt2")
    gru, x = fastrnn.GRU(3, 4, bidirectional=True), torch.randn(2, 7, 3)
    program = exported(gru, torch.randn(2, 2, 3), dims=({1: Dim("batch")},))
    program = program.run_decompositions(fastrnn.decompositions())
    decomposed = packaged(program, folder / "equations.pt2")
    torch.save(x, folder / "x.pt")
    files = (path, decomposed, folder / "x.pt", folder / "y.pt")
    said = run_python("-c", ALONE, *map(str, files))
    return Packages(layer, path, gru, x, folder / "y.pt", said)


def test_a_package_calls_the_operators_with_any_batch_and_time(packages: Packages) -> None:
    assert packages.said.returncode == 0, packages.said.stderr
    package = torch._inductor.aoti_load_package(str(packages.path))
    layer = packages.layer
    assert_computes(package, layer, torch.randn(5, 2, 3), torch.tensor([4, 5]), None)
    assert_computes(package, layer, torch.randn(9, 3, 3), torch.tensor([9, 0, 2]), None)


def test_a_decomposed_package_needs_no_operator_of_ours(packages: Packages) -> None:
    assert packages.said.returncode == 0, packages.said.stderr
    expected = packages.decomposed(packages.x)[0].detach()
    torch.testing.assert_close(torch.load(packages.y), expected)


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((kind, {}) for kind in (*LAYERS, *CELLS)),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2, "batch_first": True}),
    ("LSTM", {"peephole": "ifo", "cell_clip": 0.3, "reverse": True}),
    ("GRU", {"reset_after": False, "bias": False}),
)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_decompositions_are_the_equations(kind: str, options: dict[str, Any]) -> None:
    layer, x = getattr(fastrnn, kind)(3, 4, **options), input_of(kind)
    program = exported(layer, x).run_decompositions(fastrnn.decompositions())
    assert not any("fastrnn" in str(node.target) for node in program.graph.nodes)
    assert_computes(program.module(), layer, torch.randn_like(x))


@pytest.mark.parametrize("name", ["LSTM", "sLSTM", "MGU", "chained", "output of two states"])
def test_a_cell_of_one_s_own_is_decomposed(name: str) -> None:
    layer, x = layer_of(name, num_layers=2, dtype=torch.float32), torch.randn(4, 2, 3)
    program = exported(layer, x).run_decompositions(fastrnn.decompositions())
    assert not any("fastrnn" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(flat(*program.module()(x)), flat(*layer(x)))


@pytest.mark.parametrize("kind", LAYERS)
def test_decompositions_know_resets_and_lengths(kind: str) -> None:
    layer = WithKeywords(getattr(fastrnn, kind)(3, 4, num_layers=2, bidirectional=True))
    resets = torch.tensor([[0, 1], [1, 1]]) == 1
    for given in ((None, resets), (torch.tensor([2, 2]), None), (torch.tensor([2, 2]), resets)):
        program = exported(layer, torch.randn(2, 2, 3), *given)
        program = program.run_decompositions(fastrnn.decompositions())
        lengths = None if given[0] is None else torch.tensor([1, 0])
        assert_computes(program.module(), layer, torch.randn(2, 2, 3), lengths, given[1])


def test_a_dynamic_number_of_steps_is_not_decomposed() -> None:
    dynamic = exported(fastrnn.GRU(3, 4), torch.randn(5, 2, 3), dims=({0: Dim("time")},))
    with pytest.raises(RuntimeError, match="expected a fixed number of steps"):
        dynamic.run_decompositions(fastrnn.decompositions())
