"""Python in a process where nothing else has run before."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["run_python"]


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter with some arguments, and environment variables beside those of here."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
