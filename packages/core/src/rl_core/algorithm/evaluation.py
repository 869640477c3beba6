"""Separate episodes with the newest weights: between iterations, or beside them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_core.errors import ConfigError
from rl_core.metrics import summarise
from rl_core.rng import stream_seed
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.protocol import Runner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

KEYS = (
    "episode_return_mean",
    "episode_return_min",
    "episode_return_max",
    "episode_return_std",
    "episode_len_mean",
    "num_episodes",
    "num_env_steps",
    "training_iteration",
)


class Evaluator:
    """Owns the runner of the separate episodes, and the figures of the last evaluation."""

    def __init__(self, config: AlgorithmConfig, make_runner: Callable[[], Runner], parts: Collection[str]) -> None:
        """Remember how to make the runner, which is done when it is first needed.

        Args:
            config: Of the run.
            make_runner: Builds envs and policies.
            parts: Further figures that the runner's episodes have.
        """
        self.settings = settings = config.evaluation.settings
        self._num_slots = settings.num_slots(config.env_runners.settings.num_envs_per_env_runner)
        self._make_runner = make_runner
        self.runner: Runner | None = None
        self.figures: dict[str, Any] = dict.fromkeys((f"evaluation/{key}" for key in (*KEYS, *parts)), math.nan)
        self._thread = ThreadPoolExecutor(1, "evaluation") if settings.evaluation_parallel_to_training else None
        self._training_ended = threading.Event()
        self._started = 0.0
        self._training_s = 0.0  # beside the evaluation before; 0 where there was none

    def ready_runner(self, weights: Any) -> Runner:
        """Return the runner, with weights and statistics to play with."""
        if self.runner is None:
            self.runner = self._make_runner()
        self.runner.set_weights(weights)
        return self.runner

    def play(self, weights: Any, seed: int, *, num_episodes: int | None, explore: bool | None) -> EpisodeStats:
        """Play what the settings say, or so many episodes.

        Raises:
            ConfigError: the settings say to play as long as training goes on, which it does not.
        """
        if num_episodes is None and self.settings.evaluation_duration == "auto":
            raise ConfigError(
                "evaluation_duration='auto' lasts as long as the training beside it, but there is none beside this "
                "evaluation. Call evaluate(num_episodes=20), or set a number."
            )
        duration = self._duration() if num_episodes is None else {"num_episodes": num_episodes}
        explore = self.settings.explore if explore is None else explore
        return self.ready_runner(weights).evaluate(**duration, seed=seed, explore=explore)

    def start(self, weights: Any, seed: int) -> Future[EpisodeStats]:
        """Begin to play beside training; the result is there after `end_of_training`, or when it is complete."""
        assert self._thread is not None, "evaluation_parallel_to_training is set"
        runner = self.ready_runner(weights)
        self._training_ended.clear()
        self._started = time.monotonic()
        if self.settings.evaluation_duration == "auto":
            return self._thread.submit(self._play_until_end, runner, seed)
        explore = self.settings.explore
        return self._thread.submit(runner.evaluate, **self._duration(), seed=seed, explore=explore)

    def _duration(self) -> dict[str, Any]:
        """How long to play, as runners are told."""
        unit = "num_episodes" if self.settings.evaluation_duration_unit == "episodes" else "num_steps"
        return {unit: self.settings.evaluation_duration}

    def end_of_training(self) -> None:
        """Let an evaluation that lasts as long as training come to its end."""
        self._training_ended.set()
        self._training_s = time.monotonic() - self._started

    def _play_until_end(self, runner: Runner, seed: int) -> EpisodeStats:
        """Play episodes, one for each slot at a time, until training has ended; at least once.

        No round begins that training would have to wait for, if it takes as long as it did beside the one before.
        """
        num_episodes = self._num_slots * self.settings.evaluation_num_env_runners
        explore = self.settings.explore
        rounds: list[EpisodeStats] = []
        while True:
            round_seed = stream_seed(seed, "round", len(rounds))
            rounds.append(runner.evaluate(num_episodes=num_episodes, seed=round_seed, explore=explore))
            with_next = (time.monotonic() - self._started) * (len(rounds) + 1) / len(rounds)
            if self._training_ended.is_set() or 0 < self._training_s < with_next:
                return type(rounds[0]).joined(rounds)

    def summarise(self, episodes: EpisodeStats, iteration: int) -> dict[str, Any]:
        """Make the figures of an evaluation, and keep them."""
        returns = episodes.returns
        parts = {name: values.tolist() for name, values in episodes.parts.items()}
        return self.keep(
            {
                **summarise("evaluation", returns.tolist(), episodes.lengths.tolist(), parts),
                "evaluation/episode_return_std": float(returns.std()) if len(returns) else math.nan,
                "evaluation/num_episodes": len(returns),
                "evaluation/num_env_steps": episodes.num_steps or int(np.sum(episodes.lengths)),
            },
            iteration,
        )

    def keep(self, figures: Mapping[str, Any], iteration: int) -> dict[str, Any]:
        """Keep figures as those of the last evaluation; what they do not have becomes NaN."""
        unknown = dict.fromkeys(self.figures, math.nan)
        self.figures = {**unknown, **figures, "evaluation/training_iteration": iteration}
        return dict(self.figures)

    def close(self) -> None:
        """Close the envs."""
        if self._thread is not None:
            self._training_ended.set()
            self._thread.shutdown()
        if self.runner is not None:
            self.runner.close()
