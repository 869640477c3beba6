"""The training step of off-policy algorithms, which can sample and learn at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import torch

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.learning.replay_learner import ReplayLearner


class ReplayAlgorithm(Algorithm):
    """A run whose learner has a replay buffer: `overlap_sampling` puts the env runner into a thread."""

    def __init__(self, config: AlgorithmConfig) -> None:
        """Build envs, policy and learner; see `Algorithm`."""
        super().__init__(config)
        overlaps = getattr(config.training.settings, "overlap_sampling", False)
        self._sampler = (
            ThreadPoolExecutor(1, "sampler", torch.set_num_threads, (torch.get_num_threads(),)) if overlaps else None
        )

    def training_step(self) -> dict[str, float]:
        """Sample, store, learn, publish; overlapping, learn from what was stored before while sampling.

        The gradient steps are the same ones, in the same order, on the same draws; but they run a training step
        later, and the sampling policy is one rollout older. Nothing depends on which thread is faster.
        """
        learner = self.learner
        if self._sampler is None or not isinstance(learner, ReplayLearner):
            return super().training_step()
        sampled = self._sampler.submit(copy_context().run, self.env_runner.sample)  # `log_value` finds its logger
        try:
            with self.timer("update_s"):
                metrics = learner.learn()
        finally:
            with self.timer("sample_s"):  # what is left of it
                rollout = sampled.result()
        self._count(rollout)
        learner.store(rollout)
        with self.timer("publish_s"):
            self.env_runner.set_weights(learner.weights())
        return metrics

    def stop(self) -> None:
        """Close all envs and the thread."""
        if self._sampler is not None:
            self._sampler.shutdown()
        super().stop()
