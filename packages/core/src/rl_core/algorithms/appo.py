"""APPO: PPO's clipped objective on rollouts of older policies, corrected by V-trace towards a slow target policy.

Source: Luo et al. 2020, "IMPACT: Importance Weighted Asynchronous Architectures with Clipped Target Networks".
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from rl_core.algorithm.async_config import AsyncConfig
from rl_core.algorithms.impala import VTraceSettings, correct, policy_of
from rl_core.algorithms.ppo import Judgement, PPOSettings, adapt, loss, prepare
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import Fraction, Positive, Schedule
from rl_core.errors import ConfigError
from rl_core.learning.learner import Learner, Metrics, Objective, read_schedules
from rl_core.learning.learner_chain import LearnerChain
from rl_core.learning.optimizer import OptimizerFactory
from rl_core.learning.slow_copies import SlowCopies
from rl_core.metrics import mean_of
from rl_core.module.rl_module import RLModule
from rl_core.records import Rollout


@dataclass(frozen=True, kw_only=True)
class APPOSettings(VTraceSettings, PPOSettings):
    """Section `training` of APPO."""

    lr: Schedule = 5e-4
    """Learning rate, constant or a schedule over env steps. Source: Luo et al. 2020, appendix."""
    clip_param: Annotated[float, Range(gt=0)] = 0.3
    """Bound of the probability ratio's distance from 1. Source: as above."""
    entropy_coeff: Schedule = 0.01
    """Weight of the entropy bonus, constant or a schedule over env steps. Source: as above."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""
    target_network_update_freq: Positive = 4
    """Updates of the learner between two of the target policy."""
    tau: Fraction = 1.0
    """How far the target policy then moves towards the learned one."""
    target_worker_clipping: Annotated[float, Range(gt=0)] = 2.0
    """Bound of the ratio of acting to target policy. Source: Luo et al. 2020, section 3.2, rho."""
    circular_buffer_num_batches: Positive = 4
    """N: newest batches that are kept. Source: Luo et al. 2020, section 3.3."""
    circular_buffer_iterations_per_batch: Positive = 2
    """K: how often each batch is learned from, spread evenly over its time in the buffer; at most N."""

    def check(self) -> None:
        """Check the schedules, and that batches stay as long as they are needed."""
        PPOSettings.check(self)
        kept, uses = self.circular_buffer_num_batches, self.circular_buffer_iterations_per_batch
        if uses > kept:
            raise ConfigError(
                f"circular_buffer_iterations_per_batch: got {uses}, expected at most circular_buffer_num_batches, "
                f"which is {kept}. Set both."
            )


def judge(
    module: RLModule,
    rollout: Rollout,
    value: Tensor,
    next_value: Tensor,
    settings: APPOSettings,
    *,
    target: RLModule,
) -> Judgement:
    """Correct a rollout towards the target policy, and compare the current policy with that.

    The policy that the ratio is taken to is the target policy, but no less likely than `1 / rho` of the acting one:
    `min(mu / pi_target, rho) pi / mu = pi / max(pi_target, mu / rho)`.
    """
    dist_inputs, log_prob = policy_of(target, rollout)
    behavior_log_prob = module.distribution.log_prob(rollout.behavior_dist_inputs, rollout.action)
    value_target, advantage = correct(rollout, value, next_value, log_prob - behavior_log_prob, settings)
    least = behavior_log_prob - math.log(settings.target_worker_clipping)
    return Judgement(advantage, value_target, torch.maximum(log_prob, least), dist_inputs)


OBJECTIVE = Objective(prepare=prepare, loss=loss, settings_at=read_schedules, adapt=adapt, adaptive=("kl_coeff",))


class APPOLearner(Learner[APPOSettings]):
    """A learner with a target policy, and a buffer from which each batch is learned K times."""

    def __init__(
        self,
        module: RLModule,
        settings: APPOSettings,
        objective: Objective[APPOSettings],
        *,
        make_optimizer: OptimizerFactory,
        seed: int,
        name: str,
        connectors: LearnerChain | None = None,
    ) -> None:
        """Take ownership of the module; see `Learner`."""
        super().__init__(
            module,
            settings,
            objective,
            make_optimizer=make_optimizer,
            seed=seed,
            name=name,
            connectors=connectors,
        )
        self._slow = SlowCopies({"target": module})  # of the module in the precision that it now has
        self.target = self._slow.modules["target"]
        self.objective = dataclasses.replace(
            objective, prepare=partial(prepare, judge=partial(judge, target=self.target))
        )
        self._kept: deque[Rollout] = deque(maxlen=settings.circular_buffer_num_batches)
        self._connected: Metrics = {}
        self._since_target = 0

    def update(self, rollout: Rollout) -> Metrics:
        """Learn from a new rollout and from older ones, each K times in all; see `Learner.update`.

        Averages over these updates are returned.
        """
        settings = self.settings
        rollout, self._connected = super()._received(rollout)
        self._kept.append(rollout)
        spacing = settings.circular_buffer_num_batches / settings.circular_buffer_iterations_per_batch
        ages = [int(spacing * use) for use in range(settings.circular_buffer_iterations_per_batch)]
        env_steps, version = self.env_steps + rollout.env_steps, self.version + 1
        reports = []
        for age in ages:
            if age < len(self._kept):
                reports.append(super().update(self._kept[-1 - age]))
                self._follow()
        self.env_steps, self.version = env_steps, version  # what was sampled counts once
        return mean_of(reports)

    def _received(self, rollout: Rollout) -> tuple[Rollout, Metrics]:
        """Leave a kept rollout as it is: the learner connectors see each once. They report on the newest one."""
        return rollout, self._connected

    def _follow(self) -> None:
        """Move the target policy when that is due."""
        self._since_target += 1
        if self._since_target < self.settings.target_network_update_freq:
            return
        self._since_target = 0
        self._slow.follow(self.settings.tau)

    def get_state(self) -> dict[str, Any]:
        """Return everything but the published weights that the next update depends on, the kept batches included."""
        return {
            **super().get_state(),
            **self._slow.get_state(),
            "since_target": self._since_target,
            "kept": [
                {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
                for rollout in self._kept
            ],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        super().set_state(state)
        self._slow.set_state(state)
        self._since_target = state["since_target"]
        self._kept.clear()
        self._kept.extend(Rollout(**columns) for columns in state["kept"])


class APPOConfig(AsyncConfig):
    """Config of APPO: `APPOConfig().environment("CartPole-v1").env_runners(num_env_runners=2).build()`."""

    name = "appo"
    objective = OBJECTIVE
    learner_class = APPOLearner
    training = Section(APPOSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
