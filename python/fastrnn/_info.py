"""What ``python -m fastrnn info`` prints: all that a report of a problem ought to say."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from typing import Any

from . import __version__

_FORMATS = {
    "float32": "float32 arithmetic",
    "bfloat16": "float32 arithmetic",
    "int8": "products of 16-bit integers",
}
"""What computes with frozen weights unless an extension does."""


def collect() -> dict[str, Any]:
    """Describe this build on this machine.

    Returns
    -------
    dict
        Plain values only, ready for JSON: ``version``, ``compiler``, ``openmp`` (the library whose
        threads calls share with torch, None where the engine has its own), ``python``,
        ``platform``, ``isa`` (built, available, active, error), ``threads``, ``processors``
        (allowed: those that the process may run on; quota: what its control group grants of their
        time, None for all of it; usable: as many as a call will use threads at the most; signal:
        how many nanoseconds one from thread to thread takes now, None if there is but one thread),
        ``formats`` (of frozen weights: what each is computed with), ``extensions`` (those of
        `fastrnn.isa.extensions`, each a dict), ``torch`` (its version, None if not installed) and
        ``cuda`` (built, architectures, compiler, reason).
    """
    torch_version, threads = offered_threads()
    from . import _core, isa  # after torch, whose thread pool they then share

    build = _core.build_info()
    return {
        "version": __version__,
        "compiler": build["compiler"],
        "openmp": build["openmp"],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "isa": _isa(),
        "threads": threads,
        "processors": _processors(threads),
        "formats": _formats(),
        "extensions": [own._asdict() for own in isa.extensions()],
        "torch": torch_version,
        "cuda": _cuda(),
    }


def as_text(info: dict[str, Any]) -> str:
    """The same for people, a line for each subject."""
    isa, cuda, processors = info["isa"], info["cuda"], info["processors"]
    quota = "" if processors["quota"] is None else f", a quota of {processors['quota']:g}"
    signal = "" if processors["signal"] is None else f", {processors['signal']:.0f} ns apart"
    whose = f"torch's ({info['openmp']})" if info["openmp"] else "the engine's own"
    rows = {
        "fastrnn": info["version"],
        "python": f"{info['python']} on {info['platform']}",
        "torch": info["torch"] or "not installed (pip install 'fastrnn[torch]')",
        "compiler": info["compiler"],
        "threads": f"{info['threads']}, {whose}",
        "processors": f"{processors['usable']} usable of {processors['allowed']} allowed"
        f"{quota}{signal}",
        "isa built": " ".join(isa["built"]),
        "isa available": " ".join(isa["available"]),
        "isa active": isa["active"] or f"none: {isa['error']}",
        "formats": ", ".join(f"{name} ({how})" for name, how in info["formats"].items()),
        "extensions": ", ".join(map(_of_extension, info["extensions"])) or "none",
        "cuda": f"built for {cuda['architectures']}, {cuda['compiler']}"
        if cuda["built"]
        else f"not built: {cuda['reason']}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def offered_threads() -> tuple[str | None, int]:
    """torch's version, None without it, and how many threads it offers a call."""
    if find_spec("torch") is None:
        return None, os.cpu_count() or 1
    import torch

    return torch.__version__, torch.get_num_threads()


def _of_extension(own: dict[str, Any]) -> str:
    state = "on" if own["on"] else "off" if own["available"] else "not in this processor"
    proven = "" if own["proven"] else ", not proven"
    return f"{own['name']} ({own['number_format'].replace('_', ' ')}: {state}{proven})"


def _formats() -> dict[str, str]:
    from . import isa

    formats, active = dict(_FORMATS), _isa()["active"]
    for own in isa.extensions():
        if own.on and own.isa == active and own.number_format == "int8":
            formats["int8"] = f"products of 8-bit integers ({own.name})"
    return formats


def _processors(threads: int) -> dict[str, Any]:
    from . import _core

    found = _core.processors()
    together = min(threads, found["usable"])
    signal = _core.signal_nanoseconds(together) if together > 1 else None
    return {**found, "quota": found["quota"] or None, "signal": signal}


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
    from ._engine import cuda

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
