"""What convert says of layers that it leaves as they are, or that cannot compute where they are."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastrnn
from fastrnn._layers.conversion import Layer, Report

TORCHSCRIPT = "compiled by TorchScript; convert the model before torch.jit.trace compiles it"
DERIVED = "derives from torch.nn.{}; fastrnn.convert(model, subclasses=True) turns it, too"
pytestmark = [  # torch's own affairs
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
    pytest.mark.filterwarnings("ignore:Complex modules are a new feature"),
]


class Own(nn.LSTM):
    pass


class OwnCell(nn.GRUCell):
    pass


class OwnFast(fastrnn.GRU):
    pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4))
        self.decoder = nn.ModuleDict({"step": OwnCell(4, 4), "all": Own(4, 4)})
        self.again = self.decoder["all"]
        self.fast = nn.ModuleList([OwnFast(3, 4), fastrnn.RNN(3, 4)])


def class_of(own):
    return f"{own.__module__}.{own.__qualname__}"


def messages(model, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fastrnn.convert(model, **options)
    assert all(one.category is UserWarning and one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


def test_one_warning_names_all_layers_that_are_passed_over_and_the_way():
    (message,) = messages(Net())
    assert message.splitlines() == [
        "recurrent layers that do not compute with fastrnn: 2",
        f"  decoder.step ({class_of(OwnCell)}): {DERIVED.format('GRUCell')}",
        f"  decoder.all ({class_of(Own)}): {DERIVED.format('LSTM')}",
    ]


def test_nothing_is_said_where_nothing_is_left():
    model = Net()
    assert messages(model, subclasses=True) == []
    assert messages(model) == []
    assert messages(nn.Linear(3, 3)) == []


def test_the_report_lists_both_kinds_in_place_of_the_warning():
    model = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returned, report = fastrnn.convert(model, report=True)
    assert returned is model
    assert report == Report(
        converted=(Layer("encoder.1", "torch.nn.modules.rnn.GRU", ""),),
        passed_over=(
            Layer("decoder.step", class_of(OwnCell), DERIVED.format("GRUCell")),
            Layer("decoder.all", class_of(Own), DERIVED.format("LSTM")),
        ),
    )
    assert str(report).splitlines()[:3] == [
        "converted: 1",
        "  encoder.1 (torch.nn.modules.rnn.GRU)",
        "passed over: 2",
    ]
    _, report = fastrnn.convert(model, subclasses=True, report=True)
    assert [layer.name for layer in report.converted] == ["decoder.step", "decoder.all"]
    assert report.passed_over == ()


def test_a_parametrized_layer_is_called_by_the_class_that_somebody_wrote():
    layers = nn.ModuleList([Own(3, 4), nn.GRU(3, 4)])
    for layer in layers:
        parametrizations.weight_norm(layer, "weight_hh_l0")
    _, report = fastrnn.convert(layers, report=True)
    assert [layer.kind for layer in report.converted] == ["torch.nn.modules.rnn.GRU"]
    assert [layer.kind for layer in report.passed_over] == [class_of(Own)]


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(3, 4)
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x):
        return self.cell(self.layer(x)[0][-1])


def scripted():
    return torch.jit.script(Compiled())


def traced():
    return torch.jit.trace(Compiled(), torch.randn(5, 2, 3))


def loaded():
    buffer = io.BytesIO()
    torch.jit.save(scripted(), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.parametrize("compile", [scripted, traced, loaded])
def test_layers_that_torchscript_runs_are_named(compile):
    model = nn.ModuleDict({"old": compile(), "new": nn.GRU(3, 4)})
    _, report = fastrnn.convert(model, report=True)
    assert report.passed_over == (
        Layer("old.layer", "LSTM", TORCHSCRIPT),
        Layer("old.cell", "GRUCell", TORCHSCRIPT),
    )
    assert [layer.name for layer in report.converted] == ["new"]
    (message,) = messages(compile())
    assert f"layer (LSTM): {TORCHSCRIPT}" in message


def frozen():
    return torch.jit.freeze(scripted().eval())


def of_a_derived_class():
    return torch.jit.trace(nn.Sequential(Own(3, 4)), torch.randn(5, 2, 3))


@pytest.mark.parametrize(
    ("compile", "kind"), [(frozen, "Compiled"), (of_a_derived_class, "Sequential")]
)
def test_compiled_modules_that_do_not_tell_of_their_layers_are_named_as_a_whole(compile, kind):
    _, report = fastrnn.convert(nn.ModuleList([compile()]), report=True)
    assert report.passed_over == (Layer("0", kind, TORCHSCRIPT),)


def test_compiled_modules_without_recurrent_layers_are_none_of_ours():
    linear = torch.jit.script(nn.Sequential(nn.Linear(3, 3)))
    container = torch.jit.script(nn.ModuleList([nn.Linear(3, 3)]))
    assert messages(nn.ModuleList([linear, container])) == []


def test_a_compiled_layer_alone_is_the_model_itself():
    (message,) = messages(torch.jit.script(nn.RNN(3, 4)))
    assert f"the model itself (RNN): {TORCHSCRIPT}" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantized_layers_are_named():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM})
    _, report = fastrnn.convert(model, report=True)
    ((name, kind, note),) = report.passed_over
    assert (name, kind.rpartition(".")[2]) == ("0", "LSTM")
    assert note.startswith("quantized;")


def test_layers_that_cannot_compute_as_they_are_are_converted_and_named():
    model = nn.ModuleDict(
        {
            "complex": nn.GRU(3, 4).to(torch.complex64),
            "reduced": nn.GRU(3, 4, dtype=torch.float16),
            "later": nn.GRU(3, 4, device="meta"),
            "frozen": nn.GRU(3, 4).requires_grad_(False),
        }
    )
    (message,) = messages(model)
    assert message.splitlines() == [
        "recurrent layers that do not compute with fastrnn: 1",
        "  complex (torch.nn.modules.rnn.GRU): fastrnn does not compute torch.complex64",
    ]
    assert all(type(layer) is fastrnn.GRU for layer in model.values())
