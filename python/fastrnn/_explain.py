"""What ``python -m fastrnn explain`` prints: how a call would run here, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from . import _explain_programs

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}
_MOST = 10_000_000
_MOST_NUMBERS = 2**44
"""Beyond, sizes in bytes would no longer fit into the engine's integers."""


def number(least: int, most: int = _MOST) -> Callable[[str, str], int]:
    """A reader of whole numbers, for `read`."""

    def read(name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
            raise ValueError(
                f"{name}: expected a whole number from {least} to {most}, got {text!r}"
            )
        return int(text)

    return read


def flag(name: str, text: str) -> bool:
    """A reader of 0 and 1, for `read`."""
    if text not in ("0", "1"):
        raise ValueError(f"{name}: expected 0 or 1, got {text!r}")
    return text == "1"


def _dtype(name: str, text: str) -> str:
    if text not in ("float32", "float64"):
        raise ValueError(f"{name}: expected float32 or float64, got {text!r}")
    return text


def _device(name: str, text: str) -> str:
    if text != "cpu":
        raise ValueError(f"{name}: expected cpu or cuda, got {text!r}")
    return text


def _isa(name: str, text: str) -> str:
    from . import _core

    built = _core.isa_built()
    if text not in built:
        raise ValueError(f"{name}: expected one of {', '.join(built)}, got {text!r}")
    return text


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "T": number(1),
    "B": number(1),
    "I": number(0),
    "H": number(1),
    "layers": number(1, 1000),
    "bidirectional": flag,
    "proj": number(0),
    "heads": number(1),
    "dtype": _dtype,
    "threads": number(1, 1024),
    "training": flag,
    "isa": _isa,
    "device": _device,
}
_REQUIRED = ("T", "B", "I", "H")


def parse(cell: str, words: Sequence[str]) -> dict[str, Any]:
    """Read a call from words like ``T=100``.

    Parameters
    ----------
    cell : str
        ``LSTM``, ``GRU`` or ``RNN``, or one that is a program, as ``fastrnn.cells:MGU``: a module
        and what it calls a `fastrnn.Cell` or a class of them.
    words : sequence of str
        ``T``, ``B``, ``I`` and ``H``, and where they are not the defaults ``layers``,
        ``bidirectional``, ``proj``, ``heads``, ``dtype``, ``threads``, ``training``, ``isa`` and
        ``device``, which is cpu here: of a GPU `fastrnn._explain_gpu` knows.

    Returns
    -------
    dict
        Every option by its name, and ``cell``; ``heads`` is None if it is not given.

    Raises
    ------
    ValueError
        If a name is unknown, missing or given twice, a value is not what its name stands for, or
        there is no such cell.
    """
    if cell not in CELLS and ":" not in cell:
        raise ValueError(
            f"cell: expected LSTM, GRU, RNN or MODULE:CELL as fastrnn.cells:MGU, got {cell!r}"
        )
    return _checked(_with_defaults({"cell": cell, **read(words, _OPTIONS)}))


def read(words: Sequence[str], options: Mapping[str, Callable[[str, str], Any]]) -> dict[str, Any]:
    """What words like ``T=100`` say, by their names; ValueError as in `parse`.

    ``options``: of each name what reads its value, which gets the name and the text.
    """
    call: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in options:
            raise ValueError(f"expected NAME=VALUE, NAME one of {', '.join(options)}, got {word!r}")
        if name in call:
            raise ValueError(f"{name}: expected once, got it twice")
        call[name] = options[name](name, text)
    missing = [name for name in _REQUIRED if name not in call]
    if missing:
        raise ValueError(f"expected T, B, I and H, got no {' and no '.join(missing)}")
    return call


def _with_defaults(call: dict[str, Any]) -> dict[str, Any]:
    from . import _core, _info

    made = {"layers": 1, "bidirectional": False, "proj": 0, "heads": None}
    call = {**made, "dtype": "float32", "training": False, **call}
    if "threads" not in call:
        call["threads"] = _info.offered_threads()[1]
    if "isa" not in call:
        call["isa"] = _core.isa_active()
    return call


def check_projection(call: dict[str, Any]) -> None:
    """ValueError if a cell has no projection, or one that is no less than its units."""
    if call["proj"] and call["cell"] != "LSTM":
        raise ValueError(f"proj: expected an LSTM to have one, got {call['cell']}")
    if call["proj"] >= call["H"]:
        raise ValueError(f"proj: expected less than H={call['H']}, got {call['proj']}")


