"""A recurrent PPO update without the loop over time: `resets` where sb3-contrib steps one by one.

A rollout of several environments is one batch [T, B], and episodes end anywhere in it. The policy's
LSTM must not carry its state over such an end. torch.nn.LSTM has no word for that, so recurrent
agents (sb3-contrib's `_process_sequence` is the model for `step_by_step` below) call it once per
step and multiply the state by 1 - episode_start. With fastrnn the whole rollout is one call:

    output, state = lstm(features, state, resets=episode_starts)

This script computes one PPO loss both ways, asserts that loss and gradients are equal, and times
both.

    python examples/recurrent_ppo.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fastrnn

State = tuple[Tensor, Tensor]
Process = Callable[[nn.LSTM, Tensor, State, Tensor], Tensor]

CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT = 0.2, 0.5, 0.01


def step_by_step(lstm: nn.LSTM, features: Tensor, state: State, episode_starts: Tensor) -> Tensor:
    """The LSTM's output [T, B, H], one call per step."""
    outputs = []
    for x, start in zip(features, episode_starts, strict=True):
        keep = (1.0 - start.float()).view(1, -1, 1)
        output, state = lstm(x.unsqueeze(0), (keep * state[0], keep * state[1]))
        outputs.append(output)
    return torch.cat(outputs)


def in_one_call(lstm: nn.LSTM, features: Tensor, state: State, episode_starts: Tensor) -> Tensor:
    """The same, with the state cleared inside the layer."""
    output, _ = lstm(features, state, resets=episode_starts)
    return output


class Policy(nn.Module):
    """Actor and critic on one LSTM; discrete actions."""

    def __init__(self, observations: int, hidden: int, actions: int, process: Process) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(observations, 64), nn.Tanh())
        self.lstm = nn.LSTM(64, hidden)
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)
        self.process = process

    def forward(self, observations: Tensor, state: State, episode_starts: Tensor) -> State:
        """Log-probabilities of all actions [T, B, A] and values [T, B]."""
        features = self.encoder(observations)
        latent = self.process(self.lstm, features, state, episode_starts)
        return self.actor(latent).log_softmax(-1), self.critic(latent).squeeze(-1)


@dataclass(frozen=True)
class Rollout:
    """What the environments and the policy of that time left behind; all [T, B, ...]."""

    observations: Tensor
    episode_starts: Tensor
    actions: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    state: State


def make_rollout(policy: Policy, steps: int, environments: int, episode: int) -> Rollout:
    """A rollout with episodes of random lengths, `episode` steps on average."""
    shape = (steps, environments)
    observations = torch.randn(*shape, policy.encoder[0].in_features)
    episode_starts = torch.rand(shape) < 1 / episode
    hidden = policy.lstm.hidden_size
    state = (torch.randn(1, environments, hidden), torch.randn(1, environments, hidden))
    with torch.no_grad():
        log_probs, values = policy(observations, state, episode_starts)
        actions = torch.distributions.Categorical(logits=log_probs).sample()
        old_log_probs = taken(log_probs, actions) + 0.1 * torch.randn(shape)
    advantages = torch.randn(shape)
    returns = values + advantages
    return Rollout(observations, episode_starts, actions, old_log_probs, advantages, returns, state)


def taken(log_probs: Tensor, actions: Tensor) -> Tensor:
    return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def ppo_loss(policy: Policy, rollout: Rollout) -> Tensor:
    """The clipped surrogate, the value loss and the entropy bonus of PPO (arXiv:1707.06347)."""
    log_probs, values = policy(rollout.observations, rollout.state, rollout.episode_starts)
    advantages = (rollout.advantages - rollout.advantages.mean()) / rollout.advantages.std()
    ratio = (taken(log_probs, rollout.actions) - rollout.old_log_probs).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
    value_loss = (rollout.returns - values).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    return policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * entropy


def update_gradients(policy: Policy, rollout: Rollout) -> list[Tensor]:
    """The loss and the gradient of every parameter."""
    loss = ppo_loss(policy, rollout)
    return [loss, *torch.autograd.grad(loss, list(policy.parameters()))]


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="One PPO update, step by step and in one call.")
    parser.add_argument("--quick", action="store_true", help="a small rollout, few repeats")
    quick = parser.parse_args(arguments).quick
    steps, environments, hidden = (32, 4, 32) if quick else (128, 8, 256)

    torch.manual_seed(0)
    loop = Policy(16, hidden, 4, step_by_step)
    fused = Policy(16, hidden, 4, in_one_call)
    fused.load_state_dict(loop.state_dict())
    fastrnn.convert(fused)

    rollout = make_rollout(loop, steps, environments, episode=25)
    print(f"{steps} steps, {environments} environments, {int(rollout.episode_starts.sum())} resets")
    both = zip(update_gradients(fused, rollout), update_gradients(loop, rollout), strict=True)
    for got, expected in both:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    print("loss and gradients are equal")

    repeats = 3 if quick else 20
    loop_ms = milliseconds(lambda: update_gradients(loop, rollout), repeats)
    fused_ms = milliseconds(lambda: update_gradients(fused, rollout), repeats)
    print(f"torch.nn step by step {loop_ms:.2f} ms, fastrnn in one call {fused_ms:.2f} ms")
    print(f"recurrent_ppo: speedup {loop_ms / fused_ms:.1f}")


if __name__ == "__main__":
    main()
