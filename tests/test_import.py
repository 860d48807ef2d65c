"""What importing does and does not do, with torch and without."""

from __future__ import annotations

import json

import pytest
from new_process import run_python

import fastrnn

BLOCK_TORCH = "import sys; sys.modules['torch'] = None\n"


def run(code):
    """The output of ``code`` in a new interpreter."""
    result = run_python("-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_fastrnn_imports_neither_torch_nor_the_engine():
    loaded = run("import sys, fastrnn; print(*sys.modules)").split()
    assert "torch" not in loaded
    assert "fastrnn._core" not in loaded


def test_version_and_isa_and_info_work_without_torch():
    assert run(f"{BLOCK_TORCH}import fastrnn; print(fastrnn.__version__)") == fastrnn.__version__
    assert run(f"{BLOCK_TORCH}from fastrnn import isa; print(isa.active())") == fastrnn.isa.active()
    code = f"{BLOCK_TORCH}from fastrnn.__main__ import main; main(['info', '--json'])"
    assert json.loads(run(code))["torch"] is None
    assert "pip install" in run(code.replace(", '--json'", ""))


NEED_TORCH = sorted({*fastrnn.__all__} - {"__version__", "empty_cache", "isa", "set_cuda_policy"})


@pytest.mark.parametrize("statement", ["fastrnn.{}", "from fastrnn import {}"])
def test_touching_what_needs_torch_says_what_to_install(statement):
    code = f"""{BLOCK_TORCH}
import fastrnn
for name in {NEED_TORCH}:
    for _ in range(2):
        try:
            exec({statement!r}.format(name))
        except ImportError as error:
            assert "pip install 'fastrnn[torch]'" in str(error), error
            assert name in str(error), error
        else:
            raise AssertionError(name)
"""
    run(code)


def test_another_module_that_is_missing_is_not_mistaken_for_torch():
    code = """
import sys
sys.modules["fastrnn.functional"] = None
import fastrnn
try:
    fastrnn.LSTM
except ModuleNotFoundError as error:
    assert "functional" in str(error), error
"""
    run(code)


def test_every_public_name_exists_and_is_listed():
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name) is not None
        assert name in dir(fastrnn)


def test_star_import_brings_every_public_name():
    assert set(fastrnn.__all__) <= set(run("from fastrnn import *; print(*globals())").split())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LTSM'"):
        fastrnn.LTSM  # noqa: B018


def test_convert_is_the_function_also_after_an_import_of_its_module():
    code = "import fastrnn._layers.conversion; from fastrnn import revert; print(fastrnn.convert)"
    assert run(code).startswith("<function convert")


def test_importing_fastrnn_first_does_not_disturb_torch():
    code = """
from fastrnn import isa
isa.active()
import torch, fastrnn
print(fastrnn.GRU(3, 4)(torch.zeros(5, 2, 3))[0].shape[2])
"""
    assert run(code) == "4"
