"""Soft actor-critic for continuous and discrete actions: settings and losses.

Source: Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications"; Christodoulou 2019 for discrete actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from gymnasium import spaces
from torch import Tensor

from rl_core.algorithm.replay_config import ReplayAlgorithmConfig
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import ModuleSettings, Schedule, check_schedule
from rl_core.learning.replay_learner import Draw, Group, Losses, ReplayObjective
from rl_core.learning.replay_settings import ReplayBufferSettings, ReplaySettings
from rl_core.module.actor_q import ActorQ, ActorQSettings, Critics
from rl_core.module.settings import ModelSettings
from rl_core.ops.soft_actor_critic import (
    actor_loss,
    discrete_actor_loss,
    discrete_soft_value,
    soft_target,
    temperature_loss,
)
from rl_core.ops.value_learning import td_target
from rl_core.replay.records import Transitions

ACTOR_MODEL = ModelSettings(
    fcnet_hiddens=(256, 256),
    fcnet_activation="relu",
    initializer="torch",
    free_log_std=False,
    squash_actions=True,
)
"""Networks of SAC, TD3 and TQC. Source: Haarnoja et al. 2018b, table 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SACSettings(ReplaySettings):
    """Section `training` of SAC. Names are RLlib's where it has them; defaults are those of the paper's table 1."""

    replay_buffer_config: ReplayBufferSettings = field(default_factory=lambda: ReplayBufferSettings(capacity=1_000_000))
    """The replay buffer."""
    num_steps_sampled_before_learning_starts: Annotated[int, Range(ge=0)] = 100
    """Env steps in the buffer before the first gradient step."""
    actor_lr: Schedule | None = None
    """Learning rate of the actor; None takes `lr`."""
    critic_lr: Schedule | None = None
    """Learning rate of the critics; None takes `lr`."""
    alpha_lr: Schedule | None = None
    """Learning rate of the temperature; None takes `lr`."""
    initial_alpha: Annotated[float, Range(gt=0)] = 1.0
    """Temperature at the start, in reward units per nat."""
    target_entropy: float | Literal["auto"] = "auto"
    """Entropy in nats that the temperature steers to; `auto` is minus the number of action dimensions, and for Discrete
    actions 0.98 of the greatest possible. Source: Haarnoja et al. 2018b, table 1; Christodoulou 2019, section 4."""

    def check(self) -> None:
        """Check the schedules of all learning rates."""
        ReplaySettings.check(self)
        for name in ("actor_lr", "critic_lr", "alpha_lr"):
            if getattr(self, name) is not None:
                check_schedule(name, getattr(self, name))


def losses(
    module: ActorQ, targets: Mapping[str, Critics], batch: Transitions, settings: SACSettings, draw: Draw
) -> Losses:
    """Losses of critics, actor and temperature, all at the same weights."""
    alpha = module.log_alpha.detach().exp()
    if isinstance(module.action_space, spaces.Discrete):
        return _discrete_losses(module, targets["critic"], batch, settings, alpha)
    distribution, critic = module.distribution, module.critic
    shape = batch.reward.shape
    with torch.no_grad():
        noise = distribution.noise(shape, draw.generator).to(batch.reward)
        next_action, next_log_prob = distribution.sample_and_log_prob(module.policy(batch.next_obs), noise)
        next_q = targets["critic"](batch.next_obs, next_action).squeeze(-1).amin(0)
        goal = soft_target(batch.reward, batch.discount, next_q, next_log_prob, alpha)
    q = critic(batch.obs, batch.action).squeeze(-1)  # [C, N]
    error = q - goal
    critic_loss = 0.5 * (error.square() * batch.weight).mean(-1).sum()
    noise = distribution.noise(shape, draw.generator).to(batch.reward)
    action, log_prob = distribution.sample_and_log_prob(module.policy(batch.obs), noise)
    policy_loss = actor_loss(critic(batch.obs, action).squeeze(-1).amin(0), log_prob, alpha)
    alpha_loss = temperature_loss(module.log_alpha, log_prob.detach(), target_entropy(module, settings))
    return gather(critic_loss, policy_loss, alpha_loss, error=error, q=q, entropy=-log_prob, alpha=alpha)


