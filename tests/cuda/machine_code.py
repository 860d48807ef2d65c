"""What the order of machine instructions says: how often a step waits for memory or launches."""

from __future__ import annotations

import re
from collections.abc import Iterator

MULTIPLICATIONS = ("HMMA", "FFMA", "DFMA")


def waits(listing: str) -> dict[str, int]:
    """How often in a row each kernel of a listing of cuobjdump waits for 16-byte loads.

    Of its fast loop, the only one in which such loads and multiplications stand without a branch
    between them. One that issues all of its loads first waits once.
    """
    kernels = listing.split("Function : ")[1:]
    return {
        text.split(maxsplit=1)[0]: max((_waits(block) for block in _loops(text)), default=0)
        for text in kernels
    }


def bytes_of_code(listing: str) -> dict[str, int]:
    """Of each kernel."""
    kernels = listing.split("Function : ")[1:]
    return {text.split(maxsplit=1)[0]: 16 * len(_code(text)) for text in kernels}


def _code(text: str) -> list[tuple[str, str]]:
    """Addresses and instructions."""
    return re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(.*?)\s*;", text)


def overlaps(listing: str) -> dict[str, bool]:
    """Whether each kernel lets the next launch begin, and waits for the one before it writes."""
    kernels = listing.split("Function : ")[1:]
    return {text.split(maxsplit=1)[0]: _overlaps(text) for text in kernels}


def _overlaps(text: str) -> bool:
    code = [line for _, line in _code(text)]
    waits = [place for place, line in enumerate(code) if line.startswith("ACQBULK")]
    writes = [place for place, line in enumerate(code) if re.search(r"\bSTG?\b", line)]
    return bool(waits and writes and waits[-1] < writes[0]) and any("PREEXIT" in c for c in code)


def _loops(text: str) -> Iterator[list[str]]:
    """The stretches without a branch that load and multiply."""
    code = _code(text)
    targets = {int(t, 16) for _, line in code for t in re.findall(r"BRA\b.*0x([0-9a-f]+)", line)}
    block: list[str] = []
    for address, line in code:
        if int(address, 16) in targets:
            block = []
        block.append(line)
        if re.search(r"\b(BRA|EXIT|BSYNC)\b", line):
            if any(_is_load(one) for one in block) and _multiplies(block):
                yield block
            block = []


def _is_load(line: str) -> bool:
    return "LDG" in line and ".128" in line


def _multiplies(block: list[str]) -> bool:
    return sum(any(name in line for name in MULTIPLICATIONS) for line in block) > 1


def _waits(block: list[str]) -> int:
    pending: set[int] = set()
    count = 0
    for line in block:
        first, *others = [int(r) for r in re.findall(r"\bR(\d+)", line)] or [-1]
        read = {first, *others} if re.search(r"\b(ST\w*|ISETP)\b", line) else set(others)
        if "HMMA" in line:  # three operands of several registers each, the last the sums
            read = {r + i for r in others for i in range(4 if r == others[0] else 2)}
        if read & pending:
            count += 1
            pending.clear()
        if _is_load(line):
            pending |= {first + i for i in range(4)}
    return count
