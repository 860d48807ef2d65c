"""``python -m fastrnn info [--json]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to the process's own."""
    parser = argparse.ArgumentParser(prog="python -m fastrnn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="say what this build can do on this machine")
    info.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)

    from . import _info

    facts = _info.collect()
    print(json.dumps(facts, indent=2) if options.json else _info.as_text(facts))


if __name__ == "__main__":
    main()
