"""Advantage actor-critic, synchronous: settings and loss. Values and advantages are estimated as by PPO.

Source: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", in its synchronous form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from torch import Tensor

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithms.ppo import actor_critic_loss, prepare
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import EnvRunnerSettings, Fraction, Positive, ReportingSettings, Schedule
from rl_core.learning.learner import AdvantageSettings, Objective, read_schedules
from rl_core.module.rl_module import RLModule
from rl_core.ops.losses import policy_gradient_terms
from rl_core.records import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class A2CSettings(AdvantageSettings):
    """Section `training` of A2C."""

    lr: Schedule = 7e-4
    """Learning rate, constant or a schedule over env steps. Source: the common value of published implementations."""
    train_batch_size_per_learner: Positive = 40
    """Env steps per update: 5 steps of 8 env slots. Source: Mnih et al. 2016, section 8, for 5 steps."""
    minibatch_size: Positive = 40
    """Samples per optimiser step; by default the whole batch at once."""
    num_epochs: Positive = 1
    """Passes over each batch; more than 1 is not on-policy any more."""
    lambda_: Fraction = 1.0
    """GAE's trade of bias (0) for variance (1); 1 gives the paper's n-step returns."""
    vf_loss_coeff: Annotated[float, Range(ge=0)] = 0.5
    """Weight of the value loss. Source: Mnih et al. 2016, published settings."""
    entropy_coeff: Schedule = 0.01
    """Weight of the entropy bonus, constant or a schedule over env steps. Source: Mnih et al. 2016, section 8."""
    normalize_advantage: bool = False
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""


def loss(module: RLModule, batch: Batch, settings: A2CSettings) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Policy gradient, value loss and entropy bonus: `-mean(A log pi) + c_v mean((V - target)^2) - c_e mean(H)`."""
    assert isinstance(settings.entropy_coeff, float), "settings_at reads the schedule"
    terms = partial(
        policy_gradient_terms,
        behavior_log_prob=batch.behavior_log_prob,
        value_target=batch.value_target,
        value_coeff=settings.vf_loss_coeff,
        entropy_coeff=settings.entropy_coeff,
    )
    total, report, _ = actor_critic_loss(module, batch, settings, terms)
    return total, report


OBJECTIVE = Objective(prepare=prepare, loss=loss, settings_at=read_schedules)


class A2CConfig(AlgorithmConfig):
    """Config of A2C: `A2CConfig().environment("CartPole-v1").training(lr=1e-3).build()`."""

    name = "a2c"
    objective = OBJECTIVE
    env_runners = Section(EnvRunnerSettings, num_envs_per_env_runner=8)
    training = Section(A2CSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    reporting = Section(ReportingSettings, min_sample_timesteps_per_iteration=1000)
