"""torch's flags for TF32, and what a CUDA tensor gets where there are no kernels for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastrnn import _torch, functional
from fastrnn._call.spec import PLAIN, Spec, Variant
from fastrnn._engine import backends, cuda, fallback
from fastrnn._engine.cuda import device
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
    with (
        mock.patch.object(torch.backends, "cudnn", older),
        mock.patch.object(_torch, "rnn_fp32_precision", _torch._rnn_fp32_precision),
    ):
        assert uses_tf32() == allowed


@pytest.fixture
def not_built() -> Iterator[None]:
    with mock.patch.object(cuda, "is_built", return_value=False):
        cuda.extension.cache_clear()
        yield
    cuda.extension.cache_clear()


@pytest.mark.usefixtures("not_built")
def test_a_cuda_tensor_without_the_kernels_is_told_how_to_get_them(monkeypatch):
    monkeypatch.setattr(fallback._SETTING, "chosen", "error")
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


@pytest.mark.usefixtures("built")
def test_variants_that_are_torchs_cells_in_other_words_are_not_refused():
    with loaded(), FakeTensorMode():
        x = torch.empty(5, 2, 3, device="cuda:0")
        reversed_tanh = replace(SPEC, variant=Variant(activation="tanh", reverse=True))
        relu = replace(SPEC, cell="rnn_tanh", variant=Variant(activation="relu"))
        assert backends.refusal(x, reversed_tanh) is None
        assert backends.refusal(x, relu) is None


def loaded(versions=(13000, 13000), error=""):
    """A loaded extension, of this driver and with this to say of every device."""
    extension = mock.Mock(architectures="80-real 90-virtual")
    extension.versions.return_value, extension.load_error.return_value = versions, error
    return mock.patch.object(cuda, "extension", return_value=extension)


@pytest.fixture
def built() -> Iterator[None]:
    device._why_not.cache_clear()
    with mock.patch.object(cuda, "is_built", return_value=True):
        yield
    device._why_not.cache_clear()


@pytest.mark.usefixtures("built")
def test_a_driver_older_than_the_kernels_is_named():
    with loaded(versions=(12080, 13000)):
        reason = device.why_not(torch.device("cuda:0"))
    assert "driver for CUDA 13.0 and this one is for 12.8" in reason


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "versions", [(13000, 13000), (13010, 13000), (13000, 13010), (14000, 13000)]
)
def test_drivers_of_the_same_major_version_or_a_later_one_serve(versions):
    with loaded(versions):
        assert device.why_not(torch.device("cuda:0")) is None


@pytest.mark.usefixtures("built")
def test_a_gpu_below_the_oldest_that_the_kernels_are_for_is_named():
    capability = mock.patch.object(torch.cuda, "get_device_capability", return_value=(7, 5))
    with loaded(error="no kernel image is available"), capability, FakeTensorMode():
        reason = backends.refusal(torch.empty(5, 2, 3, device="cuda:1"), SPEC)
    assert re.search(r"80-real 90-virtual.*7\.5.*no kernel", reason)


@pytest.mark.usefixtures("built")
def test_a_module_that_does_not_load_is_a_reason():
    with mock.patch.object(cuda, "extension", side_effect=ImportError("libstdc++.so.6")):
        assert "libstdc++.so.6" in device.why_not(torch.device("cuda:0"))


@pytest.mark.usefixtures("built")
def test_each_device_is_asked_once():
    with loaded() as extension:
        for index in (0, 1, 0, 1):
            device.why_not(torch.device("cuda", index))
    asked = extension.return_value.load_error.call_args_list
    assert asked == [mock.call(0), mock.call(1)]


@pytest.mark.usefixtures("built")
def test_a_compiler_takes_the_answer_as_it_is():
    def asks(x):
        return x if device.why_not(torch.device("cuda:0")) is None else -x

    torch._dynamo.reset()
    with loaded():
        compiled = torch.compile(asks, backend="eager", fullgraph=True)
        assert torch.equal(compiled(torch.ones(2)), torch.ones(2))
