"""The roads that a call may take from checked arguments to the engine, taken by force and counted.

- ``short``: from torch's tensors straight into the engine (`fastrnn._autograd.direct`), or from
  those of half precision, raised.
- ``eager``: through `fastrnn._autograd.eager`, and its node of torch's graph.
- ``operator``: as one operator of torch's, as in compilers and modes.

`reference` is none of them: there the plain equations compute instead of the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor

from fastrnn import reference as equations
from fastrnn._engine import backends
from fastrnn._layers import run as fork
from fastrnn._layers import short_way

LONG = ("eager", "operator")
ROADS = (*(["short"] if hasattr(Tensor, "__dlpack_c_exchange_api__") else []), *LONG)
"""Those that this torch has."""

SHORT = ("layer_directly", "cell_directly", "layer_raised", "cell_raised")
"""What may serve a call by the short way, in `fastrnn._layers.short_way`."""


@contextmanager
def road(name: str) -> Iterator[None]:
    """Every call takes the road of this name; at least one did, and none took another."""
    taken: Counter[str] = Counter()

    def spy(way: str, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if way == "short" and name != "short":
                return None
            done = function(*arguments, **keywords)
            if backends.chosen is None:  # the reference is on no road
                taken[way] += done is not None
            return done

        return call

    spies = {one: spy("short", getattr(short_way, one)) for one in SHORT}
    with (
        mock.patch.multiple(short_way, **spies),
        mock.patch.object(fork.eager, "run", spy("eager", fork.eager.run)),
        mock.patch.object(fork.operators, "run", spy("operator", fork.operators.run)),
    ):
        if name == "operator":
            with mock.patch.object(fork.operators, "is_watched", return_value=True):
                yield
        else:
            yield
    assert set(taken) == {name}, f"calls by each road: {dict(taken)}, expected all by {name!r}"


@contextmanager
def reference() -> Iterator[None]:
    """Every call is computed by `fastrnn.reference`; at least one was."""
    calls = 0
    rnn = equations.rnn

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        return rnn(*arguments, **keywords)

    with (
        backends.using("reference"),
        mock.patch.object(fork.operators, "is_watched", return_value=False),
        mock.patch.object(equations, "rnn", counted),
    ):
        yield
    assert calls, "the reference was not called"
