"""A call runs on torch's threads, whichever of the two was loaded first, or on the engine's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from cases import LAYERS, Case, run
from engine import probe

from fastrnn import _core

linux = pytest.mark.skipif(sys.platform != "linux", reason="the engine has its own elsewhere")

COUNT = """
import json, os, re
{imports}

def openmps():
    with open("/proc/self/maps") as maps:
        return sorted(set(re.findall(r"/\\S*/lib(?:g|i)?omp[^/\\s]*", maps.read())))

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
layer, x = fastrnn.GRU(64, 290), torch.randn(20, 40, 64)
torch.randn(2000, 2000).exp_()
before = threads()
layer(x)[0].sum().backward()
print(json.dumps([openmps(), _core.build_info()["openmp"], threads() - before]))
"""


def in_new_process(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@linux
@pytest.mark.parametrize(
    "imports",
    [
        "import torch, fastrnn; from fastrnn import _core",
        "from fastrnn import _core; import fastrnn, torch",
    ],
    ids=["torch first", "engine first"],
)
def test_a_process_has_one_openmp_and_the_engine_starts_no_thread_beside_it(imports):
    loaded, shared, started = in_new_process(COUNT.format(imports=imports))
    assert loaded == [shared]
    assert started == 0


@linux
def test_the_engine_alone_loads_no_openmp():
    code = f"""
import sys; sys.modules["torch"] = None
from fastrnn import _core
{COUNT[COUNT.index("import json") : COUNT.index("def threads")].format(imports="")}
print(json.dumps([openmps(), _core.build_info()["openmp"]]))
"""
    assert in_new_process(code) == [[], None]


@pytest.fixture
def own_threads():
    probe().pretend_no_openmp(True)
    yield
    probe().pretend_no_openmp(False)


def bits(job):
    outputs, gradients = run(*job)
    return [t.detach().numpy().tobytes() for t in (*outputs, *gradients)]


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("kind", LAYERS)
def test_the_engines_own_threads_give_the_bits_of_torchs(kind, request):
    case = Case(kind, hidden_size=290, lengths=(6,) * 33, num_layers=2, bidirectional=True)
    job = case.build(), case.input(), case.state()
    torch.set_num_threads(3)
    expected = bits(job)
    request.getfixturevalue("own_threads")
    assert _core.build_info()["openmp"] is None
    assert bits(job) == expected
