"""The training loop: sample, update, publish weights; with evaluation, results and checkpoints around it."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from rl_core._internal.allocator import keep_freed_memory
from rl_core.algorithm.callbacks import CallbackList
from rl_core.algorithm.components import Context, Purpose, Updater, listen_to_learners
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithm.evaluation import Evaluator
from rl_core.algorithm.sinks import SinkCallbacks
from rl_core.algorithm.state import check_algorithm, check_fit, get_run_state, set_run_state
from rl_core.checkpoint import Checkpoint, L, encode_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
from rl_core.errors import CheckpointError, ConfigError
from rl_core.metrics import MetricsLogger, logging_to, mean_of, running, summarise
from rl_core.policy import Policy
from rl_core.rng import stream_seed
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.protocol import Runner
from rl_core.storage import Location

if TYPE_CHECKING:
    from rl_core.runtime.learner_group import LearnerGroup

TIMERS = ("sample_s", "update_s", "publish_s", "evaluate_s")
LARGE_MODULE = 1_000_000
"""Number of parameters from which several torch threads are worth their cost."""


T = TypeVar("T")


class Algorithm:
    """A run in this process. Build it with `config.build()`; derive it to write a `training_step` of your own.

    Example:
        >>> algorithm = PPOConfig().environment("CartPole-v1").build()
        >>> result = algorithm.train()
        >>> result["env_runners/episode_return_mean"]
    """

    def __init__(self, config: AlgorithmConfig) -> None:
        """Build envs, policy and learner.

        Raises:
            ConfigError: settings that do not go together.
            EnvError: the env cannot be made or breaks its contract.
            UnsupportedSpaceError: the module cannot handle the env's spaces.
        """
        self.config = config.copy()
        self.metrics = MetricsLogger()
        self.callbacks = CallbackList(config.callbacks.settings.callbacks_class)
        if sinks := config.reporting.settings.sinks:
            self.callbacks.members.append(SinkCallbacks(sinks))
        self._context = Context(callbacks=self.callbacks, metrics=self.metrics)
        self.env_runner = self._make_runner("sampling", self.config.env_runners.settings.num_env_runners)
        self._learner_group: LearnerGroup | None = None
        self.learner: Updater = self._make_learner()
        self._checkpoints = CheckpointWriter()
        self._set_num_threads()
        keep_freed_memory()
        self.iteration = 0
        self.env_steps = 0
        self.num_episodes = 0
        self.time_total_s = 0.0
        window = self.config.env_runners.settings.metrics_num_episodes_for_smoothing
        self._returns: deque[float] = deque(maxlen=window)
        self._lengths: deque[float] = deque(maxlen=window)
        self._parts = {name: deque[float](maxlen=window) for name in self.env_runner.episodes.parts}
        evaluation = self.config.evaluation.settings
        self.evaluator = Evaluator(
            self.config,
            lambda: self._make_runner("evaluation", evaluation.evaluation_num_env_runners),
            list(self._parts),
        )
        self._min_steps = self.config.reporting.settings.min_sample_timesteps_per_iteration
        self._evaluation_interval = evaluation.evaluation_interval
        self._timers = dict.fromkeys(TIMERS, 0.0)
        self._iteration_steps = self._iteration_episodes = 0
        self.env_runner.set_weights(self.learner.weights())
        self.callbacks.call("on_algorithm_init", algorithm=self)

    def _make_runner(self, purpose: Purpose, num_runners: int) -> Runner:
        """Build what samples or evaluates: in this process, or a group of remote runners."""
        if num_runners:
            from rl_core.runtime.remote_runner import RemoteRunner

            return RemoteRunner(self.config, purpose, num_runners, self.metrics)
        return self.config.components().env_runner(self.config, purpose, self._context)

    def _make_learner(self) -> Updater:
        """Build what learns: in this process, or a group of remote learners."""
        if self.config.learners.settings.num_learners:
            from rl_core.runtime.learner_group import LearnerGroup

            self._learner_group = LearnerGroup(self.config, self.env_runner, self.metrics)
            return self._learner_group
        learner = self.config.components().learner(self.config, self.env_runner)
        listen_to_learners(learner, self.callbacks, self.metrics)
        return learner

    def _set_num_threads(self) -> None:
        """Give torch the threads that the config asks for."""
        num_threads = self.config.learners.settings.num_threads
        if num_threads == "auto":
            if "OMP_NUM_THREADS" in os.environ:
                return
            modules = [learner.module for learner in self.learner.learners.values()]
            size = sum(parameter.numel() for module in modules for parameter in module.parameters())
            num_threads = 1 if size < LARGE_MODULE else os.cpu_count() or 1
        torch.set_num_threads(num_threads)

    @property
    def policy(self) -> Policy:
        """The policy being trained, with its newest weights; the first one if there are several."""
        return next(iter(self.env_runner.policies.values()))

    def train(self) -> dict[str, float]:
        """Run one iteration.

        Returns:
            A flat mapping from names with slashes to numbers. A name is there from the first call on, NaN until its
            value is known; `evaluation/...` keeps the last evaluation.

        Raises:
            NonFiniteError: the update failed; the weights are the last good ones.
            EnvError: the env failed.
        """
        start = time.perf_counter()
        self._timers = dict.fromkeys(TIMERS, 0.0)
        self._iteration_steps = self._iteration_episodes = 0
        evaluates = self._evaluation_interval and (self.iteration + 1) % self._evaluation_interval == 0
        beside = evaluates and self.evaluator.settings.evaluation_parallel_to_training
        evaluation = self._begin_evaluation() if beside else None
        token = running.set(self.metrics)  # `logging_to`, written out: a steady iteration enters few functions
        try:
            learner_metrics = self.training_step()
            if self._iteration_steps < self._min_steps:
                learner_metrics = self._repeat_training_step(learner_metrics)
        finally:
            running.reset(token)
            if evaluation is not None:
                self._end_evaluation(evaluation)
        self.iteration += 1
        if evaluates and not beside:
            self.evaluate()
        elapsed = time.perf_counter() - start
        self.time_total_s += elapsed
        result = self._result(learner_metrics, elapsed)
        if self.callbacks.members:
            self.callbacks.call("on_train_result", algorithm=self, result=result)
        if self._checkpoints.has_news:
            self._tell_written()
        return result

    def _begin_evaluation(self) -> Future[EpisodeStats]:
        """Let the evaluation runners play while an iteration goes on, with the weights from before it."""
        self.callbacks.call("on_evaluate_start", algorithm=self)
        return self.evaluator.start(self.env_runner.get_weights(), self._evaluation_seed())

    def _end_evaluation(self, evaluation: Future[EpisodeStats]) -> None:
        """Wait for what is left of an evaluation beside training, and take its figures."""
        self.evaluator.end_of_training()
        with self.timer("evaluate_s"):
            episodes = evaluation.result()
        figures = self.evaluator.summarise(episodes, self.iteration + 1)
        self.callbacks.call("on_evaluate_end", algorithm=self, result=figures)

    def _evaluation_seed(self) -> int:
        return stream_seed(self.config.debugging.settings.seed, "evaluation", self.iteration)

    def _repeat_training_step(self, first: dict[str, float]) -> dict[str, float]:
        """Go on until the iteration has the env steps it must have, and average the figures of all steps.

        Raises:
            ConfigError: the training step samples nothing, so that this would never end.
        """
        reports = [first]
        while self._iteration_steps < self._min_steps:
            before = self._iteration_steps
            reports.append(self.training_step())
            if self._iteration_steps == before:
                raise ConfigError(
                    f"reporting: min_sample_timesteps_per_iteration={self._min_steps}, but training_step() did not "
                    "sample. Call self.sample() in it, or set this to 0."
                )
        return mean_of(reports)

    def training_step(self) -> dict[str, float]:
        """Do the work of one iteration: sample, update, publish. Override it to do something else.

        Returns:
            Figures for the result, the same names each time.
        """
        rollout = self.sample()
        with self.timer("update_s"):
            metrics = self.learner.update(rollout)
        with self.timer("publish_s"):
            self.env_runner.set_weights(self.learner.weights())
        return metrics

    def sample(self) -> Any:
        """Sample one rollout and count its steps and episodes."""
        with self.timer("sample_s"):
            rollout = self.env_runner.sample()
        self._count(rollout)
        return rollout

    def _count(self, rollout: Any) -> None:
        """Count the steps and episodes of a rollout."""
        self.env_steps += rollout.env_steps
        self._iteration_steps += rollout.env_steps
        episodes = self.env_runner.episodes
        self._returns.extend(episodes.returns.tolist())
        self._lengths.extend(episodes.lengths.tolist())
        for name, values in episodes.parts.items():
            self._parts.setdefault(name, deque(maxlen=self._returns.maxlen)).extend(values.tolist())
        self.num_episodes += len(episodes.returns)
        self._iteration_episodes += len(episodes.returns)
        if self.callbacks.members:
            self.callbacks.call("on_sample_end", rollout=rollout, metrics=self.metrics)

    @contextmanager
    def timer(self, name: str) -> Iterator[None]:
        """Add the time of a block to `timers/<name>` of this iteration's result, in seconds."""
        start = time.perf_counter()
        yield
        self._timers[name] = self._timers.get(name, 0.0) + time.perf_counter() - start

    def _result(self, learner_metrics: Mapping[str, float], elapsed: float) -> dict[str, float]:
        """Compose the result of an iteration."""
        steps = self._iteration_steps
        logged = self.metrics.reduce(elapsed)
        result = {
            "training_iteration": self.iteration,
            "env_steps": self.env_steps,
            "env_steps_per_s": steps / elapsed,
            "time_this_iter_s": elapsed,
            "time_total_s": self.time_total_s,
            **summarise("env_runners", self._returns, self._lengths, self._parts),
            "env_runners/num_episodes": self._iteration_episodes,
            "env_runners/num_episodes_lifetime": self.num_episodes,
            "env_runners/num_bad_observations": self.env_runner.num_bad_observations,
            "env_runners/num_env_runner_restarts": self.env_runner.num_restarts,
            "env_runners/num_healthy_env_runners": self.env_runner.num_healthy,
            "env_runners/num_env_restarts": self.env_runner.num_env_restarts,
            "env_runners/env_steps_per_s": steps / self._timers["sample_s"] if self._timers["sample_s"] else math.nan,
            **learner_metrics,
            **self.evaluator.figures,
            **{f"timers/{name}": seconds for name, seconds in self._timers.items()},
        }
        if not logged.keys().isdisjoint(result):
            taken = sorted(logged.keys() & result.keys())
            raise ValueError(f"metrics: {taken} were logged, but every result has them of its own. Use other keys.")
        return result | logged

    def evaluate(self, *, num_episodes: int | None = None, explore: bool | None = None) -> dict[str, float]:
        """Play whole episodes in separate envs with the newest weights.

        Args:
            num_episodes: None takes `evaluation_duration`, or calls `custom_evaluation_function` if there is one.
            explore: Draw actions from the policy or take its mode; None takes the config's `explore`.

        Returns:
            `evaluation/...` figures, which later results of `train` repeat.
        """
        if num_episodes is not None and num_episodes < 1:
            raise ValueError(f"evaluate: got num_episodes={num_episodes!r}, expected at least 1.")
        self.callbacks.call("on_evaluate_start", algorithm=self)
        evaluator, function = self.evaluator, self.config.evaluation.settings.custom_evaluation_function
        weights = self.env_runner.get_weights()
        with self.timer("evaluate_s"), logging_to(None):
            if function is not None:
                figures = function(self, evaluator.ready_runner(weights))
                named = {f"evaluation/{name.removeprefix('evaluation/')}": value for name, value in figures.items()}
                result = evaluator.keep(named, self.iteration)
            else:
                seed = self._evaluation_seed()
                episodes = evaluator.play(weights, seed, num_episodes=num_episodes, explore=explore)
                result = evaluator.summarise(episodes, self.iteration)
        self.callbacks.call("on_evaluate_end", algorithm=self, result=result)
        return result

    @property
    def runners(self) -> list[Runner]:
        """What samples, and what evaluates once it is there; each may stand for a group of remote ones."""
        return [runner for runner in (self.env_runner, self.evaluator.runner) if runner is not None]

    def foreach_env_runner(self, function: Callable[[Any], T]) -> list[T]:
        """Call a function with every env runner there is, sampling first, and return what it gave for each."""
        return [result for runner in self.runners for result in runner.call_each(function)]

    def change_learner(self, function: Callable[[Any, AlgorithmConfig, Any], None]) -> None:
        """Have a function change which modules learn, in every process that does.

        Args:
            function: Called with what learns, with the config, and with what has the runner's `policies` and `layout`.
        """
        if self._learner_group is not None:
            self._learner_group.change(self.config, function)
        else:
            function(self.learner, self.config, self.env_runner)
            listen_to_learners(self.learner, self.callbacks, self.metrics)

    def save(self, path: L, *, wait: bool = True, notes: Mapping[str, Any] | None = None) -> L:
        """Write a checkpoint from which the run goes on as if it had not stopped.

        Args:
            path: A directory that does not exist yet; a path, or a URL of fsspec such as `s3://bucket/checkpoint`.
            wait: Return when it is on disk. False copies the state and writes in the background; what goes wrong is
                raised by the next `save`, by `wait_for_checkpoints` or by `stop`.
            notes: JSON data kept beside it, see `Checkpoint.notes`.

        Raises:
            CheckpointError: it exists or cannot be written, or the one before could not.
            ConfigError: the config holds something without an import path, such as a lambda.
        """
        self.wait_for_checkpoints()
        components = {"config": self.config.get_state(), **self._get_state()}
        self._checkpoints.start(encode_checkpoint(path, components, notes=notes), wait=wait)
        if wait:
            self._tell_written()
        return path

    def wait_for_checkpoints(self) -> None:
        """Wait until no checkpoint is being written any more.

        Raises:
            CheckpointError: one could not be written.
        """
        self._checkpoints.wait()
        self._tell_written()

    def _tell_written(self) -> None:
        """Call back for checkpoints that have become complete."""
        for path in self._checkpoints.take_written():
            self.callbacks.call("on_checkpoint_saved", algorithm=self, path=path)

    def restore(self, path: Location) -> dict[str, tuple[Any, Any]]:
        """Continue from a checkpoint of the same env and module.

        Everything is read and compared before anything of this algorithm changes, and if it does not fit after all,
        this algorithm is put back to where it was.

        Returns:
            The settings that this run has otherwise, by dotted name: as they were in the checkpoint, as they are here.
            They hold from here on.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another env, module or algorithm.
        """
        checkpoint = Checkpoint(path)
        checkpoint.verify()
        state = {name: checkpoint.load(name) for name in checkpoint.components()}
        saved = state.pop("config", {})
        check_algorithm(self.config, saved)
        before = copy.deepcopy(self._get_state())
        try:
            check_fit(self.env_runner, self.learner, state)
            self._set_state(state)
        except CheckpointError:
            self._set_state(before)
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            self._set_state(before)
            raise CheckpointError(f"The checkpoint {path} is malformed or does not fit this run: {error!r}.") from error
        self.callbacks.call("on_checkpoint_loaded", algorithm=self, path=checkpoint.path)
        return self.config.changes_since(saved)

    def _get_state(self) -> dict[str, Any]:
        """Return the state of everything that a run goes on from, by component."""
        counters = {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "num_episodes": self.num_episodes,
            "time_total_s": self.time_total_s,
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "parts": {name: list(values) for name, values in self._parts.items()},
            "evaluation": dict(self.evaluator.figures),
            "metrics": self.metrics.get_state(),
        }
        return {"counters": counters, **get_run_state(self.env_runner, self.learner)}

    def _set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `_get_state` gave."""
        set_run_state(self.env_runner, self.learner, state)
        counters = state["counters"]
        self.metrics.set_state(counters["metrics"])
        self.iteration, self.env_steps = counters["iteration"], counters["env_steps"]
        self.num_episodes, self.time_total_s = counters["num_episodes"], counters["time_total_s"]
        for window, values in ((self._returns, counters["returns"]), (self._lengths, counters["lengths"])):
            window.clear()
            window.extend(values)
        self._parts = {name: deque(values, self._returns.maxlen) for name, values in counters["parts"].items()}
        self.evaluator.figures = dict(counters["evaluation"])

    @staticmethod
    def from_checkpoint(path: Location, *, allow: Collection[str] = ()) -> Algorithm:
        """Build the algorithm that a checkpoint describes and continue from there.

        Args:
            path: Checkpoint directory.
            allow: Top-level packages the checkpoint may import classes and envs from, besides rl_core and what is
                imported already.

        Raises:
            CheckpointError: damaged, or it does not fit what its own config builds.
            ConfigError: it names something that may not be imported or cannot be rebuilt.
        """
        algorithm = AlgorithmConfig.from_dict(Checkpoint(path).load("config"), allow=allow).build()
        algorithm.restore(path)
        return algorithm

    def stop(self) -> None:
        """Close all envs and sinks, and wait until the last checkpoint is written.

        Raises:
            CheckpointError: it could not be written.
        """
        self.callbacks.call("on_algorithm_stop", algorithm=self)
        self.env_runner.close()
        self.evaluator.close()
        if self._learner_group is not None:
            self._learner_group.close()
        try:
            self.wait_for_checkpoints()
        finally:
            self._checkpoints.close()
