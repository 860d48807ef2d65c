"""What only a GPU can show: streams, devices, CUDA graphs, and that nothing waits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from cases import Case, flat, run
from devices import BF16, F16, F32, F64, largest_error, on, products, why_no_gpu
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

pytestmark = pytest.mark.skipif(why_no_gpu() is not None, reason=str(why_no_gpu()))

KINDS = ["LSTM", "GRU", "RNN"]


@contextmanager
def no_waiting() -> Iterator[None]:
    try:
        with warnings.catch_warnings():  # of torch's, that the mode is a prototype
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def layer_and_input(kind="LSTM", dtype=F32, **options):
    layer = getattr(fastrnn, kind)(24, 40, device="cuda", dtype=dtype, **options)
    return layer, torch.randn(7, 5, 24, device="cuda", dtype=dtype, requires_grad=True)


def step(layer, x, **keywords):
    loss = sum(t.float().sum() for t in flat(layer(x, **keywords)))
    return torch.autograd.grad(loss, [x, *layer.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_the_device(kind):
    layer, x = layer_and_input(kind, num_layers=2, bidirectional=True, dropout=0.5)
    lengths = torch.tensor([3, 7, 0, 1, 5], device="cuda")
    resets = torch.rand(7, 5, device="cuda") < 0.3
    packed = pack_padded_sequence(x, torch.tensor([7, 6, 6, 2, 1]))
    step(layer, x)
    with no_waiting():
        step(layer, x)
        step(layer, x, lengths=lengths, resets=resets)
        y, _ = layer(packed)
        torch.autograd.grad(y.data.sum(), list(layer.parameters()))


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_is_captured_in_a_graph(kind, dtype):
    layer, x = layer_and_input(kind, dtype, num_layers=2, bidirectional=True)
    lengths = torch.tensor([3, 7, 0, 1, 5], device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(layer, x, lengths=lengths)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(layer, x, lengths=lengths)
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
        lengths.copy_(lengths.flip(0))
    graph.replay()
    got = [g.clone() for g in captured]
    expected = step(layer, x, lengths=lengths)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_several_streams_at_once_give_what_each_gives_alone(kind):
    layers = [layer_and_input(kind) for _ in range(4)]
    expected = [step(*pair) for pair in layers]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in layers]
    got = []
    for stream, pair in zip(streams, layers, strict=True):
        with torch.cuda.stream(stream):
            got.append([step(*pair) for _ in range(20)][-1])
    torch.cuda.synchronize()
    for one, other in zip(got, expected, strict=True):
        assert all(torch.equal(g, e) for g, e in zip(one, other, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_call_runs_where_its_tensors_are():
    layer, x = layer_and_input()
    expected = flat(layer(x))
    layer, x = layer.to("cuda:1"), x.detach().to("cuda:1")
    with torch.cuda.device(0):
        got = flat(layer(x))
        assert torch.cuda.current_device() == 0
    assert all(torch.equal(g.cpu(), e.cpu()) for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_errors_are_no_larger_than_cudnns(kind, dtype):
    """Both against float64, as torch's flags are by default, with room for chance: half as much."""
    case = Case(kind, input_size=256, hidden_size=256, lengths=(64,) * 16, dtype=dtype)
    layer, plain = case.pair()
    x, hx = case.input(), case.state()
    judge = Case(**{**vars(case), "dtype": F64}).build(torch.nn)
    judge.load_state_dict(layer.state_dict())
    expected = run(judge, leaf(x.double()), leaf(hx, F64))
    errors = []
    for module in (layer, plain):
        got = run(module.cuda(), leaf(x.cuda()), leaf(on("cuda", hx)))
        errors.append(largest_error([*got[0], *got[1]], [*expected[0], *expected[1]]))
    ours, cudnns = errors
    assert ours <= 1.5 * cudnns


def leaf(value, dtype=None):
    if isinstance(value, tuple):
        return tuple(leaf(v, dtype) for v in value)
    return value.detach().to(dtype or value.dtype).requires_grad_()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_exact_float32_products_on_request(kind):
    layer, x = layer_and_input(kind)
    judge = getattr(torch.nn, kind)(24, 40, dtype=F64)
    judge.load_state_dict(layer.state_dict())
    expected, _ = judge(x.detach().cpu().double())
    with products("ieee"):
        exact, _ = layer(x)
    with products("tf32"):
        rounded, _ = layer(x)
    assert largest_error([exact], [expected]) < 2e-6 < largest_error([rounded], [expected])
