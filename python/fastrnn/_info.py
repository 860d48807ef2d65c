"""What ``python -m fastrnn info`` prints: all that a report of a problem ought to say."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from typing import Any

from . import __version__


def collect() -> dict[str, Any]:
    """Describe this build on this machine.

    Returns
    -------
    dict
        Plain values only, ready for JSON: ``version``, ``compiler``, ``openmp``, ``python``,
        ``platform``, ``isa`` (built, available, active, error), ``threads``, ``torch`` (its
        version, None if not installed) and ``cuda`` (built, architectures, compiler, reason).
    """
    torch_version, threads = _torch()
    from . import _core  # after torch, whose thread pool it then shares

    build = _core.build_info()
    return {
        "version": __version__,
        "compiler": build["compiler"],
        "openmp": build["openmp"],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "isa": _isa(),
        "threads": threads,
        "torch": torch_version,
        "cuda": _cuda(),
    }


def as_text(info: dict[str, Any]) -> str:
    """The same for people, a line for each subject."""
    isa, cuda = info["isa"], info["cuda"]
    rows = {
        "fastrnn": info["version"],
        "python": f"{info['python']} on {info['platform']}",
        "torch": info["torch"] or "not installed (pip install 'fastrnn[torch]')",
        "compiler": f"{info['compiler']}, OpenMP {'on' if info['openmp'] else 'off'}",
        "threads": info["threads"],
        "isa built": " ".join(isa["built"]),
        "isa available": " ".join(isa["available"]),
        "isa active": isa["active"] or f"none: {isa['error']}",
        "cuda": f"built for {cuda['architectures']}, {cuda['compiler']}"
        if cuda["built"]
        else f"not built: {cuda['reason']}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _torch() -> tuple[str | None, int | None]:
    """torch's version, and how many threads a call will use."""
    if find_spec("torch") is None:
        return None, os.cpu_count()
    import torch

    return torch.__version__, torch.get_num_threads()


def _isa() -> dict[str, Any]:
    from . import isa

    active = error = None
    try:
        active = isa.active()
    except RuntimeError as problem:
        error = str(problem)
    return {
        "built": isa.built(),
        "available": isa.available(),
        "active": active,
        "error": error,
    }


def _cuda() -> dict[str, Any]:
    from . import cuda

    if not cuda.is_built():
        return {
            "built": False,
            "architectures": None,
            "compiler": None,
            "reason": cuda.HOW_TO_BUILD,
        }
    extension = cuda.extension()
    return {
        "built": True,
        "architectures": extension.architectures,
        "compiler": extension.compiler,
        "reason": None,
    }
