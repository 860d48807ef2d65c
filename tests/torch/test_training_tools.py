"""What training loops wrap around a layer: checkpoints, averages, hooks, clipping, workers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from cases import CELLS, LAYERS, Case, flat, input_of, twins
from roads import ROADS
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import fastrnn

KINDS = [*LAYERS, *CELLS]


def assert_close(got: Any, expected: Any) -> None:
    for g, e in zip(flat(got), flat(expected), strict=True):
        torch.testing.assert_close(g, e, rtol=0, atol=Case().tolerance)


def gradients(layer: Any, loss: Tensor) -> list[Tensor]:
    layer.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in layer.parameters()]


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpointed_layer_has_its_gradients_and_dropout_masks(
    kind: str, use_reentrant: bool, each_road: str
) -> None:
    dropout = 0.0 if each_road == "short" else 0.5
    options = {"num_layers": 2, "dropout": dropout} if kind in LAYERS else {}
    layer, _ = twins(kind, **options)
    x = input_of(kind).requires_grad_()
    torch.manual_seed(1)
    y = flat(layer(x))
    expected = [*y, *gradients(layer, y[0].square().sum()), x.grad]
    x.grad = None
    torch.manual_seed(1)
    y = flat(checkpoint(layer, x, use_reentrant=use_reentrant))
    assert_close([*y, *gradients(layer, y[0].square().sum()), x.grad], expected)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", LAYERS)
def test_averaged_models_average_the_weights_that_are_used(kind: str) -> None:
    results = []
    for layer in twins(kind):
        model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), layer)
        averages = [AveragedModel(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn())]
        for factor in (1.0, 2.0, 0.5):
            with torch.no_grad():
                layer.weight_hh_l0.mul_(factor)
            for average in averages:
                average.update_parameters(model)
        torch.manual_seed(1)
        x = input_of(kind)
        update_bn([x], averages[0])
        results.append([average(x)[0] for average in averages])
        assert type(averages[0].module[1]) is type(layer)
    assert_close(*results)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_run_as_often_as_torch_s_and_change_the_same(kind: str) -> None:
    x, results, logs = input_of(kind), [], []
    for layer in twins(kind):
        log: list[Any] = []
        parameters = list(layer.parameters())
        layer.register_forward_pre_hook(lambda *_, log=log: log.append("before"))
        layer.register_forward_hook(lambda *_, log=log: log.append("after"))
        layer.register_full_backward_pre_hook(lambda *_, log=log: log.append("backward"))
        layer.register_full_backward_hook(
            lambda _, d_inputs, d_outputs, log=log: log.append((len(d_inputs), len(d_outputs)))
        )
        parameters[0].register_hook(lambda gradient: 2 * gradient)
        parameters[1].register_post_accumulate_grad_hook(
            lambda p, log=log: log.append(p.grad.shape)
        )
        inside = x.clone().requires_grad_()
        y = flat(layer(inside))[0]
        y.register_hook(lambda gradient: 3 * gradient)
        results.append([*gradients(layer, y.square().sum()), inside.grad])
        logs.append(log)
    assert_close(*results)
    assert sorted(map(str, logs[0])) == sorted(map(str, logs[1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hooks_on_saved_tensors_may_put_them_anywhere(each_road: str, dtype: torch.dtype) -> None:
    """As those do that keep NumPy's arrays or one large buffer, in which nothing is aligned."""
    layer, x = twins("LSTM")[0].to(dtype), input_of("LSTM").to(dtype)
    expected = gradients(layer, layer(x)[0].square().sum())

    def elsewhere(t: Tensor) -> Tensor:
        return t.new_empty(t.numel() + 1)[1:].view(t.shape).copy_(t)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: elsewhere(t.detach()), lambda t: t):
        y = layer(x)[0]
    assert_close(gradients(layer, y.square().sum()), expected)


def test_hooks_on_saved_tensors_see_what_backward_needs(each_road: str) -> None:
    layer, _ = twins("LSTM")
    x = input_of("LSTM")
    expected = gradients(layer, layer(x)[0].square().sum())
    packed, unpacked = [], []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (packed.append(t), t.clone())[1], lambda t: (unpacked.append(t), t)[1]
    ):
        y = layer(x)[0]
    assert_close(gradients(layer, y.square().sum()), expected)
    assert len(packed) == len(unpacked)
    if each_road == "operator":  # saves everything
        assert {id(x), *map(id, layer.parameters())} < set(map(id, packed))
        return
    # The third is what forward has kept; without a gradient of x nothing reads weight_ih.
    assert len(packed) == 3
    assert packed[0] is x
    assert packed[1] is layer.weight_hh_l0


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_clipped_as_torch_s(kind: str) -> None:
    x, results = input_of(kind), []
    for layer in twins(kind):
        gradients(layer, flat(layer(x))[0].square().sum())
        norm = torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
        torch.nn.utils.clip_grad_value_(layer.parameters(), 0.01)
        results.append([norm, *(p.grad for p in layer.parameters())])
    assert_close(*results)


@pytest.mark.parametrize("each_road", [way for way in ROADS if way != "operator"], indirect=True)
@pytest.mark.usefixtures("each_road")
def test_anomaly_mode_names_the_layer_where_nan_appeared() -> None:
    layer, _ = twins("LSTM")
    x = torch.full((5, 2, 3), torch.nan, requires_grad=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly():
            loss = layer(x)[0].sum()
            with pytest.raises(RuntimeError, match="'_RecurrenceBackward' returned nan"):
                loss.backward()
    assert any("modules.py" in str(warning.message) for warning in caught)


@pytest.mark.usefixtures("each_road")
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_optimizers_of_every_make_train_it(optimizer: str, way: str) -> None:
    x, results = input_of("GRU"), []
    for layer in twins("GRU"):
        steps = getattr(torch.optim, optimizer)(layer.parameters(), 0.1, **{way: True})
        for _ in range(3):
            gradients(layer, layer(x)[0].square().sum())
            steps.step()
        results.append(layer(x))
    assert_close(*results)


class Encoded(Dataset[Tensor]):
    """What a layer makes of the numbers from 0 to 5."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            y: Tensor = self.layer(torch.full((5, 3), float(index)))[0]
        return y


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_of_a_data_loader_use_a_layer_that_was_used_before(
    start: str, workers: int
) -> None:
    layer = fastrnn.LSTM(3, 64)
    layer(torch.randn(50, 16, 3))  # on all threads
    data = Encoded(layer)
    loader = DataLoader(data, 3, num_workers=workers, multiprocessing_context=start)
    assert torch.equal(torch.cat(list(loader)), torch.stack([data[i] for i in range(6)]))
