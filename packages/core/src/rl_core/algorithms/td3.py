"""Twin delayed deep deterministic policy gradient: settings and losses.

Source: Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch

from rl_core.algorithm.replay_config import ReplayAlgorithmConfig
from rl_core.algorithms.sac import ACTOR_MODEL
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import ModuleSettings, Positive, Schedule, check_schedule
from rl_core.learning.replay_learner import Draw, Group, Losses, ReplayObjective
from rl_core.learning.replay_settings import ReplayBufferSettings, ReplaySettings
from rl_core.module.actor_q import ActorQ, ActorQSettings
from rl_core.module.settings import ModelSettings
from rl_core.ops.soft_actor_critic import smoothed_action
from rl_core.ops.value_learning import td_target
from rl_core.replay.records import Transitions

NonNegative = Annotated[float, Range(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TD3Settings(ReplaySettings):
    """Section `training` of TD3. Defaults are those of the paper's appendix C; noise is a share of half the range."""

    lr: Schedule = 1e-3
    """Learning rate, constant or a schedule over env steps."""
    replay_buffer_config: ReplayBufferSettings = field(default_factory=lambda: ReplayBufferSettings(capacity=1_000_000))
    """The replay buffer."""
    actor_lr: Schedule | None = None
    """Learning rate of the actor; None takes `lr`."""
    critic_lr: Schedule | None = None
    """Learning rate of the critics; None takes `lr`."""
    policy_delay: Positive = 2
    """Gradient steps of the critics for each of the actor and of the target networks."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions while sampling."""
    target_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target's actions."""
    target_noise_clip: NonNegative = 0.5
    """Bound of that noise."""

    def check(self) -> None:
        """Check the schedules of all learning rates."""
        ReplaySettings.check(self)
        for name in ("actor_lr", "critic_lr"):
            if getattr(self, name) is not None:
                check_schedule(name, getattr(self, name))


def losses(module: ActorQ, targets: Mapping[str, Any], batch: Transitions, settings: TD3Settings, draw: Draw) -> Losses:
    """Loss of the critics, and at every `policy_delay`-th gradient step of the actor."""
    critic = module.critic
    with torch.no_grad():
        next_action = targets["policy"](batch.next_obs)  # [N, D]
        low, half = module.policy.low, (module.policy.high - module.policy.low) / 2
        noise = settings.target_noise * torch.randn(next_action.shape, generator=draw.generator).to(next_action)
        one = torch.ones_like(low)
        share = smoothed_action((next_action - low) / half - 1, noise, settings.target_noise_clip, -one, one)
        next_action = low + half * (share + 1)
        next_q = targets["critic"](batch.next_obs, next_action.view_as(batch.action)).squeeze(-1).amin(0)
        goal = td_target(batch.reward, batch.discount, next_q)
    q = critic(batch.obs, batch.action).squeeze(-1)  # [C, N]
    error = q - goal
    critic_loss = (error.square() * batch.weight).mean(-1).sum()
    report = {
        "critic_loss": critic_loss.detach(),
        "q_mean": q.detach().mean(),
        "td_error": error.detach().abs().mean(),
    }
    by_group = {"critic": critic_loss}
    if (draw.step + 1) % settings.policy_delay == 0:
        action = module.policy(batch.obs).view_as(batch.action)
        by_group["actor"] = -critic(batch.obs, action)[0].mean()
        report["policy_loss"] = by_group["actor"].detach()
    return Losses(by_group, report, error.detach().abs().amax(0))


def explore(module: ActorQ, settings: TD3Settings, env_steps: int) -> None:
    """Act at random until learning starts, with noise from then on."""
    warming_up = env_steps < settings.num_steps_sampled_before_learning_starts
    module.exploration.copy_(torch.tensor([settings.exploration_noise, float(warming_up)]))


OBJECTIVE = ReplayObjective(
    groups={"critic": Group(parts=("critic",), lr="critic_lr"), "actor": Group(parts=("policy",), lr="actor_lr")},
    targets=("policy", "critic"),
    losses=losses,
    report=("critic_loss", "policy_loss", "q_mean", "td_error"),
    explore=explore,
)


class TD3Config(ReplayAlgorithmConfig):
    """Config of TD3: `TD3Config().environment("Pendulum-v1").training(policy_delay=2).build()`."""

    name = "td3"
    action_spaces = ("Box",)
    objective = OBJECTIVE
    default_module = ActorQ
    training = Section(TD3Settings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    rl_module = Section(ModuleSettings, model_config=ACTOR_MODEL)

    @staticmethod
    def module_settings(model: ModelSettings, training: TD3Settings) -> ActorQSettings:
        """Settings of actor and critics."""
        return ActorQSettings(model=model, actor="deterministic")
