"""What ``python -m fastrnn explain`` prints for ``device=cuda``: who computes a call on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import _explain
from ._engine import cuda
from ._engine.cuda import policy

_WHO = {"torch": "torch's layer, on cuDNN", "kernels": "the CUDA kernels"}


def _device(name: str, text: str) -> str:
    return text  # it is why this module is asked


def _capability(name: str, text: str) -> int:
    major, _, minor = text.partition(".")
    digits = text.isascii() and major.isdigit() and minor.isdigit()
    if not (digits and len(minor) == 1 and len(major) < 3 and int(major) > 0):
        raise ValueError(f"{name}: expected a GPU's as 9.0, got {text!r}")
    return 10 * int(major) + int(minor)


def _precision(name: str, text: str) -> str:
    if text not in policy.PRECISIONS:
        known = ", ".join(policy.PRECISIONS)
        raise ValueError(f"{name}: expected one of {known}, got {text!r}")
    return text


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "T": _explain.number(1),
    "B": _explain.number(1),
    "I": _explain.number(0),
    "H": _explain.number(1),
    "layers": _explain.number(1, 1000),
    "bidirectional": _explain.flag,
    "proj": _explain.number(0),
    "dtype": _precision,
    "training": _explain.flag,
    "packed": _explain.flag,
    "capability": _capability,
    "device": _device,
}
_DEFAULTS: dict[str, Any] = {
    "layers": 1,
    "bidirectional": False,
    "proj": 0,
    "dtype": "tf32",
    "training": False,
    "packed": False,
    "capability": 90,
}


def parse(cell: str, words: Sequence[str]) -> dict[str, Any]:
    """Read a call from words, as `fastrnn._explain.parse` does.

    Parameters
    ----------
    cell : str
        ``LSTM``, ``GRU`` or ``RNN``.
    words : sequence of str
        ``T``, ``B``, ``I`` and ``H``, and where they are not the defaults ``layers``,
        ``bidirectional``, ``proj``, ``dtype`` (tf32, which is torch's default for float32, float32
        multiplied as it is, float64, float16, bfloat16), ``training``, ``packed`` and
        ``capability`` of the GPU.

    Returns
    -------
    dict
        Every option by its name, and ``cell``.

    Raises
    ------
    ValueError
        If a name is unknown, missing or given twice, a value is not what its name stands for, or
        there is no such cell.
    """
    if cell not in _explain.CELLS:
        raise ValueError(f"cell: expected LSTM, GRU or RNN on a GPU, got {cell!r}")
    call = {"cell": cell, **_DEFAULTS, **_explain.read(words, _OPTIONS)}
    _explain.check_projection(call)
    return call


def collect(call: dict[str, Any]) -> dict[str, Any]:
    """Describe who would compute a call with torch's own options.

    Parameters
    ----------
    call : dict
        What `parse` returns.

    Returns
    -------
    dict
        Plain values only, ready for JSON: ``call``; ``computes``, "torch" or "kernels"; ``policy``,
        what `fastrnn.set_cuda_policy` was told; ``table`` (computes, reason, source) of its
        estimate; ``built``, whether this build has kernels for GPUs.
    """
    names = ("T", "B", "I", "H", "packed", "layers", "training", "capability")
    asked = policy.Call(
        precision=call["dtype"],
        cell=_explain.CELLS[call["cell"]],
        directions=2 if call["bidirectional"] else 1,
        projected=call["proj"] > 0,
        **{name: call[name] for name in names},
    )
    row, to = policy.row_of(asked), policy.chosen()
    computes = row.who if to == "fastest" else to
    return {
        "call": call,
        "computes": computes if cuda.is_built() else "torch",
        "policy": to,
        "table": {"computes": row.who, "reason": row.why, "source": "estimated"},
        "built": cuda.is_built(),
    }


def as_text(facts: dict[str, Any]) -> str:
    """The same for people, a line for each subject."""
    call, table = facts["call"], facts["table"]
    major, minor = divmod(call["capability"], 10)
    rows = {
        "call": f"{_explain.call_text(call)}, on a GPU of capability {major}.{minor}",
        "computes": _WHO[facts["computes"]],
        "estimate": f"{_WHO[table['computes']]}: {table['reason']} (no GPU has measured it)",
        "policy": f"{facts['policy']}, one of {', '.join(policy.CHOICES)}",
    }
    if not facts["built"]:
        rows["build"] = f"has no kernels for GPUs: {cuda.HOW_TO_BUILD}"
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
