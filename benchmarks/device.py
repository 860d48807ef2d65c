"""Where a run takes place: the CPU, or a GPU, whose clock is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


def missing(device: Device) -> str | None:
    """Say why nothing can run there; None when it can."""
    if device == "cuda" and not torch.cuda.is_available():
        return "torch finds no GPU"
    return None


def runs_on(contender: Any, device: Device) -> bool:
    """Whether a contender computes there; one that does not say where it does, on the CPU alone."""
    devices: tuple[Device, ...] = getattr(contender, "devices", ("cpu",))
    return device in devices


def describe(device: Device) -> dict[str, Any]:
    """Return what the figures of a run depend on there, ready for JSON."""
    if device == "cpu":
        return {}
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_memory_gib": properties.total_memory / 2**30,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "tf32_of_matmul": torch.backends.cuda.matmul.allow_tf32,
    }


class CudaClock:
    """Times calls by events in the stream: from when the GPU begins a call to when it is done.

    Where launching takes longer than computing, the GPU waits for the program within a call, and
    that is part of its time.
    """

    def each(self, call: Callable[[], Any], calls: int) -> tuple[float, ...]:
        """Seconds of each of so many calls."""
        events = [
            tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            for _ in range(calls)
        ]
        for start, end in events:
            start.record()
            call()
            end.record()
        self.settle()
        return tuple(start.elapsed_time(end) / 1e3 for start, end in events)

    def settle(self) -> None:
        """Wait until the device has done all that it was told."""
        torch.cuda.synchronize()
