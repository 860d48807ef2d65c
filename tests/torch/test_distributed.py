"""DDP and FSDP2 over two processes: the training of one process with the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
import torch.distributed as dist
from cases import LAYERS, OLD_TORCH, assert_same
from program_cells import LSTM
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import fastrnn

WORLD = 2
CELL = "LSTM that somebody writes"
KINDS = (*LAYERS, CELL)


def model_of(module: Any, kind: str) -> torch.nn.Sequential:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    if kind == CELL and module is fastrnn:
        return torch.nn.Sequential(fastrnn.Recurrent(LSTM, 3, 4, **options))
    return torch.nn.Sequential(getattr(module, kind.split()[0])(3, 4, **options))


def train(model: Any, batches: list[Tensor]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x in batches:
        optimizer.zero_grad()
        model(x)[0].square().mean().backward()
        optimizer.step()


def sharded(model: torch.nn.Sequential) -> torch.nn.Module:
    mesh = init_device_mesh("cpu", (WORLD,))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


WRAPPERS = {"DDP": DistributedDataParallel, "FSDP2": sharded}
if OLD_TORCH:  # whose FSDP2 needs a GPU
    del WRAPPERS["FSDP2"]


def whole(parameter: Tensor) -> Tensor:
    gather = getattr(parameter, "full_tensor", None)
    return parameter.detach() if gather is None else gather().detach()


def work(rank: int, folder: Path) -> None:
    """What each process does; the first writes down the weights that came of it."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    results = {}
    for name, wrap in WRAPPERS.items():
        for kind in KINDS:
            model = wrap(model_of(fastrnn, kind))
            train(model, [x[:, rank::WORLD] for x in torch.load(folder / "batches")])
            results[name, kind] = [whole(p) for p in model.parameters()]
    if rank == 0:
        torch.save(results, folder / "results")
    dist.barrier()
    os._exit(0)  # gloo's threads abort the process now and then when it takes its leave of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have written what they computed."""
    path = tmp_path_factory.mktemp("distributed")
    torch.save([torch.randn(5, 4, 3) for _ in range(3)], path / "batches")
    ranks.run(work, (path,), WORLD)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WRAPPERS)
def test_two_processes_train_as_one_does_with_torch(way: str, kind: str, folder: Path) -> None:
    alone = model_of(torch.nn, kind)
    train(alone, torch.load(folder / "batches"))
    trained = torch.load(folder / "results")[way, kind]
    assert_same(trained, list(alone.parameters()), torch.float32)
