"""A learner for each trained policy, of whatever algorithm, and the critic that several of them may share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rl_core.algorithm.components import Updater
from rl_core.learning.learner import Metrics, ModuleLearner
from rl_multiagent.critic_learner import CRITIC, CriticLearner
from rl_multiagent.records import AgentRollouts, AgentWeights


class MultiLearner:
    """Gives each policy's rollout to the policy's own learner."""

    def __init__(self, updaters: Mapping[str, Updater], critic: CriticLearner | None = None) -> None:
        """Take ownership of the learners.

        Args:
            updaters: Of the policies that are trained, by id.
            critic: Judges the rollouts that tell what all agents saw; None if there are none.
        """
        self.updaters = dict(updaters)
        self.critic = critic
        self._names: dict[str, list[str]] = {}

    @property
    def learners(self) -> dict[str, ModuleLearner]:
        """The learner of each trained policy, by id, and the critic's."""
        learners: dict[str, ModuleLearner] = {name: own.learners[name] for name, own in self.updaters.items()}
        return learners if self.critic is None else {**learners, CRITIC: self.critic}

    def update(self, rollouts: AgentRollouts) -> Metrics:
        """Learn from what each policy did; one that did nothing has its figures as NaN."""
        by_policy = {name: rollout for name, rollout in rollouts.by_policy.items() if name in self.updaters}
        metrics: Metrics = {}
        if self.critic is not None:
            by_policy, metrics = self.critic.judge(by_policy)
        for name, updater in self.updaters.items():
            rollout = by_policy.get(name)
            if rollout is None:
                metrics |= dict.fromkeys(self._names.get(name, ()), math.nan)
                continue
            figures = updater.update(rollout)
            self._names[name] = list(figures)
            metrics |= figures
        return metrics

    def weights(self) -> AgentWeights:
        """Publish the newest weights of all trained policies."""
        return {name: updater.weights() for name, updater in self.updaters.items()}
