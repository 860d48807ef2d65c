"""A neighbour that computes and never sleeps, until the process that started it is gone."""

from __future__ import annotations

import os
import signal

_ROUNDS = 100_000  # a few milliseconds, and then one system call


def main() -> None:
    """Write a line, which fails if that process has gone already, and compute."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for all: no traceback of this one
    parent = os.getppid()
    print(flush=True)
    while os.getppid() == parent:
        for _ in range(_ROUNDS):
            pass


if __name__ == "__main__":
    main()
