"""Whether an extension asks the system for symbols that its oldest version may lack.

``python release/symbols.py WHEEL``: what has a version of glibc's is for auditwheel to judge; a
symbol that no library has given a version was not found when the extension was linked.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator

from elftools.elf.elffile import ELFFile

LOADERS = {"__tls_get_addr"}
"""The dynamic loader's own"""


def unfound(extension: io.BytesIO) -> Iterator[str]:
    """Undefined symbols without a version, but for Python's, the loader's and optional ones."""
    elf = ELFFile(extension)
    versions = elf.get_section_by_name(".gnu.version")
    for i, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
        undefined = symbol["st_shndx"] == "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        versioned = versions.get_symbol(i)["ndx"] not in ("VER_NDX_LOCAL", "VER_NDX_GLOBAL")
        of_others = symbol.name.startswith(("Py", "_Py")) or symbol.name in LOADERS
        if undefined and not versioned and not of_others:
            yield symbol.name


def main(wheel: str) -> int:
    found = []
    with zipfile.ZipFile(wheel) as archive:
        extensions = [name for name in archive.namelist() if name.endswith(".so")]
        for name in extensions:
            found += [f"{name}: {symbol}" for symbol in unfound(io.BytesIO(archive.read(name)))]
    print(f"{len(extensions)} extensions, {len(found)} symbols that no library has")
    print("".join(f"  {line}\n" for line in found), end="")
    return 1 if found or not extensions else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
