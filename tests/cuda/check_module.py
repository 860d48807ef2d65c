"""Check a built CUDA module from outside: what it is compiled for, and what it needs to load.

``python tests/cuda/check_module.py`` prints what it found, and fails if machine code for an
architecture or PTX is missing, if a kernel is or spills, if one waits for memory more than once
before it multiplies or (capability 9.0) does not wait for the launch before, if code or module are
larger than their budgets, or if the module wants a library at run time that a machine with nothing
but a driver lacks. Needs binutils, and NVIDIA's cuobjdump and nvdisasm (parts of the CUDA toolkit,
or ``pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from machine_code import bytes_of_code, overlaps, waits

from fastrnn._engine import cuda

# Kernels of each precision: four cells forward and backward, and three of the projected LSTM
KERNELS = 11
PRECISIONS = 5
# Bytes of machine code of all kernels for one architecture, by precision, and of the whole module.
# What makes them grow has to be worth it.
CODE = 250_000
MODULE = 2_250_000
ALLOWED = re.compile(r"lib(stdc\+\+|gcc_s|m|c|dl|rt|pthread)\.so|ld-linux")


def main() -> None:
    cuobjdump = find_cuobjdump()
    spec = find_spec("fastrnn._cuda")
    assert spec is not None, cuda.HOW_TO_BUILD
    assert spec.origin is not None
    asked = cuda.extension().architectures.split()
    check_architectures(cuobjdump, spec.origin, asked)
    listing = machine_code(cuobjdump, spec.origin)
    check_loads(listing)
    check_overlap(listing)
    check_size(listing, Path(spec.origin).stat().st_size)
    check_kernels(cuobjdump, spec.origin, sum(name.endswith("-real") for name in asked))
    check_libraries(spec.origin)


def find_cuobjdump() -> str:
    found = shutil.which("cuobjdump")
    if found:
        return found
    files = metadata.files("nvidia-cuda-cuobjdump") or []
    return str(next(file.locate() for file in files if file.name == "cuobjdump"))


def check_architectures(cuobjdump: str, module: str, asked: list[str]) -> None:
    found = {
        "-real": set(re.findall(r"\.sm_(\w+)\.cubin", run(cuobjdump, "-lelf", module))),
        "-virtual": set(re.findall(r"\.sm_(\w+)\.ptx", run(cuobjdump, "-lptx", module))),
    }
    print("machine code:", *sorted(found["-real"]), "  PTX:", *sorted(found["-virtual"]))
    for kind, names in found.items():
        wanted = {name.removesuffix(kind) for name in asked if name.endswith(kind)}
        assert names == wanted, f"asked for {kind} {sorted(wanted)}, got {sorted(names)}"


def check_kernels(cuobjdump: str, module: str, architectures: int) -> None:
    usage = run(cuobjdump, "-res-usage", module)
    kernels = re.findall(r"Function (\S*run_step\S*):\s*REG:(\d+) STACK:(\d+)", usage)
    print(f"kernels: {len(kernels)}, registers at the most: {max(int(r) for _, r, _ in kernels)}")
    assert len({name for name, _, _ in kernels}) == KERNELS * PRECISIONS
    assert len(kernels) == KERNELS * PRECISIONS * architectures
    spilling = [name for name, _, stack in kernels if int(stack)]
    assert not spilling, f"registers spill to memory in {spilling}"


def machine_code(cuobjdump: str, module: str) -> dict[str, str]:
    """Listings by architecture."""
    folder = Path(cuobjdump).parent  # where nvdisasm is as well
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    listing = run(cuobjdump, "-sass", module, env={**os.environ, "PATH": path})
    found: dict[str, str] = {}
    for part in re.split(r"code for sm_", listing)[1:]:
        architecture, code = part.split(maxsplit=1)
        found[architecture] = found.get(architecture, "") + code
    return found


def check_loads(listing: dict[str, str]) -> None:
    found = {f"{a} {n}": count for a, code in listing.items() for n, count in waits(code).items()}
    counts = {name: count for name, count in found.items() if "run_step" in name}
    print("times that a kernel waits for its loads:", *sorted(set(counts.values())))
    # float64, which is not here for its speed, begins to multiply before its last loads.
    slow = [name for name, n in counts.items() if not 1 <= n <= (2 if "FmaIdE" in name else 1)]
    assert not slow, f"loads wait for one another in {slow}"


def check_overlap(listing: dict[str, str]) -> None:
    able = {a: overlaps(code) for a, code in listing.items() if int(re.sub(r"\D", "", a)) >= 90}
    steps = [(n, can) for kernels in able.values() for n, can in kernels.items() if "run_step" in n]
    print("kernels that may overlap:", sum(can for _, can in steps))
    wrong = [name for name, can in steps if not can]
    assert not wrong, f"the launch before is not waited for, or the next one not let in: {wrong}"


def check_size(listing: dict[str, str], module: int) -> None:
    for architecture, code in listing.items():
        sizes: dict[str, int] = {}
        for name, size in bytes_of_code(code).items():
            precision = re.search(r"(?:TensorCores|Fma)I\w*?(Half|BFloat16|f|d)E", name)
            if precision:
                sizes[precision[0]] = sizes.get(precision[0], 0) + size
        print(f"bytes of code for sm_{architecture}:", *sorted(sizes.values()))
        assert len(sizes) == PRECISIONS
        large = {name: size for name, size in sizes.items() if size > CODE}
        assert not large, f"expected at most {CODE} bytes of code, got {large}"
    print("bytes of the module:", module)
    assert module <= MODULE, f"expected a module of at most {MODULE} bytes, got {module}"


def check_libraries(module: str) -> None:
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", module))
    print("libraries:", *needed)
    strange = [name for name in needed if not ALLOWED.match(name)]
    assert not strange, f"the module would have to load {strange}"
    exported = run("nm", "-D", "--defined-only", module)
    assert "PyInit__cuda" in exported


def run(*command: str, env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


if __name__ == "__main__":
    main()
