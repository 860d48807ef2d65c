"""Processes that work together, each forked from one that has imported torch and done no more."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.multiprocessing import start_processes

# An optimiser imports torch._dynamo, which takes as long as all of torch.
multiprocessing.set_forkserver_preload(
    ["torch", "torch._dynamo", "pandas", "matplotlib.figure", "tqdm"]
)


def run(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """Call ``work(rank, *arguments)`` in as many processes.

    Raises
    ------
    torch.multiprocessing.ProcessRaisedException
        It raised in one of them; that traceback is the message.
    """
    start_processes(work, arguments, count, start_method="forkserver")


def run_example(arguments: list[str], count: int) -> str:
    """Run examples/distributed.py in as many processes, as torchrun does; what it says."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        run(_example, (count, port, arguments, said), count)
        return said.read_text(encoding="utf-8")


def _example(rank: int, count: int, port: int, arguments: list[str], said: Path) -> None:
    from examples import distributed

    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "localhost", **{name: str(n) for name, n in place.items()}}
    with said.open("a", encoding="utf-8") as file, redirect_stdout(file):
        try:
            distributed.main(arguments)
        except SystemExit as error:
            raise RuntimeError(error.code) from None
    os._exit(0)  # gloo's threads abort the process now and then when it takes its leave of them