def _discrete_losses(
    module: ActorQ, target: Critics, batch: Transitions, settings: SACSettings, alpha: Tensor
) -> Losses:
    """The same with expectations over the actions instead of samples.

    Source: Christodoulou 2019, equations 10 to 12.
    """
    with torch.no_grad():
        next_log_prob = module.policy(batch.next_obs).log_softmax(-1)
        next_value = discrete_soft_value(target(batch.next_obs).amin(0), next_log_prob, alpha)
        goal = td_target(batch.reward, batch.discount, next_value)
    every = module.critic(batch.obs)  # [C, N, A]
    q = every.gather(-1, batch.action.expand(len(every), -1).unsqueeze(-1)).squeeze(-1)
    error = q - goal
    critic_loss = 0.5 * (error.square() * batch.weight).mean(-1).sum()
    log_prob = module.policy(batch.obs).log_softmax(-1)
    policy_loss = discrete_actor_loss(every.detach().amin(0), log_prob, alpha)
    entropy = -(log_prob.detach().exp() * log_prob.detach()).sum(-1)
    alpha_loss = temperature_loss(module.log_alpha, -entropy, target_entropy(module, settings))
    return gather(critic_loss, policy_loss, alpha_loss, error=error, q=q, entropy=entropy, alpha=alpha)


def gather(
    critic_loss: Tensor,
    policy_loss: Tensor,
    alpha_loss: Tensor,
    *,
    error: Tensor,
    q: Tensor,
    entropy: Tensor,
    alpha: Tensor,
) -> Losses:
    """Put together the losses and what is worth reporting; `error` is `[C, N]`."""
    error = error.detach()
    report = {
        "critic_loss": critic_loss.detach(),
        "policy_loss": policy_loss.detach(),
        "alpha_loss": alpha_loss.detach(),
        "alpha": alpha,
        "entropy": entropy.detach().mean(),
        "q_mean": q.detach().mean(),
        "td_error": error.abs().mean(),
    }
    by_group = {"critic": critic_loss, "actor": policy_loss, "alpha": alpha_loss}
    return Losses(by_group, report, error.abs().amax(0))


def target_entropy(module: ActorQ, settings: SACSettings) -> float:
    """Read the target entropy in nats; see `SACSettings.target_entropy`."""
    if settings.target_entropy != "auto":
        return settings.target_entropy
    if isinstance(module.action_space, spaces.Discrete):
        return 0.98 * math.log(int(module.action_space.n))
    return -float(math.prod(module.action_space.shape or ()))


GROUPS = {
    "critic": Group(parts=("critic",), lr="critic_lr"),
    "actor": Group(parts=("policy",), lr="actor_lr"),
    "alpha": Group(parts=("log_alpha",), lr="alpha_lr"),
}
REPORT = ("critic_loss", "policy_loss", "alpha_loss", "alpha", "entropy", "q_mean", "td_error")
OBJECTIVE = ReplayObjective(groups=GROUPS, targets=("critic",), losses=losses, report=REPORT)


class SACConfig(ReplayAlgorithmConfig):
    """Config of SAC: `SACConfig().environment("Pendulum-v1").training(critic_lr=1e-3).build()`."""

    name = "sac"
    action_spaces = ("Box", "Discrete")
    objective = OBJECTIVE
    default_module = ActorQ
    training = Section(SACSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    rl_module = Section(ModuleSettings, model_config=ACTOR_MODEL)

    @staticmethod
    def module_settings(model: ModelSettings, training: SACSettings) -> ActorQSettings:
        """Settings of actor and critics."""
        return ActorQSettings(model=model, initial_alpha=training.initial_alpha)
