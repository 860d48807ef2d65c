"""Packages of AOTInductor: with the operators in Python, and by equations where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, OLD_TORCH, flat, input_of
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


def packaged(exported: Any, folder: Path) -> Path:
    path = folder / "model.pt2"
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(path),
            inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},  # sooner done
        )
    return path


def assert_computes(program: Any, layer: Any, *arguments: Any) -> None:
    with torch.no_grad():
        for got, expected in zip(flat(program(*arguments)), flat(layer(*arguments)), strict=True):
            torch.testing.assert_close(got, expected)


def exported(layer: Any, *arguments: Any, dims: Any = None) -> Any:
    return torch.export.export(layer.eval(), arguments, dynamic_shapes=dims)


def test_a_package_calls_the_operators_with_any_batch_and_time(tmp_path: Path) -> None:
    layer = WithKeywords(fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2))
    time, batch = Dim("time"), Dim("batch")
    program = exported(
        layer,
        torch.randn(5, 2, 3),
        torch.tensor([3, 5]),
        None,
        dims=({0: time, 1: batch}, {0: batch}, None),
    )
    path = packaged(program, tmp_path)
    package = torch._inductor.aoti_load_package(str(path))
    assert_computes(package, layer, torch.randn(5, 2, 3), torch.tensor([4, 5]), None)
    assert_computes(package, layer, torch.randn(9, 3, 3), torch.tensor([9, 0, 2]), None)

    alone = (
        "import sys, torch\n"
        f"load = lambda: torch._inductor.aoti_load_package({str(path)!r})\n"
        "try:\n"
        "    load()\n"
        "except RuntimeError as error:\n"
        "    assert 'Could not find schema for fastrnn::recurrence' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('it was loaded without operators')\n"
        "assert 'fastrnn' not in sys.modules\n"
        "import fastrnn.functional\n"
        "load()\n"
    )
    subprocess.run([sys.executable, "-c", alone], check=True)


def test_a_decomposed_package_needs_no_operator_of_ours(tmp_path: Path) -> None:
    layer = fastrnn.GRU(3, 4, bidirectional=True)
    program = exported(layer, torch.randn(2, 2, 3), dims=({1: Dim("batch")},))
    path = packaged(program.run_decompositions(fastrnn.decompositions()), tmp_path)
    x = torch.randn(2, 7, 3)
    torch.save(x, tmp_path / "x.pt")
    alone = (
        "import sys, torch\n"
        f"package = torch._inductor.aoti_load_package({str(path)!r})\n"
        f"x = torch.load({str(tmp_path / 'x.pt')!r})\n"
        f"torch.save(package(x)[0], {str(tmp_path / 'y.pt')!r})\n"
        "assert 'fastrnn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", alone], check=True)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), layer(x)[0].detach())


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
