"""Processes that this one starts beside itself, and that end with it however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent

Companion = subprocess.Popen[str]


@contextmanager
def companion(module: str, *arguments: str) -> Iterator[Companion]:
    """Run ``python -m module`` until the block ends.

    The module sees to its own end where this process is killed and can end nothing any more.
    """
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def await_line(process: Companion) -> None:
    """Wait until it has written a line.

    Raises
    ------
    RuntimeError
        It has ended instead.
    """
    assert process.stdout is not None
    if not process.stdout.readline():
        raise early_end(process)


def early_end(process: Companion) -> RuntimeError:
    """Make the error that says which process ended before it should."""
    return RuntimeError(f"{process.args!r} ended with status {process.wait()}")
