"""The process of a remote env runner."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rl_core.algorithm.callbacks import CallbackList
from rl_core.algorithm.components import Context, Purpose
from rl_core.errors import WorkerError
from rl_core.metrics import MetricsLogger, logging_to
from rl_core.policy import Policy
from rl_core.records import Tree
from rl_core.runtime.line import Line, dial
from rl_core.runtime.packing import Bytes, Packed, pack, pack_any, unpack
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.protocol import SingleRunner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a remote runner's `sample` brings."""

    rollout: Any
    """As the runner's `sample` returned it."""
    episodes: EpisodeStats
    """Those that ended in it."""
    statistics: Mapping[str, tuple[Tree, ...]]
    """By policy, one entry per observation connector: what it has gathered."""
    base: Mapping[str, tuple[Tree, ...]]
    """What the statistics were before the rollout."""
    num_bad_observations: int
    """Of this runner so far."""
    num_env_restarts: int
    """Of this runner so far."""
    metrics: Mapping[str, Any]
    """What was logged in it: `MetricsLogger.take`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What the learner's side needs to know of the runners."""

    policies: Mapping[str, Policy]
    weights: Any
    """As the runner's `get_weights` gives them."""
    join: Callable[[Sequence[Any]], Any]
    """The runner's own."""
    split: Callable[[Any, int], list[Any]]
    """The runner's own."""
    episodes: EpisodeStats
    """None yet, with the names of the parts there will be."""
    layout: Any
    """The runner's own word about its env, for the learner of an extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a request brings that raised."""

    error: Exception
    trace: str
    """Of where it was raised."""


class RunnerActor:
    """Holds an env runner; Ray makes an actor of it."""

    def __init__(self, config: AlgorithmConfig, purpose: Purpose, place: tuple[int, int]) -> None:
        """Remember what to build.

        Args:
            config: Of the run.
            purpose: What the runner is for.
            place: Number of the runner, and how often it was built before: seeds depend on both.
        """
        self._config, self._purpose, self._place = config, purpose, place
        self._runner: SingleRunner | None = None
        self._line: Line | None = None
        self._metrics = MetricsLogger()

    def setup(self, node: str, address: str | None) -> tuple[Blueprint, bool]:
        """Build the env runner; here and not in the constructor, so that what goes wrong arrives as it is.

        Args:
            node: Of whoever will ask, by Ray's id.
            address: Where a line is to be connected to, if both are on one node; None if there can be none.

        Returns:
            What the learner's side needs to know, and whether a line is connected.

        Raises:
            EnvError: the env cannot be made or breaks its contract.
        """
        import ray

        torch.set_num_threads(1)
        callbacks = CallbackList(self._config.callbacks.settings.callbacks_class)
        context = Context(callbacks=callbacks, metrics=self._metrics, runner=self._place)
        self._runner = self._config.components().env_runner(self._config, self._purpose, context)
        self._runner.index = self._place[0]
        if address is not None and ray.get_runtime_context().get_node_id() == node:
            self._line = dial(address)
        return self.describe(), self._line is not None

    def serve(self) -> None:
        """Answer what comes along the line until it ends."""
        line = self._line
        assert line is not None, "setup has connected it"
        with suppress(EOFError, ConnectionError):
            while True:
                line.send(self._answer(*line.receive()))
        self.close()

    def answer(self, request: Bytes, weights: Bytes | None) -> Bytes:
        """Take newer weights, packed, or None for those it has, and do what `request_of` wrote.

        Returns:
            What that gives, packed; a `Failure` if it raised.
        """
        return self._answer(request, weights).joined()

    def _answer(self, request: Bytes, weights: Bytes | None) -> Packed:
        """See `answer`; what is packed stands in the pieces it consists of."""
        try:
            method, arguments = unpack(request)
            if weights is not None:
                self.runner.set_weights(unpack(weights))
            result = getattr(self, method)(*arguments)
            return pack_any(result) if method == "apply" else pack(result)
        except Exception as error:
            trace = traceback.format_exc()
            try:
                unpack((packed := pack(Failure(error=error, trace=trace))).joined())
            except Exception:
                packed = pack(Failure(error=WorkerError(f"{type(error).__name__}: {error}"), trace=trace))
            return packed

    def describe(self) -> Blueprint:
        """Say what the learner's side needs to know."""
        runner = self.runner
        return Blueprint(
            policies=dict(runner.policies),
            weights=runner.get_weights(),
            join=runner.join,
            split=runner.split,
            episodes=runner.episodes,
            layout=runner.layout,
        )

    @property
    def runner(self) -> SingleRunner:
        """The env runner."""
        assert self._runner is not None, "setup comes first"
        return self._runner

    def sample(self) -> Sample:
        """Sample a rollout."""
        runner = self.runner
        base = {name: policy.shared for name, policy in runner.policies.items()}
        with logging_to(self._metrics):
            rollout = runner.sample()
        return Sample(
            rollout=rollout,
            episodes=runner.episodes,
            statistics={name: policy.shared for name, policy in runner.policies.items()},
            base=base,
            num_bad_observations=runner.num_bad_observations,
            num_env_restarts=runner.num_env_restarts,
            metrics=self._metrics.take(),
        )

    def evaluate(self, settings: Mapping[str, Any]) -> EpisodeStats:
        """Play; see `Runner.evaluate`."""
        return self.runner.evaluate(**settings)

    def apply(self, function: Callable[[SingleRunner], Any]) -> Any:
        """Call a function with the env runner."""
        return function(self.runner)

    def close(self) -> None:
        """Free the envs."""
        if self._runner is not None:
            self._runner.close()
