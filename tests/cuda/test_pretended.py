"""The pretended device refuses what a GPU would refuse, within the CUDA passes as well."""

from __future__ import annotations

from unittest import mock

import emulated
import pytest
import torch
from cases import Case, flat, like
from devices import F64, on
from pretended import pretended

import fastrnn
from fastrnn._call import dropout
from fastrnn._engine.cuda import backend
from fastrnn._engine.cuda.passes import Pass

pytestmark = pytest.mark.slow

MIXED = r"on the same device.*cuda:0 and cpu"


def prepared(**options):
    case = Case(num_layers=2, dtype=F64, **options)
    return case.build().to("cuda"), on("cuda", like(case.input(), F64))


@pytest.mark.usefixtures("pretence")
def test_memory_says_where_it_is_and_moves():
    x = torch.randn(3, 4, device="cuda")
    assert x.is_cuda
    assert (x[1:] + 1).device == torch.device("cuda:0")
    assert x.cpu().is_cpu
    assert x.is_cuda
    assert not torch.randn(3).is_cuda
    assert torch.equal(x.cpu().to("cuda"), x)
    assert x.to(torch.float64).is_cuda


@pytest.mark.usefixtures("pretence")
def test_devices_do_not_mix_but_for_numbers():
    x = torch.randn(3, device="cuda")
    assert (x * torch.tensor(2.0)).is_cuda
    with pytest.raises(RuntimeError, match=MIXED):
        x + torch.ones(3)


@pytest.mark.usefixtures("pretence")
def test_masks_that_lie_elsewhere_are_caught():
    layer, x = prepared(dropout=0.5)
    draw = dropout.dropout_mask
    elsewhere = mock.patch.object(dropout, "dropout_mask", lambda *given: draw(*given).cpu())
    with elsewhere, pytest.raises(RuntimeError, match=MIXED):
        layer(x)


@pytest.mark.usefixtures("pretence")
def test_steps_that_lie_elsewhere_are_caught():
    """`Placement.prepared` compares them with lengths on the device."""
    layer, x = prepared()
    lengths = torch.tensor([3, 5], device="cuda")
    arange = torch.arange
    elsewhere = mock.patch.object(torch, "arange", lambda n, device: arange(n, device="cpu"))
    with elsewhere, pytest.raises(RuntimeError, match=MIXED):
        layer(x, lengths=lengths)


@pytest.mark.usefixtures("pretence")
def test_an_address_on_the_cpu_reaches_no_kernel():
    layer, x = prepared()
    state = torch.zeros(2, 2, 4, dtype=F64)
    changed = mock.patch.object(Pass, "ordered", return_value=state)
    with (
        changed,
        pytest.raises(RuntimeError, match="kernel on cuda:0 was to get an address on cpu"),
    ):
        layer(x)


@pytest.mark.usefixtures("pretence")
def test_states_and_weights_on_another_device_are_refused_as_torch_does():
    layer, x = prepared()
    state = torch.zeros(2, 2, 4, dtype=F64)
    with pytest.raises(RuntimeError, match="hidden tensors are not at the same device"):
        layer(x, (state, state))
    with pytest.raises(RuntimeError, match="parameter tensors are not at the same device"):
        fastrnn.LSTM(3, 4, dtype=F64)(x)


@pytest.mark.skipif(emulated.missing() is not None, reason=str(emulated.missing()))
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_graph_of_a_compiler_computes_there_what_the_layer_does(kind):
    """torch's compiler does not look into a mode that pretends: the graph is made before."""
    case = Case(kind, dtype=F64, num_layers=2, bidirectional=True, with_state=False)
    layer, x = case.build(), like(case.input(), F64)
    made = []

    def recorded(graph, _):
        def called(*inputs):
            made.append((graph, inputs))
            return graph(*inputs)

        return called

    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        torch.compile(layer, backend=recorded, fullgraph=True)(x)
    ((graph, inputs),) = made
    with (
        pretended(emulated.load()),
        mock.patch.object(
            backend.ForwardPass, "run", autospec=True, side_effect=backend.ForwardPass.run
        ) as ran,
    ):
        moved = {id(one): on("cuda", one) for one in inputs}
        got = graph(*moved.values())
        assert ran.call_count == 1
        wanted = [moved[id(one)] for one in (x, *layer.parameters())]
        gradients = torch.autograd.grad(sum(y.sum() for y in got), wanted)
        layer.to("cuda")
        expected = flat(layer(wanted[0]))
        expected_gradients = torch.autograd.grad(
            sum(y.sum() for y in expected), [wanted[0], *layer.parameters()]
        )
        assert all(y.is_cuda for y in got)
        assert all(map(torch.equal, got, expected))
        assert all(map(torch.equal, gradients, expected_gradients))
