"""The config of algorithms whose runners and learner do not wait for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import Fraction, Positive, ReportingSettings
from rl_core.learning.learner import AdvantageSettings

if TYPE_CHECKING:
    from rl_core.algorithm.async_algorithm import AsyncAlgorithm


@dataclass(frozen=True, kw_only=True)  # no slots: APPO's settings derive from these and from PPO's
class AsyncSettings(AdvantageSettings):
    """What asynchronous algorithms share: each batch is learned from once, in one piece."""

    train_batch_size_per_learner: Positive = 512
    """Env steps per update: by default one rollout of one runner; of shorter rollouts as many as it takes."""
    minibatch_size: Positive = 512
    """Samples per optimiser step; by default the whole batch at once."""
    num_epochs: Positive = 1
    """Passes over each batch."""
    lambda_: Fraction = 1.0
    """Trade of variance (1) for bias (0) in V-trace."""
    normalize_advantage: bool = False
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""
    grad_clip: Annotated[float, Range(gt=0)] | None = 40.0
    """Bound of the gradient, None for none. Source: Espeholt et al. 2018, table D.1."""
    broadcast_interval: Positive = 1
    """Updates between two publications of the weights to remote runners."""


class AsyncConfig(AlgorithmConfig):
    """Base of the configs of asynchronous algorithms. Without remote runners they sample and learn in turn."""

    training = Section(AsyncSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    reporting = Section(ReportingSettings, min_sample_timesteps_per_iteration=5000)

    def build(self) -> AsyncAlgorithm:
        """Make the algorithm, with a copy of this config."""
        from rl_core.algorithm.async_algorithm import AsyncAlgorithm

        return AsyncAlgorithm(self)

    def num_rollout_steps(self) -> int:
        """Work out the steps T per slot and rollout: by default one rollout of one runner is a batch."""
        runners = self.env_runners.settings
        if runners.rollout_fragment_length != "auto":
            return runners.rollout_fragment_length
        return -(-self.train_batch_size() // runners.num_envs_per_env_runner)
