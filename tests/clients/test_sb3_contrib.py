"""sb3-contrib: RecurrentPPO learns the very same with fastrnn's layers in its policy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import assert_same, client, has_fast_layers, show_times

import fastrnn

sb3_contrib = client("sb3_contrib")

pytestmark = pytest.mark.filterwarnings("ignore")


def learner() -> Any:
    return sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=128, batch_size=64, n_epochs=2, seed=0, device="cpu"
    )


def test_recurrent_ppo() -> None:
    plain = learner()
    with fastrnn.patch():
        patched = learner()
    converted = learner()
    fastrnn.convert(converted.policy)
    assert not has_fast_layers(plain.policy)
    for model in (patched, converted):
        assert has_fast_layers(model.policy)
    trained = {}
    for name, model in {"torch": plain, "patched": patched, "converted": converted}.items():
        model.set_random_seed(0)
        model.learn(256)
        trained[name] = [p.detach().clone() for p in model.policy.parameters()]
    assert_same(trained["patched"], trained["torch"])
    assert_same(trained["converted"], trained["torch"])
    observed = torch.randn(1, 4), torch.zeros(1)
    show_times("sb3-contrib RecurrentPPO, update", plain.train, patched.train)
    show_times(
        "sb3-contrib RecurrentPPO, step",
        *(
            lambda model=model: model.predict(observed[0].numpy(), deterministic=True)
            for model in (plain, patched)
        ),
    )
