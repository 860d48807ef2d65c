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

from benchmarks.situations import Situation, cores

# Variables that change which kernels run or on how many threads.
_VARIABLES = (
    "FASTRNN_EXTENSIONS",
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
        "cores": cores(),
        "quota": _quota(),
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
    situations = [Situation(**found) for found in machine.get("situations", ())]
    only = situations[0] if len(situations) == 1 else Situation(threads=machine["threads"])
    return f"{machine['cpu']}, {only.name}{isa}, torch {machine['packages']['torch']}"


class Neighbours:
    """How busy everyone else keeps the processors while this process measures.

    Processes that it started are its own, once they have ended.
    """

    def __init__(self) -> None:
        self._start = (time.perf_counter(), _busy_s(), _own_s())

    def share(self) -> float | None:
        """Return the share of all processors in use by others since then; None if unknown."""
        wall, busy, own = self._start
        busy_now = _busy_s()
        if busy is None or busy_now is None:
            return None
        others = (busy_now - busy) - (_own_s() - own)
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


def _quota() -> float | None:
    """Processors' worth of time that a control group grants; None where there is no limit."""
    try:
        granted: float = import_module("fastrnn._core").processors()["quota"]
    except (ImportError, AttributeError):
        return None
    return granted or None


def _own_s() -> float:
    """Seconds that this process has computed, and those that it started and that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


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
