"""``python -m fastrnn info``, what runs here, and ``explain``, how a call would run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn", description="What runs here, and how a call would run, and why."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="say what this build can do on this machine")
    explain = commands.add_parser("explain", help="say how a call would run here, and why")
    explain.add_argument("cell", help="LSTM, GRU, RNN, or a cell as fastrnn.cells:MGU")
    explain.add_argument(
        "options",
        nargs="*",
        metavar="NAME=VALUE",
        help="T, B, I, H; layers, bidirectional, proj, heads, dtype, threads, training, isa; "
        "or device=cuda, with capability, packed",
    )
    for command in (info, explain):
        command.add_argument("--json", action="store_true", help="print JSON")
    options, late = parser.parse_known_args(arguments)
    if options.command == "explain" and not any(word.startswith("-") for word in late):
        options.options += late  # what stands behind --json, where argparse expects no more
    elif late:
        parser.error(f"unrecognized arguments: {' '.join(late)}")

    from . import _explain, _explain_gpu, _info

    if options.command == "info":
        facts = _info.collect()
        text = _info.as_text(facts)
    else:
        explainer = _explain_gpu if "device=cuda" in options.options else _explain
        try:
            facts = explainer.collect(explainer.parse(options.cell, options.options))
        except (ValueError, RuntimeError) as problem:
            explain.exit(2, f"{explain.prog}: {problem}\n")
        text = explainer.as_text(facts)
    print(json.dumps(facts, indent=2) if options.json else text)


if __name__ == "__main__":
    main()
