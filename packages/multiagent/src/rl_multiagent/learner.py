"""A learner for each trained policy, of whatever algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rl_core.algorithm.components import Updater
from rl_core.learning.learner import Metrics, ModuleLearner
from rl_multiagent.records import AgentRollouts, AgentWeights


class MultiLearner:
    """Gives each policy's rollout to the policy's own learner."""

    def __init__(self, updaters: Mapping[str, Updater]) -> None:
        """Take ownership of the learners.

        Args:
            updaters: Of the policies that are trained, by id.
        """
        self.updaters = dict(updaters)
        self._names: dict[str, list[str]] = {}

    @property
    def learners(self) -> dict[str, ModuleLearner]:
        """The learner of each trained policy, by id."""
        return {name: updater.learners[name] for name, updater in self.updaters.items()}

    def update(self, rollouts: AgentRollouts) -> Metrics:
        """Learn from what each policy did; one that did nothing has its figures as NaN."""
        metrics: Metrics = {}
        for name, updater in self.updaters.items():
            rollout = rollouts.by_policy.get(name)
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