def _checked(call: dict[str, Any]) -> dict[str, Any]:
    check_projection(call)
    if call["cell"] not in CELLS:
        heads = _explain_programs.program_of(call["cell"], call["heads"]).heads
        if call["H"] % heads:
            raise ValueError(f"H: expected a multiple of the {heads} heads, got {call['H']}")
    elif call["heads"] is not None:
        raise ValueError(f"heads: expected a cell of heads, got {call['cell']}")
    of_row = call["I"] + 16 * call["layers"] * call["H"]
    of_weights = 16 * call["H"] * (call["I"] + 3 * call["H"])
    if max(call["T"] * call["B"] * of_row, of_weights) > _MOST_NUMBERS:
        raise ValueError("T, B, I, H: expected a call that fits into memory, got a larger one")
    return call


def collect(call: dict[str, Any]) -> dict[str, Any]:
    """Describe how a call would run.

    Parameters
    ----------
    call : dict
        What `parse` returns.

    Returns
    -------
    dict
        Plain values only, ready for JSON: ``call``; ``threads`` (offered, usable: as many as the
        process may use processors, used, cycles: of forward on one thread by the cost model, 0
        where it was not asked, signal: nanoseconds from one to another, by which the model prices
        barriers, None if one alone is used); ``panels`` (count, units of each, columns of those
        without gates, rows of the tallest tile, bytes of one for each layer); ``weights_once``,
        ``weights_in_place``; ``forward`` and ``backward``, a list of layers each, as
        ``csrc/engine/schedule/decide.h`` describes them; ``memory`` in bytes; ``program``, lines of
        a cell that is one, None for others. Its per-step inputs are taken for numbers of a row.
    """
    from . import _core

    name = CELLS.get(call["cell"], "program")
    program = None
    if name == "program":
        program = _explain_programs.program_of(call["cell"], call["heads"])
    plan = _core.Plan(
        cell=getattr(_core.Cell, name),
        dtype=getattr(_core.DType, call["dtype"]),
        T=call["T"],
        B=call["B"],
        I=call["I"],
        H=call["H"],
        P=call["proj"],
        layers=call["layers"],
        directions=2 if call["bidirectional"] else 1,
        save=call["training"],
        threads=call["threads"],
        isa=call["isa"],
        program=None if program is None else _explain_programs.native(program, call["H"]),
    )
    usable = min(call["threads"], _core.processors()["usable"])
    signal = _core.signal_nanoseconds(usable) if usable > 1 else None
    found = plan.explain()
    used = found.pop("threads")
    threads = {
        "offered": call["threads"],
        "usable": usable,
        "used": used,
        "signal": signal if used > 1 else None,
        "cycles": found.pop("cycles"),
    }
    memory = {
        "saved": found.pop("saved_bytes"),
        "forward_workspace": found.pop("forward_bytes"),
        "backward_workspace": found.pop("backward_bytes"),
    }
    lines = None if program is None else _explain_programs.described(program)
    return {"call": call, "threads": threads, **found, "memory": memory, "program": lines}


def as_text(facts: dict[str, Any]) -> str:
    """The same for people, a line for each subject, and those of a program."""
    call, panels, memory = facts["call"], facts["panels"], facts["memory"]
    of_units = "with their gates" if facts["program"] is None else "for each slot"
    rows = [
        ("call", f"{call_text(call)}, on {call['isa']}"),
        ("threads", _threads_text(facts["threads"])),
        (
            "panels",
            f"{panels['count']} of {panels['units']} units {of_units}, products without "
            f"gates in panels of {panels['columns']} columns; tiles of up to {panels['tile_rows']} "
            "rows",
        ),
    ]
    for way in ("forward", "backward"):
        layers = list(zip(facts[way], panels["bytes"], strict=False))
        numbered = enumerate(layers)
        for (layer, panel_bytes), alike in groupby(numbered, key=lambda one: one[1]):
            numbers = [number for number, _ in alike]
            of_panel = panel_bytes if way == "forward" else 0
            rows += _layer_rows(way, numbers, layer, of_panel, facts)
    saved = f"{_size(memory['saved'])} kept for backward, " if call["training"] else ""
    backward = f", {_size(memory['backward_workspace'])} backward" if call["training"] else ""
    rows.append(
        ("memory", f"{saved}workspace of {_size(memory['forward_workspace'])} forward{backward}")
    )
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {text}".rstrip() for name, text in rows]
    return "\n".join([*lines, *([] if facts["program"] is None else ["", *facts["program"]])])


def call_text(call: dict[str, Any]) -> str:
    """A call in words, but for where it runs."""
    given = (*_REQUIRED, *(name for name in ("proj", "heads") if call.get(name)))
    sizes = " ".join(f"{name}={call[name]}" for name in given)
    layers = "1 layer" if call["layers"] == 1 else f"{call['layers']} layers"
    both = " of two directions" if call["bidirectional"] else ""
    use = "training" if call["training"] else "inference"
    return f"{call['cell']} {sizes}, {layers}{both}, {call['dtype']}, {use}"


