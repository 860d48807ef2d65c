"""The machine's own limit: the fastest matrix product's rate, measured beside the contenders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks import in_cache
from benchmarks.device import CudaClock, Device
from benchmarks.situations import cores
from benchmarks.timing import WALL_CLOCK, Call, Clock, Effort, take_turns
from benchmarks.workloads import DType

SIZE = 2048

_PROBE = Effort(block_s=0.1, min_rounds=3, max_rounds=3, budget_s=0.0, precision=0.0)


@dataclass(frozen=True)
class Product:
    """One or more matrix products: the call that computes them, and the operations in them."""

    call: Call
    flops: float

    def gflops(self, seconds: float) -> float:
        """Rate of one call in GFLOP/s."""
        return 1e-9 * self.flops / seconds


@dataclass(frozen=True)
class Yardstick:
    """The fastest product that was found here.

    Attributes
    ----------
    name : whose product it is.
    product : itself.
    probed_gflops : every candidate's rate before the run; during the run it is measured again.
    """

    name: str
    product: Product
    probed_gflops: dict[str, float]


@contextmanager
def chosen_yardsticks(
    dtypes: Iterable[DType], device: Device = "cpu"
) -> Iterator[dict[DType, Yardstick]]:
    """Probe the candidates of each precision once; the block may call those that it is given."""
    clock = CudaClock() if device == "cuda" else WALL_CLOCK
    with ExitStack() as stack:
        yield {
            dtype: fastest(_candidates(dtype, device, stack), clock)
            for dtype in sorted(set(dtypes))
        }


def fastest(products: Mapping[str, Product], clock: Clock = WALL_CLOCK) -> Yardstick:
    """Let all of them take turns; the one with the highest rate is the yardstick."""
    timed = take_turns({name: product.call for name, product in products.items()}, _PROBE, clock)
    rates = {name: product.gflops(timed[name].median()) for name, product in products.items()}
    best = max(rates, key=lambda name: rates[name])
    return Yardstick(best, products[best], rates)


def _candidates(dtype: DType, device: Device, stack: ExitStack) -> dict[str, Product]:
    """torch.mm is MKL's, which leaves AVX-512 unused on AMD; oneDNN's product does not."""
    a, b, out = torch.randn(3, SIZE, SIZE, dtype=getattr(torch, dtype), device=device).unbind()
    flops = 2 * SIZE**3
    products = {"torch.mm": Product(lambda: torch.mm(a, b, out=out), flops)}
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype == "float32" and device == "cpu" and has_onednn:
        products["oneDNN"] = Product(_onednn_product(a, b), flops)
    isa = in_cache.active_isa() if device == "cpu" and dtype in in_cache.DTYPES else None
    if isa is not None:
        threads = min(torch.get_num_threads(), cores())
        team = stack.enter_context(in_cache.team(isa, dtype, threads))
        each = max(1, round(SIZE**3 / in_cache.MULTIPLY_ADDS / threads))
        work = threads * each * in_cache.flops(isa, dtype)
        products["own kernel in cache"] = Product(lambda: team(each), work)
    return products


def _onednn_product(a: torch.Tensor, b: torch.Tensor) -> Call:
    """oneDNN's inner product with b packed beforehand, as its users have it, where torch can."""
    ops = torch.ops.mkldnn
    if hasattr(ops, "_reorder_linear_weight") and hasattr(ops, "_linear_pointwise"):
        packed = ops._reorder_linear_weight(b, SIZE)
        return lambda: ops._linear_pointwise(a, packed, None, "none", [], "")
    plain_a, plain_b = a.to_mkldnn(), b.to_mkldnn()
    return lambda: functional.linear(plain_a, plain_b)
