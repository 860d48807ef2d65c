"""The CUDA extension compiled for the CPU: its own sources, with the launches of `emulation/`.

What differs from the extension is how a block runs, and the arithmetic of the tensor cores, which
follows the PTX manual. Or with those of `silent/`, which run nothing, to see what else a call
takes. pybind11 is needed, as for the extension itself.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

from compiled import CSRC, compiler, extension

CUDA = CSRC / "cuda"
EMULATION = Path(__file__).parent / "emulation"
SILENT = EMULATION.with_name("silent")
FLAGS = (
    '-DFASTRNN_CUDA_ARCHITECTURES="none"',
    '-DFASTRNN_CUDA_COMPILER="none"',
)
FAST = "-O2"
SHARED = ("plain_call", "saved_call", "tensors")
"""What the short ways on the CPU and on a GPU have in common."""
CHECKED = (
    "-O1",
    "-fsanitize=alignment,bounds,shift,signed-integer-overflow",
    "-fno-sanitize-recover=all",
)


def missing() -> str | None:
    """Why it cannot be built here; None when it can."""
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed"
    try:
        subprocess.run([compiler(), "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return None


def load() -> ModuleType:
    """The module, built if it is not there yet."""
    return _built("_cuda_emulated", (*CHECKED, *FLAGS), EMULATION)


def load_silent() -> ModuleType:
    """The same with kernels that do nothing, as fast as the host's part is in the extension."""
    return _built("_cuda_silent", (FAST, *FLAGS), SILENT)


def _built(name: str, flags: tuple[str, ...], launches: Path) -> ModuleType:
    flags = (f"-DFASTRNN_CUDA_MODULE={name}", *flags)
    kernels = [*sorted((CUDA / "precisions").glob("*.cu")), *EMULATION.glob("*.cpp")]
    of_host = [*sorted(CUDA.glob("*.cpp")), *sorted((CUDA / "torch").glob("*.cpp"))]
    of_host += [CSRC / "python" / "torch" / f"{name}.cpp" for name in SHARED]
    return extension(name, kernels, flags, (launches,), of_host)
