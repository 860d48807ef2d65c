"""torch's flags for TF32, and what a CUDA tensor gets where there are no kernels for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastrnn import functional
from fastrnn._call.spec import PLAIN, Spec, Variant
from fastrnn._engine import backends, cuda, fallback
from fastrnn._engine.cuda.engine import uses_tf32

SPEC = Spec("lstm", 3, 4, 0, 1, False, True, 0.0, PLAIN)


@pytest.fixture
def rnn_precision() -> Iterator[None]:
    rnn = getattr(torch.backends.cudnn, "rnn", None)
    if rnn is None:
        pytest.skip("this torch has no flag of its own for recurrent layers")
    before = rnn.fp32_precision
    yield
    rnn.fp32_precision = before


@pytest.mark.usefixtures("rnn_precision")
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_float32_is_rounded_to_tf32_only_where_torchs_layers_would(precision):
    torch.backends.cudnn.rnn.fp32_precision = precision
    assert uses_tf32() == (precision == "tf32")


@pytest.mark.parametrize("allowed", [False, True])
def test_an_older_torch_has_one_flag_for_all_of_cudnn(allowed):
    older = mock.Mock(spec=["allow_tf32"], allow_tf32=allowed)
    with mock.patch.object(torch.backends, "cudnn", older):
        assert uses_tf32() == allowed


@pytest.fixture
def not_built() -> Iterator[None]:
    with mock.patch.object(cuda, "is_built", return_value=False):
        cuda.extension.cache_clear()
        yield
    cuda.extension.cache_clear()


@pytest.mark.usefixtures("not_built")
def test_a_cuda_tensor_without_the_kernels_is_told_how_to_get_them(monkeypatch):
    monkeypatch.setattr(fallback, "_chosen", "error")
    with FakeTensorMode():
        x, w_ih, w_hh = (torch.empty(s, device="cuda:0") for s in ((5, 2, 3), (16, 3), (16, 4)))
        with pytest.raises(NotImplementedError, match=r"cuda:0.*FASTRNN_CUDA=ON pip install"):
            functional.lstm(x, None, [w_ih, w_hh], bias=False)


@pytest.mark.usefixtures("not_built")
def test_the_extension_itself_says_so_too():
    with pytest.raises(ImportError, match="FASTRNN_CUDA=ON pip install"):
        cuda.extension()


def test_another_device_is_refused_by_name():
    with FakeTensorMode():
        assert "CUDA devices" in backends.refusal(torch.empty(5, 2, 3, device="xpu:0"), SPEC)


@pytest.mark.parametrize(
    "variant",
    [Variant(peephole="ifo"), Variant(cell_clip=1.0), Variant(recurrent_activation="hard_sigmoid")],
)
def test_variants_without_kernels_are_refused_by_name(variant):
    with FakeTensorMode(), mock.patch.object(cuda, "is_built", return_value=True):
        x = torch.empty(5, 2, 3, device="cuda:0")
        reason = backends.refusal(x, replace(SPEC, variant=variant))
        assert re.search(r"CUDA kernels.*Variant", reason)


def test_variants_that_are_torchs_cells_in_other_words_are_not_refused():
    with FakeTensorMode(), mock.patch.object(cuda, "is_built", return_value=True):
        x = torch.empty(5, 2, 3, device="cuda:0")
        reversed_tanh = replace(SPEC, variant=Variant(activation="tanh", reverse=True))
        relu = replace(SPEC, cell="rnn_tanh", variant=Variant(activation="relu"))
        assert backends.refusal(x, reversed_tanh) is None
        assert backends.refusal(x, relu) is None
