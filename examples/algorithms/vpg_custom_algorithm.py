"""Vanilla policy gradient on CartPole-v1: an algorithm written from scratch.

Shows: the four parts that an algorithm is made of. Settings with a field of their own; `prepare`, which turns a
rollout into samples; `loss`; and a config that names them. On top, a training step of its own, which logs a figure.
    advantage[t] = sum over k of gamma^k * reward[t + k] - value(obs[t])
    loss = -mean(log_prob * advantage) + vf_loss_coeff * mean((value - return)^2)
Where the rollout is cut before an episode is over, the value of the last observation stands for what would follow.
Criterion: evaluation return of 250 within 1,000,000 env steps.
Command: python examples/algorithms/vpg_custom_algorithm.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 252.8, 293.9, 258.2 after 40,960, 87,040, 51,200 steps (1 to 2 s).
Source: Sutton and Barto 2018, section 13.4, REINFORCE with baseline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from rl_core import Algorithm, AlgorithmConfig, Batch, Objective, RLModule, Rollout
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.example import example_parser, run_example
from rl_core.learning.learner import Metrics, MinibatchSettings
from rl_core.ops.returns import reverse_scan

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=250, stop_timesteps=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class VPGSettings(MinibatchSettings):
    """Section `training`: one step per batch, since the gradient only holds for the policy that sampled it."""

    num_epochs: int = 1
    train_batch_size_per_learner: int = 512
    minibatch_size: int = 512
    vf_loss_coeff: Annotated[float, Range(ge=0)] = 0.5
    """Weight of the value loss."""


def prepare(module: RLModule, rollout: Rollout, settings: VPGSettings) -> tuple[Batch, Metrics]:
    """Sum up the discounted rewards `[T, B]` that follow each step, and flatten to N samples."""
    with torch.inference_mode():
        value = module.forward_value(rollout.obs)  # [T + 1, B]
        done = rollout.terminated | rollout.truncated
        future = torch.zeros_like(rollout.reward)  # where the sum is cut: the value of what would follow
        future[-1] = value[-1]
        if len(rollout.final_index):
            final_value = module.forward_value(rollout.final_obs)
            future = future.flatten().index_copy(0, rollout.final_index, final_value).view_as(future)
        future = future.masked_fill(rollout.terminated, 0.0)
        decay = done.logical_not().to(future.dtype) * settings.gamma
        returns = reverse_scan(rollout.reward + settings.gamma * future, decay)
        log_prob = module.distribution.log_prob(rollout.behavior_dist_inputs, rollout.action)
    batch = Batch(
        obs=rollout.obs[:-1].flatten(0, 1),
        action=rollout.action.flatten(0, 1),
        behavior_log_prob=log_prob.flatten(),
        behavior_dist_inputs=rollout.behavior_dist_inputs.flatten(0, 1),
        behavior_value=value[:-1].flatten(),
        advantage=(returns - value[:-1]).flatten(),
        value_target=returns.flatten(),
    )
    return batch, {"return_to_go": float(returns.mean())}


def loss(module: RLModule, batch: Batch, settings: VPGSettings) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Policy gradient with the value function as baseline."""
    dist_inputs, value = module.forward_train(batch.obs)
    log_prob, entropy = module.distribution.log_prob_and_entropy(dist_inputs, batch.action)
    advantage = batch.advantage / (batch.advantage.std() + 1e-8)
    policy_loss = -(log_prob * advantage).mean()
    value_loss = (value - batch.value_target).square().mean()
    total = policy_loss + settings.vf_loss_coeff * value_loss
    metrics = {"total_loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy.mean()}
    return total, {name: value.detach() for name, value in metrics.items()}


class VPG(Algorithm):
    """The algorithm: sample, update, publish."""

    def training_step(self) -> dict[str, float]:
        """Do what the base class does too, and log how many episodes each update saw."""
        rollout = self.sample()
        with self.timer("update_s"):
            metrics = self.learner.update(rollout)
        with self.timer("publish_s"):
            self.env_runner.set_weights(self.learner.weights())
        self.metrics.log_value("vpg/episodes_per_update", len(self.env_runner.episodes.returns))
        return metrics


class VPGConfig(AlgorithmConfig):
    """Config of VPG."""

    name = "vpg"
    objective = Objective(
        prepare=prepare, loss=loss, settings_at=lambda settings, env_steps: settings, adapt=lambda settings, _: settings
    )
    training = Section(VPGSettings)

    def build(self) -> VPG:
        """Make the algorithm, with a copy of this config."""
        return VPG(self)


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(VPGConfig().environment(args.env).training(lr=3e-3), args)
