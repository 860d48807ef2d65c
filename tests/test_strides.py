"""Inputs as they lie in memory: any strides, expanded, and farther apart than 32 bits can say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import fastrnn

FAR = 2**31 + 64  # elements


def gradients_and_output(
    layer: torch.nn.Module, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().requires_grad_()
    y, _ = layer(x)
    y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_and_rows_farther_apart_than_32_bits_are_found(
    batch_first: bool, tmp_path: Path
) -> None:
    # A sparse file: what is never touched takes neither memory nor disk.
    memory = torch.from_file(str(tmp_path / "far"), shared=True, size=FAR + 64)
    far = memory.as_strided((2, 3, 4), (FAR, 8, 1))
    x = torch.randn(2, 3, 4)
    far.copy_(x)
    layer = fastrnn.LSTM(4, 5, batch_first=batch_first)
    for got, want in zip(
        gradients_and_output(layer, far), gradients_and_output(layer, x), strict=True
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_transposed_sliced_and_expanded_inputs_give_what_their_copies_give(name: str) -> None:
    layer = getattr(fastrnn, name)(4, 5, num_layers=2, bidirectional=True)
    base = torch.randn(6, 7, 9)
    views = {
        "transposed": base[..., :4].transpose(0, 1),
        "every other step": base[::2, :, 1:5],
        "every other feature": base[..., ::2][..., :4],
        "features first": torch.randn(4, 6, 7).permute(1, 2, 0),
        "one row for all": base[:, :1, :4].expand(6, 5, 4),
        "one step for all": base[:1, :, :4].expand(3, 7, 4),
    }
    for what, view in views.items():
        for got, want in zip(
            gradients_and_output(layer, view),
            gradients_and_output(layer, view.contiguous()),
            strict=True,
        ):
            assert torch.equal(got, want), what


def test_states_and_weights_need_not_be_contiguous() -> None:
    plain, strided = fastrnn.GRU(3, 4), fastrnn.GRU(3, 4)
    for name, parameter in plain.named_parameters():
        wide = torch.zeros(*parameter.shape, 2)
        wide[..., 0] = parameter.detach()
        setattr(strided, name, torch.nn.Parameter(wide[..., 0]))
        assert not getattr(strided, name).is_contiguous()
    x = torch.randn(5, 2, 3)
    h = torch.randn(2, 1, 4).transpose(0, 1)
    assert torch.equal(plain(x, h.contiguous())[0], strided(x, h)[0])


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_outputs_lie_in_memory_as_torchs_do(
    name: str, batch_first: bool, options: dict[str, object]
) -> None:
    x = torch.randn(3, 4, 5)
    theirs = getattr(torch.nn, name)(5, 6, batch_first=batch_first, **options)
    ours = fastrnn.convert(theirs)
    frozen = fastrnn.freeze(ours)
    for layer, grad in [(ours, True), (ours, False), (frozen, False)]:
        with torch.set_grad_enabled(grad):
            assert layer(x)[0].stride() == theirs(x)[0].stride()
    if not batch_first:
        return
    plain = ours(x)[0]
    for got in (ours(x, lengths=torch.tensor([4, 2, 4]))[0], ours(x, return_states=True)[0]):
        assert got.stride() == plain.stride()
    with FakeTensorMode(allow_non_fake_inputs=True):  # one operator of torch's
        assert ours(torch.empty(3, 4, 5))[0].stride() == plain.stride()


def test_dropout_behind_a_layer_falls_on_the_same_elements_as_behind_torchs() -> None:
    x = torch.randn(3, 4, 5)
    theirs = torch.nn.GRU(5, 6, batch_first=True)
    drawn = []
    for layer in (theirs, fastrnn.convert(theirs)):
        torch.manual_seed(4)
        drawn.append(torch.nn.functional.dropout(layer(x)[0], 0.5) == 0)
    assert torch.equal(*drawn)
