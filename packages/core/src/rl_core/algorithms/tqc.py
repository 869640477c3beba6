"""Truncated quantile critics: SAC whose critics learn distributions, the largest quantiles left out of the target.

Source: Kuznetsov et al. 2020, "Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional
Quantile Critics".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch

from rl_core.algorithm.replay_config import ReplayAlgorithmConfig
from rl_core.algorithms.sac import ACTOR_MODEL, GROUPS, REPORT, SACSettings, gather, target_entropy
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import ModuleSettings, Positive
from rl_core.errors import ConfigError
from rl_core.learning.replay_learner import Draw, Losses, ReplayObjective
from rl_core.module.actor_q import ActorQ, ActorQSettings, Critics
from rl_core.module.settings import ModelSettings
from rl_core.ops.distributional import quantile_huber_loss, truncated_mixture
from rl_core.ops.soft_actor_critic import actor_loss, temperature_loss
from rl_core.replay.records import Transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class TQCSettings(SACSettings):
    """Section `training` of TQC, besides what SAC has."""

    n_critics: Positive = 2
    """Critics. Source: the paper has 5, which costs 2.5 times as much; RLlib and Stable-Baselines3 have 2."""
    n_quantiles: Positive = 25
    """Quantiles of each critic. Source: Kuznetsov et al. 2020, table 5."""
    top_quantiles_to_drop_per_net: Annotated[int, Range(ge=0)] = 2
    """Largest quantiles per critic that the target leaves out. Source: as above."""

    def check(self) -> None:
        """Refuse to drop everything."""
        SACSettings.check(self)
        if self.top_quantiles_to_drop_per_net >= self.n_quantiles:
            raise ConfigError(
                f"top_quantiles_to_drop_per_net: got {self.top_quantiles_to_drop_per_net}, expected less than "
                f"n_quantiles, which is {self.n_quantiles}."
            )


def losses(
    module: ActorQ, targets: Mapping[str, Critics], batch: Transitions, settings: TQCSettings, draw: Draw
) -> Losses:
    """Losses of critics, actor and temperature, all at the same weights."""
    alpha = module.log_alpha.detach().exp()
    distribution, critic = module.distribution, module.critic
    shape = batch.reward.shape
    with torch.no_grad():
        noise = distribution.noise(shape, draw.generator).to(batch.reward)
        next_action, next_log_prob = distribution.sample_and_log_prob(module.policy(batch.next_obs), noise)
        next_q = targets["critic"](batch.next_obs, next_action)  # [C, N, M]
        kept = truncated_mixture(next_q, settings.top_quantiles_to_drop_per_net)  # [N, K]
        soft = kept - alpha * next_log_prob.unsqueeze(-1)
        goal = batch.reward.unsqueeze(-1) + batch.discount.unsqueeze(-1) * soft
    q = critic(batch.obs, batch.action)
    critic_loss, error = quantile_huber_loss(q, goal, batch.weight)
    noise = distribution.noise(shape, draw.generator).to(batch.reward)
    action, log_prob = distribution.sample_and_log_prob(module.policy(batch.obs), noise)
    policy_loss = actor_loss(critic(batch.obs, action).mean((0, 2)), log_prob, alpha)
    alpha_loss = temperature_loss(module.log_alpha, log_prob.detach(), target_entropy(module, settings))
    return gather(critic_loss, policy_loss, alpha_loss, error=error, q=q, entropy=-log_prob, alpha=alpha)


OBJECTIVE = ReplayObjective(groups=GROUPS, targets=("critic",), losses=losses, report=REPORT)


class TQCConfig(ReplayAlgorithmConfig):
    """Config of TQC: `TQCConfig().environment("Pendulum-v1").training(n_critics=5).build()`."""

    name = "tqc"
    action_spaces = ("Box",)
    objective = OBJECTIVE
    default_module = ActorQ
    training = Section(TQCSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    rl_module = Section(ModuleSettings, model_config=ACTOR_MODEL)

    @staticmethod
    def module_settings(model: ModelSettings, training: TQCSettings) -> ActorQSettings:
        """Settings of actor and critics."""
        return ActorQSettings(
            model=model,
            initial_alpha=training.initial_alpha,
            num_critics=training.n_critics,
            num_quantiles=training.n_quantiles,
        )
