"""How many processes of pytest-xdist's a run of the tests takes, where nobody says it."""

from __future__ import annotations

import pytest

__all__ = ["choose"]


def choose(config: pytest.Config) -> None:
    """Have the whole suite run in a process for each core, if pytest-xdist is there.

    A part of it, be it named by path or by ``-k``, runs in this one, as with ``-n 0`` all do:
    processes take longer to start than a few tests to run.
    """
    options, whole = config.option, pytest.Config.ArgsSource.TESTPATHS
    if not hasattr(options, "numprocesses") or hasattr(config, "workerinput"):
        return
    if config.args_source is not whole or options.keyword or options.usepdb:
        return
    if options.numprocesses is None and options.dist == "no":
        # Neighbours in a file share what they have made; who has nothing left takes from others.
        options.numprocesses, options.dist = "auto", "worksteal"