def _threads_text(threads: dict[str, Any]) -> str:
    offered, usable, used = threads["offered"], threads["usable"], threads["used"]
    why = []
    if usable < offered:
        why.append(f"the process may use {usable} processors")
    if used < usable:
        why.append("waking more would cost more than they save")
    if threads["cycles"]:
        why.append(f"forward is worth {_cycles(threads['cycles'])} on one")
    if threads["signal"] is not None:
        why.append(f"{threads['signal']:.0f} ns apart")
    return f"{used} of {offered} offered" + (f": {', '.join(why)}" if why else "")


def _layer_rows(
    way: str, numbers: list[int], layer: dict[str, Any], panel_bytes: int, facts: dict[str, Any]
) -> list[tuple[str, str]]:
    named = f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {numbers[0]} to {numbers[-1]}"
    rows = [
        (f"{way}, {named}", ""),
        ("  crews", _crews_text(layer, facts)),
        ("  weights", _weights_text(way, panel_bytes, facts)),
    ]
    crews = layer["crews"]
    for number, crew in enumerate(crews):
        of = "" if len(crews) == 1 or crews[0] == crews[1] else f" of crew {number}"
        if of or number == 0:
            rows.append((f"  steps{of}", _steps_text(crew)))
            if way == "forward":
                rows.append((f"  input{of}", _input_text(crew)))
    return rows


def _crews_text(layer: dict[str, Any], facts: dict[str, Any]) -> str:
    choice = layer["side_by_side"]
    sizes = " and ".join(str(crew["threads"]) for crew in layer["crews"])
    what = (
        f"two, of {sizes} threads, a direction each"
        if choice["yes"]
        else f"one, of {sizes} threads"
        if sizes != "1"
        else "one, of 1 thread"
    )
    if choice["reason"] == "weights once":
        return f"{what}: each weight is used once"
    if choice["reason"] == "few rows":
        return f"{what}: few rows meet the weights"
    if choice["reason"] == "no choice":
        one = "direction" if not facts["call"]["bidirectional"] else "thread"
        return f"{what}: there is one {one}"
    chosen, instead = _cycles(choice["cycles"]), _cycles(choice["instead"])
    if choice["yes"]:
        return (
            f"{what}: a step of both takes {chosen}; {instead} in turn, to which barriers at their "
            "dearest are added"
        )
    return f"{what}, both directions in turn: a step of both takes {chosen}; {instead} side by side"


def _weights_text(way: str, panel_bytes: int, facts: dict[str, Any]) -> str:
    if way == "backward":
        if facts["weights_in_place"]:
            return "read where they lie: few tiles of rows meet them"
        return "packed once for all steps"
    if not facts["weights_once"]:
        return f"packed once for all steps, {_size(panel_bytes)} a panel"
    if facts["call"]["B"] == 1:
        return "read where they lie: a single row meets them once"
    return f"a panel of {_size(panel_bytes)} is packed, used and forgotten: a single step"


def _steps_text(crew: dict[str, Any]) -> str:
    rows, units = crew["row_groups"], crew["unit_groups"]
    split = f"{_groups(rows, 'rows')}, {_groups(units, 'units')}"
    dealt = ", panels left over are shared by rows" if crew["deals"] else ""
    cycles = f", {_cycles(crew['cycles'])} each" if crew["cycles"] else ""
    barrier = f", of which a barrier takes {crew['barrier']:,.0f}" if crew["barrier"] else ""
    return f"{split}{dealt}{cycles}{barrier}"


def _input_text(crew: dict[str, Any]) -> str:
    choice = crew["fused"]
    if choice["reason"] == "weights once":
        return "projected within the step, the only one"
    if choice["reason"] == "no choice":
        return "has no features"
    chosen, instead = _cycles(choice["cycles"]), _cycles(choice["instead"])
    if choice["yes"]:
        return f"projected within the step: {chosen} together; {instead} if ahead of it"
    blocks = f"projected ahead, {crew['block_rows']} rows of each group at a time"
    if crew["helped_steps"]:
        blocks = (
            f"projected ahead, {crew['helped_steps']} steps at a time, by threads without a part "
            "in the steps"
        )
    return f"{blocks}: {chosen} a step together; {instead} if within it"


def _groups(count: int, of: str) -> str:
    return f"{count} group{'' if count == 1 else 's'} of {of}"


def _cycles(cycles: float) -> str:
    return f"{round(cycles):,} cycles"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TiB"
