"""What the figures of a run depend on: processor, software, settings, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

# Variables that change which kernels run or on how many threads.
_VARIABLES = (
    "FASTRNN_ISA",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "XLA_FLAGS",
    "LD_PRELOAD",
)
# Of all processors, in use by others during a run.
TOLERABLE_SHARE = 0.05

_PACKAGES = (
    "fastrnn",
    "torch",
    "numpy",
    "onnxruntime",
    "openvino",
    "jax",
    "haste_pytorch",
    "flashrnn",
)


def describe() -> dict[str, Any]:
    """Return plain values, ready for JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "isa": _isa(),
        "torch_isa": torch.backends.cpu.get_cpu_capability().lower(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def title(machine: dict[str, Any]) -> str:
    """Name the machine in one line."""
    if "gpu" in machine:
        return f"{machine['gpu']}, CUDA {machine['cuda']}, torch {machine['packages']['torch']}"
    isa = f", {machine['isa']}" if machine["isa"] else ""
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    return f"{machine['cpu']}, {threads}{isa}, torch {machine['packages']['torch']}"


class Neighbours:
    """How busy everyone else keeps the processors while this process measures."""

    def __init__(self) -> None:
        self._start = (time.perf_counter(), _busy_s(), time.process_time())

    def share(self) -> float | None:
        """Return the share of all processors in use by others since then; None if unknown."""
        wall, busy, own = self._start
        busy_now = _busy_s()
        if busy is None or busy_now is None:
            return None
        others = (busy_now - busy) - (time.process_time() - own)
        available = (time.perf_counter() - wall) * (os.cpu_count() or 1)
        return max(0.0, others / available)


def complaint(neighbours_share: float | None) -> str:
    """Return a sentence if neighbours spoilt a run, else an empty one."""
    if neighbours_share is None or neighbours_share <= TOLERABLE_SHARE:
        return ""
    return (
        f"Other processes used {100 * neighbours_share:.0f}% of the processors during the run: "
        "do not trust the figures."
    )


def commit() -> str:
    """Return the commit that is checked out, with ``-dirty`` if files differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _cpu_model() -> str:
    """The processor's name, and its numbers where it has some: clouds leave the name vague."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        found = {key.strip(): value.strip() for key, _, value in pairs}
        if "cpu family" in found and "model" in found:
            numbers = f"family {found['cpu family']} model {found['model']}"
            return f"{found.get('model name', '')} ({numbers})".strip()
        if "model name" in found:
            return found["model name"]
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Processors that this process may use: fewer than the machine has, in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _busy_s() -> float | None:
    """Seconds that all processors together have worked, for whomever, a hypervisor included."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    with stat.open(encoding="ascii") as lines:
        user, nice, system, _idle, _waiting, irq, softirq, stolen = map(
            int, lines.readline().split()[1:9]
        )
    ticks = user + nice + system + irq + softirq + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def _isa() -> str | None:
    """Name the instruction set that fastrnn runs with; None without an engine that runs."""
    try:
        name: str = import_module("fastrnn").isa.active()
    except (ImportError, AttributeError, RuntimeError):
        return None
    return name


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
