"""The training step of algorithms whose remote runners sample while the learner learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.async_config import AsyncConfig

if TYPE_CHECKING:
    from rl_core.runtime.runner_actor import Sample


class AsyncAlgorithm(Algorithm):
    """A run in which each remote runner works on rollouts ahead of the learner, with the newest weights it has read.

    Rollouts are learned from in the order they arrive, each once. As long as more of them wait than there are runners,
    runners get no new requests: nothing is dropped, and a slow learner slows the runners down.
    """

    def __init__(self, config: AsyncConfig) -> None:
        """Build runners, policy and learner; see `Algorithm`."""
        super().__init__(config)
        self._waiting: deque[Sample] = deque()
        self._batch_size = config.train_batch_size()
        self._broadcast_interval = config.training.settings.broadcast_interval
        self._in_flight = config.env_runners.settings.max_requests_in_flight_per_env_runner
        self._unpublished = 0

    def training_step(self) -> dict[str, float]:
        """Learn from the rollouts that have waited longest, as soon as they make a batch."""
        if not self.config.env_runners.settings.num_env_runners:
            return super().training_step()
        rollout = self._next_batch()
        with self.timer("update_s"):
            metrics = self.learner.update(rollout)
        self._unpublished += 1
        if self._unpublished >= self._broadcast_interval:
            self._unpublished = 0
            with self.timer("publish_s"):
                self.env_runner.set_weights(self.learner.weights())
        return metrics

    def _set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `_get_state` gave; rollouts sampled before that are not learned from any more."""
        super()._set_state(state)
        self._waiting.clear()
        self._unpublished = 0

    def _next_batch(self) -> Any:
        """Take rollouts out of the queue, waiting for as many as a batch needs, and keep the runners busy."""
        runner: Any = self.env_runner
        taken: list[Sample] = []
        num_steps = 0
        with self.timer("sample_s"):
            while num_steps < self._batch_size:
                if len(self._waiting) <= runner.num_runners:
                    runner.submit(self._in_flight)
                if not self._waiting:
                    self._waiting.extend(runner.arrived())
                if self._waiting:
                    taken.append(self._waiting.popleft())
                    num_steps += taken[-1].rollout.env_steps
            rollout = runner.join(taken)
        self._count(rollout)
        return rollout
