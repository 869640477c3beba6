"""Env runners in other processes behind the protocol of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rl_core.algorithm.components import Purpose
from rl_core.metrics import MetricsLogger
from rl_core.policy import Policy
from rl_core.records import Weights
from rl_core.rng import stream_seed
from rl_core.runtime.channel import Publication
from rl_core.runtime.runner_actor import Blueprint, Sample
from rl_core.runtime.runner_group import Member, Request, RunnerGroup
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.evaluate import shares
from rl_core.sampling.protocol import SingleRunner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

T = TypeVar("T")


class RemoteRunner:
    """Samples with a group of remote runners.

    `sample` waits for one rollout from each and joins them; `submit` and `arrived` let them run ahead. Weights are
    written once per version, and every runner reads them with its next request. What the connectors
    of the runners have gathered comes back with each rollout, is merged, and goes out with the next weights.
    """

    def __init__(self, config: AlgorithmConfig, purpose: Purpose, num_runners: int, metrics: MetricsLogger) -> None:
        """Start the runners; see `RunnerGroup`. What they log goes to `metrics`, with the rollouts they log it in."""
        self.group = RunnerGroup(config, purpose, num_runners)
        self._metrics = metrics
        self.num_runners = num_runners
        self._follow(self.group.blueprint)
        self._has: dict[Member, Publication] = {}  # the weights that each runner was sent last
        self._counts: dict[Member, tuple[int, int]] = {}
        self.num_bad_observations = self.num_env_restarts = self.num_restarts = 0
        self.num_healthy = num_runners

    def _follow(self, blueprint: Blueprint) -> None:
        """Take over what the runners say of themselves."""
        self.layout = blueprint.layout
        self.episodes: EpisodeStats = blueprint.episodes
        self._join, self._split = blueprint.join, blueprint.split
        self._policies = dict(blueprint.policies)
        self._is_single = isinstance(blueprint.weights, Weights)
        self._published = Publication(blueprint.weights)

    @property
    def policies(self) -> Mapping[str, Policy]:
        """Copies of the policies that the runners act with, kept at the newest weights."""
        return self._policies

    def sample(self) -> Any:
        """Return a rollout of each runner, joined; where one has failed, others sample twice.

        Raises:
            WorkerError: no runner is left.
            EnvError: the envs of a runner failed, and those of its successors.
        """
        self.group.forget()  # what a call that was interrupted had asked for
        samples: dict[tuple[int, int], Sample] = {}
        rounds: dict[int, int] = {}
        while len(samples) < self.num_runners:
            idle = [member for member in self.group.ready() if not member.pending]
            idle.sort(key=lambda member: rounds.get(member.index, 0))
            missing = self.num_runners - len(samples) - self.group.num_pending
            for member in idle[: max(0, missing)]:
                self._request(member)
            for member, sample in self._collect():
                rounds[member.index] = rounds.get(member.index, 0) + 1
                samples[rounds[member.index], member.index] = sample
        return self.join([samples[place] for place in sorted(samples)])

    def submit(self, max_pending: int) -> None:
        """Ask for rollouts until each runner has so many requests to answer, and return at once."""
        for member in self.group.ready():
            while len(member.pending) < max_pending:
                self._request(member)

    def arrived(self) -> list[Sample]:
        """Wait for a rollout, if any is under way, and return all that have come."""
        return [sample for _, sample in self._collect()]

    def join(self, samples: Sequence[Sample]) -> Any:
        """Join rollouts along their env slots; `episodes` are then those that ended in them."""
        episodes, rollouts = [sample.episodes for sample in samples], [sample.rollout for sample in samples]
        self.episodes = type(episodes[0]).joined(episodes)
        for sample in samples:
            self._metrics.merge(sample.metrics)
        return self._join(rollouts)

    def split(self, rollout: Any, num_parts: int) -> list[Any]:
        """Cut a rollout into parts for learners that share it."""
        return self._split(rollout, num_parts)

    def _request(self, member: Member) -> None:
        """Ask a runner for a rollout, with the newest weights if it has others."""
        new = self._has.get(member) is not self._published
        self.group.ask(member, "sample", publication=self._published if new else None)
        self._has[member] = self._published

    def _collect(self) -> list[tuple[Member, Sample]]:
        """Take in rollouts, and add what the connectors gathered in them to the statistics of all."""
        answers: list[tuple[Member, Sample]] = [(member, sample) for member, _, sample in self.group.collect()]
        for member, sample in answers:
            self._counts[member] = (sample.num_bad_observations, sample.num_env_restarts)
            for name, gathered in sample.statistics.items():
                policy = self._policies.get(name)
                if policy is None:  # removed while the rollout was under way
                    continue
                policy.shared = policy.obs_chain.merge((policy.shared, gathered), sample.base[name])
        if answers:
            self.num_bad_observations, self.num_env_restarts = (
                sum(of) for of in zip(*self._counts.values(), strict=True)
            )
        self.num_restarts = self.group.num_restarts
        if len(self._has) > len(self.group.members):
            self._has = {member: weights for member, weights in self._has.items() if member in self.group.members}
            self.group.take_lost()
        self.num_healthy = sum(member.is_ready for member in self.group.members)
        return answers

    def evaluate(self, *, num_episodes: int = 0, num_steps: int = 0, seed: int, explore: bool) -> EpisodeStats:
        """Play exactly so many episodes or steps, each runner its share; another plays that of one that fails."""
        self.group.forget()  # as in sample
        counts = shares(num_episodes or num_steps, self.num_runners).tolist()
        unit = "num_episodes" if num_episodes else "num_steps"
        due = {place: count for place, count in enumerate(counts) if count}
        results: dict[int, EpisodeStats] = {}
        asked: dict[Request, int] = {}
        while len(results) < len(due):
            waiting = [place for place in due if place not in results and place not in asked.values()]
            idle = [member for member in self.group.ready() if not member.pending]
            for member, place in zip(idle, waiting, strict=False):
                settings = {unit: due[place], "seed": stream_seed(seed, "runner", place), "explore": explore}
                asked[self.group.ask(member, "evaluate", settings, publication=self._published)] = place
            for _, request, episodes in self.group.collect():
                results[asked[request]] = episodes
            for request in self.group.take_lost():
                asked.pop(request, None)
        parts = [results[place] for place in sorted(results)]
        return type(parts[0]).joined(parts)

    def set_weights(self, weights: Any) -> None:
        """Publish newer weights: runners read them with their next request."""
        for name, part in ({"default": weights} if self._is_single else weights).items():
            self._policies[name].set_weights(part)
        self._published = Publication(self.get_weights())

    def get_weights(self) -> Any:
        """Return the newest weights and the merged statistics."""
        parts = {
            name: Weights(
                version=policy.version,
                tensors=dict(policy.module.state_dict()),
                connector_state=policy.shared,
            )
            for name, policy in self._policies.items()
        }
        return parts["default"] if self._is_single else parts

    def call_each(self, function: Callable[[Any], T]) -> list[T]:
        """Call a function with each env runner, in its process, when it has the newest weights."""
        return self.group.call_each([function] * len(self.group.members), self._published)

    def reread(self, config: AlgorithmConfig) -> None:
        """Take over the runners' new policies, and build runners by the new config from now on."""
        self._follow(self.group.change_config(config))

    def get_states(self) -> list[dict[str, Any]]:
        """Return what each runner's sampling depends on besides the policies."""
        return self.group.call_each([_get_state] * len(self.group.members))

    def set_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Give each runner its state; runners beyond these begin new episodes. What is under way is forgotten.

        Raises:
            CheckpointError: a state does not belong to this env.
        """
        self.group.forget()
        self.group.wait_for_all()
        self.group.call_each([partial(_set_state, state=state) for state in states])

    def resize(self, num_runners: int) -> None:
        """Go on with more runners, or with fewer; new ones join when they are ready."""
        self.group.resize(num_runners)
        self.num_runners = num_runners

    def close(self) -> None:
        """End all processes."""
        self.group.stop()


def _get_state(runner: SingleRunner) -> dict[str, Any]:
    return runner.get_state()


def _set_state(runner: SingleRunner, *, state: Mapping[str, Any]) -> None:
    runner.set_state(state)
