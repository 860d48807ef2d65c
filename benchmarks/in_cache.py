"""The engine's own micro-kernel at its best: on operands that a core keeps in its own caches.

Its panel of columns stays in the first-level cache, the rows stream from the second. The binding
computes one product on one thread and holds the interpreter's lock, so a process computes for each
thread. It is made for tests, and not every build has it.
"""

from __future__ import annotations

import random
import signal
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.companions import Companion, await_line, companion
from benchmarks.timing import Effort, take_turns

ROWS, K, COLUMNS = 512, 96, 128
MULTIPLY_ADDS = ROWS * K * COLUMNS

DTYPES = {"float32": "f", "float64": "d"}  # of torch, and of the module array

_BRIEF = Effort(block_s=0.02, min_rounds=5, max_rounds=5, budget_s=0.0, precision=0.0)


def active_isa() -> str | None:
    """Name the instruction set that the kernel would run with; None where it cannot be called."""
    try:
        _multiply()
        name: str = import_module("fastrnn").isa.active()
    except (ImportError, RuntimeError):
        return None
    return name


def flops(isa: str, dtype: str) -> float:
    """Operations that the kernel could do in the time of one product.

    They are more than the product has, because each call of the binding packs the columns anew. A
    call with a single row is taken for that: nearly all of it is packing.
    """
    product = _product(isa, dtype)
    timed = take_turns({"all": lambda: product(ROWS), "one": lambda: product(1)}, _BRIEF)
    packing = timed["one"].median() / timed["all"].median()
    return 2 * (ROWS - 1) * K * COLUMNS / (1 - packing)


@contextmanager
def team(isa: str, dtype: str, processes: int) -> Iterator[Callable[[int], None]]:
    """Start so many processes; the block's call has each of them compute so many products."""
    with ExitStack() as stack:
        members = [stack.enter_context(companion(__name__, isa, dtype)) for _ in range(processes)]

        def compute(products: int) -> None:
            for member in members:
                _send(member, products)
            for member in members:
                await_line(member)

        compute(0)  # whoever answers has started
        yield compute


def _send(member: Companion, products: int) -> None:
    assert member.stdin is not None
    print(products, file=member.stdin, flush=True)


def _multiply() -> Callable[..., None]:
    """The binding, of the module that the tests have; ImportError where Python finds none."""
    multiply: Callable[..., None] = import_module("_testing").multiply
    return multiply


def _product(isa: str, dtype: str) -> Callable[[int], None]:
    """Return a call with random operands that computes so many rows of their product."""
    multiply, of_engine = _multiply(), getattr(import_module("fastrnn._core").DType, dtype)
    draw = random.Random(0)
    a, b, c = (
        array(DTYPES[dtype], [draw.uniform(-1, 1) for _ in range(size)])
        for size in (ROWS * K, K * COLUMNS, ROWS * COLUMNS)
    )
    operands: tuple[Any, ...] = (a, b, c)

    def product(rows: int) -> None:
        addresses = [operand.buffer_info()[0] for operand in operands]
        multiply(isa, of_engine, *addresses, rows, K, COLUMNS)

    return product


def _serve(isa: str, dtype: str) -> None:
    """Compute as many products as each line says, and answer with a line, until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for all: no traceback of this one
    product = _product(isa, dtype)
    for line in sys.stdin:
        for _ in range(int(line)):
            product(ROWS)
        print(flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
