"""Whether wheels and source archives have what they should: ``python release/contents.py FILE...``.

``wheel.txt`` and ``sdist.txt`` list what may be in them, a pattern a line; an asterisk stands for
any text, slashes too. Each file has to match a pattern, each pattern a file, and no source of the
package may be missing. Wheels are also held to a size.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "python" / "fastrnn"
MOST_BYTES = 5_000_000


def faults(archive: Path) -> Iterator[str]:
    """Say what is wrong with an archive, a line a fault."""
    kind = "wheel" if archive.suffix == ".whl" else "sdist"
    names = names_in_wheel(archive) if kind == "wheel" else names_in_sdist(archive)
    yield from compare(names, patterns(HERE / f"{kind}.txt"))
    root = "fastrnn" if kind == "wheel" else "python/fastrnn"
    for source in sources():
        if f"{root}/{source}" not in names:
            yield f"misses {root}/{source}"
    if kind == "wheel" and archive.stat().st_size > MOST_BYTES:
        yield f"has {archive.stat().st_size} bytes, more than {MOST_BYTES}"


def compare(names: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    """Say which names match no pattern, and which patterns no name."""
    names, wanted = list(names), list(wanted)
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in wanted):
            yield f"has {name}, which the list lacks"
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            yield f"misses {pattern}"


def patterns(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def sources() -> Iterator[str]:
    """The files of the package that no build makes."""
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".pyi", ".typed"):
            yield path.relative_to(PACKAGE).as_posix()


def names_in_wheel(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as wheel:
        return {name for name in wheel.namelist() if not name.endswith("/")}


def names_in_sdist(archive: Path) -> set[str]:
    """The names below the archive's only folder."""
    with tarfile.open(archive) as sdist:
        return {member.name.partition("/")[2] for member in sdist if member.isfile()}


def main(archives: Iterable[str]) -> int:
    wrong = 0
    for archive in map(Path, archives):
        found = list(faults(archive))
        print(f"{archive.name}: {archive.stat().st_size} bytes, {len(found)} faults")
        for fault in found:
            print(f"  {fault}")
        wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
