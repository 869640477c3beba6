"""What an algorithm asks of what samples for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from rl_core.errors import ConfigError
from rl_core.policy import Policy
from rl_core.sampling.episodes import EpisodeStats

T = TypeVar("T")


class Runner(Protocol):
    """What an algorithm asks of an env runner, or of a group of remote ones."""

    episodes: EpisodeStats
    """Those that ended in the last `sample`."""
    num_bad_observations: int
    """Observations so far that could not be used."""
    num_env_restarts: int
    """Envs so far that failed and were made anew."""
    layout: Any
    """What the learner of an extension needs to know of the env besides the policies; None for one agent."""
    num_restarts: int
    """Remote runners that were replaced so far."""
    num_healthy: int
    """Runners that can be asked now."""

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies it acts with, by id: what a checkpoint holds under `policies/`."""

    def sample(self) -> Any:
        """Return experience for the learner; its `env_steps` says how many env steps it holds."""

    def split(self, rollout: Any, num_parts: int) -> list[Any]:
        """Cut what `sample` gave into as many parts for learners that share it; see `split_rollout`."""

    def evaluate(self, *, num_episodes: int = 0, num_steps: int = 0, seed: int, explore: bool) -> EpisodeStats:
        """Play exactly so many episodes, or env steps, with the current weights; one of the two is given."""

    def set_weights(self, weights: Any) -> None:
        """Take what the learner's `weights`, or another runner's `get_weights`, gave."""

    def get_weights(self) -> Any:
        """Return weights together with the statistics of the connectors."""

    def get_states(self) -> list[dict[str, Any]]:
        """Return what each runner's sampling depends on besides the policies."""

    def set_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take back what `get_states` gave, of as many runners as there are."""

    def call_each(self, function: Callable[[Any], T]) -> list[T]:
        """Call a function with each env runner, in its process."""

    def reread(self, config: Any) -> None:
        """Take note of changes of the policies that `call_each` made, and of the config that describes them now."""

    def close(self) -> None:
        """Free the envs."""


class SingleRunner(Runner, ABC):
    """The base of env runners that sample in the process they are in."""

    index = 0
    """Number among the runners of the same purpose."""
    layout: Any = None
    num_restarts = 0
    num_healthy = 1

    @staticmethod
    @abstractmethod
    def join(rollouts: Sequence[Any]) -> Any:
        """Put what several such runners sampled together, as if one had."""

    @staticmethod
    def split(rollout: Any, num_parts: int) -> list[Any]:
        """Cut what such a runner sampled into parts, as if each were of a runner of its own.

        Raises:
            ConfigError: runners of this kind have no such way; theirs are for one learner.
        """
        raise ConfigError(
            f"num_learners={num_parts}: {type(rollout).__name__} cannot be shared out. Define split in the runner's "
            "class, or set num_learners=0."
        )

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Return what sampling depends on besides the policies."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""

    def get_states(self) -> list[dict[str, Any]]:
        """Return `get_state` of this one."""
        return [self.get_state()]

    def set_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take the first state."""
        for state in states[:1]:
            self.set_state(state)

    def call_each(self, function: Callable[[Any], T]) -> list[T]:
        """Call a function with this one."""
        return [function(self)]

    def reread(self, config: Any) -> None:
        """Do nothing: this one was told."""
        del config
