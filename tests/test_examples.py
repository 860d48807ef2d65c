"""The examples run, agree with torch as they claim, and end in a figure."""

from __future__ import annotations

import re

import pytest
import torch

from examples import recurrent_ppo, text_classifier


def last_line(example, capsys):
    example.main(["--quick"])
    return capsys.readouterr().out.splitlines()[-1]


def test_a_ppo_update_in_one_call_equals_the_loop_over_steps(capsys):
    assert re.fullmatch(r"recurrent_ppo: speedup \d+\.\d", last_line(recurrent_ppo, capsys))


def test_the_ppo_example_would_notice_a_reset_that_is_missing():
    torch.manual_seed(0)
    loop = recurrent_ppo.Policy(16, 8, 4, recurrent_ppo.step_by_step)
    rollout = recurrent_ppo.make_rollout(loop, steps=20, environments=3, episode=5)
    expected = recurrent_ppo.update_gradients(loop, rollout)
    rollout.episode_starts.zero_()
    got = recurrent_ppo.update_gradients(loop, rollout)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-5)


def test_the_classifier_learns_from_padded_batches(capsys):
    line = last_line(text_classifier, capsys)
    found = re.fullmatch(r"text_classifier: accuracy (\d\.\d+)", line)
    assert found
    assert float(found[1]) > 0.8
