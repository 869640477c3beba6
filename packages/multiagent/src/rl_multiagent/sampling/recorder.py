"""Puts episodes together from the rollouts they stretch over, agent by agent, for callbacks that ask for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rl_core.records import Rollout, Tree
from rl_core.sampling.episodes import Episode
from rl_core.tree import tree_map, tree_zip
from rl_multiagent.env.agent_env import AgentID
from rl_multiagent.records import AgentsStep
from rl_multiagent.sampling.slots import Arrival, PolicySlots


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEpisode:
    """One finished episode of an env with many agents; built only for callbacks that ask for it."""

    slot: int
    """Env slot that played it."""
    agents: Mapping[AgentID, Episode]
    """What each agent saw and did at its own clock; an agent that never acted is left out. Its rewards are as the env
    gave them, those between two of its actions added up."""
    policies: Mapping[AgentID, str]
    """Ids of the policies that played the agents."""
    returns: Mapping[AgentID, float]
    """All that the env paid to each possible agent, also when it had not acted."""
    length: int
    """Env steps."""

    @property
    def episode_return(self) -> float:
        """Sum over all agents."""
        return sum(self.returns.values())


@dataclass(slots=True)
class _OpenPart:
    """One agent's part in an episode under way."""

    policy: str = ""
    rows: list[tuple[Tree, Tree, np.ndarray]] = field(default_factory=list)
    """Observations, actions and rewards of its transitions so far, `[L, ...]` each."""
    last_obs: Tree = None
    """Its true last observation, once its part has ended."""
    terminated: bool = False


@dataclass(slots=True)
class _Cut:
    """An episode that ended while a rollout was sampled."""

    slot: int
    cursor: Mapping[str, np.ndarray]
    """`[B]` for each of the runner's agent slots: transitions they had completed in this rollout by then."""
    returns: np.ndarray
    length: int
    broken: bool
    """The env failed: the episode is given up."""


class AgentEpisodeRecorder:
    """Keeps the open part of each env slot's episode and calls back when one is complete."""

    def __init__(
        self,
        num_envs: int,
        agents: Sequence[AgentID],
        num_steps: int,
        on_episode_end: Callable[[AgentEpisode], None],
    ) -> None:
        """Begin with no episode under way.

        Args:
            num_envs: E.
            agents: A agents, in order of their columns.
            num_steps: T, env steps of a rollout.
            on_episode_end: Called at the end of the rollout in which an episode ended.
        """
        self._agents = list(agents)
        self._num_steps = num_steps
        self._on_episode_end = on_episode_end
        self._num_envs = num_envs
        self.reset()

    def reset(self) -> None:
        """Give up the episodes under way."""
        self._open = [[_OpenPart() for _ in self._agents] for _ in range(self._num_envs)]
        self._returns = np.zeros((self._num_envs, len(self._agents)))
        self._lengths = np.zeros(self._num_envs, np.int64)
        self._forget_rollout()

    def _forget_rollout(self) -> None:
        self._cursor: dict[str, np.ndarray] = {}
        self._reward: dict[str, np.ndarray] = {}
        self._cuts: list[_Cut] = []

    def add(self, step: AgentsStep, slots: Mapping[str, PolicySlots], arrivals: Mapping[str, Arrival]) -> None:
        """Add a step of the envs, after the agent slots took it in."""
        self._returns += step.reward
        self._lengths += 1
        for name, arrival in arrivals.items():
            if name not in self._cursor:
                self._cursor[name] = np.zeros(slots[name].num_slots, np.int64)
                self._reward[name] = np.zeros((self._num_steps + 1, slots[name].num_slots))
            cursor = self._cursor[name]
            for closed in (arrival.went_on, arrival.ended):
                self._reward[name][cursor[closed], closed] = slots[name].pending[closed]
                cursor[closed] += 1
        for slot in np.flatnonzero(step.first).tolist():
            cursors = {name: cursor.copy() for name, cursor in self._cursor.items()}
            broken = step.broken is not None and bool(step.broken[slot])
            self._cuts.append(_Cut(slot, cursors, self._returns[slot].copy(), int(self._lengths[slot]), broken))
            self._returns[slot] = 0.0
            self._lengths[slot] = 0

    def finish(self, rollouts: Mapping[str, Rollout], slots: Mapping[str, PolicySlots]) -> None:
        """Take the rows of a rollout and call back for the episodes that ended in it.

        Args:
            rollouts: By policy.
            slots: That they were sampled with.
        """
        start = {name: np.zeros_like(cursor) for name, cursor in self._cursor.items()}
        for cut in self._cuts:
            self._keep(rollouts, slots, start, cut.cursor, cut.slot)
            if cut.broken:
                self._open[cut.slot] = [_OpenPart() for _ in self._agents]
            else:
                self._emit(cut)
        for slot in range(self._num_envs):
            self._keep(rollouts, slots, start, self._cursor, slot)
        self._forget_rollout()

    def _keep(
        self,
        rollouts: Mapping[str, Rollout],
        slots: Mapping[str, PolicySlots],
        start: Mapping[str, np.ndarray],
        stop: Mapping[str, np.ndarray],
        env_slot: int,
    ) -> None:
        """Remember the transitions of one env slot's agents between two times; `start` goes on to the later one."""
        for key, group in slots.items():
            if key not in stop:
                continue
            for name, part in group.parts.items():
                own = np.arange(group.num_slots)[part]
                for slot in own[(group.env_of[own] == env_slot) & (stop[key][own] > start[key][own])].tolist():
                    times = np.arange(start[key][slot], stop[key][slot])
                    open_part = self._open[env_slot][int(group.rows[slot]) % len(self._agents)]
                    open_part.policy = name
                    _take(open_part, rollouts[name], times, slot - own[0], self._reward[key][times, slot])
                    start[key][slot] = stop[key][slot]

    def _emit(self, cut: _Cut) -> None:
        """Join the parts of a finished episode and call back."""
        parts = {self._agents[column]: part for column, part in enumerate(self._open[cut.slot]) if part.rows}
        self._open[cut.slot] = [_OpenPart() for _ in self._agents]
        self._on_episode_end(
            AgentEpisode(
                slot=cut.slot,
                agents={agent: _joined(cut.slot, part) for agent, part in parts.items()},
                policies={agent: part.policy for agent, part in parts.items()},
                returns=dict(zip(self._agents, cut.returns.tolist(), strict=True)),
                length=cut.length,
            )
        )

    def get_state(self) -> dict[str, Any]:
        """Return the open parts of the episodes."""
        open_parts = [
            [[part.policy, list(part.rows), part.last_obs, part.terminated] for part in parts] for parts in self._open
        ]
        return {"open": open_parts, "returns": self._returns.copy(), "lengths": self._lengths.copy()}

    def set_state(self, state: Mapping[str, Any] | None) -> None:
        """Take back what `get_state` gave; None gives up the episodes under way."""
        self.reset()
        if state is None:
            return
        self._open = [
            [_OpenPart(policy, [tuple(row) for row in rows], *end) for policy, rows, *end in parts]
            for parts in state["open"]
        ]
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"])


def _take(part: _OpenPart, rollout: Rollout, times: np.ndarray, slot: int, reward: np.ndarray) -> None:
    """Add an agent's transitions at some rows of a rollout to its part in the episode."""
    position = int(times[-1]) * rollout.reward.shape[1] + slot
    place = int(np.searchsorted(rollout.final_index.numpy(), position))
    if place < len(rollout.final_index) and int(rollout.final_index[place]) == position:
        part.last_obs = tree_map(lambda leaf: leaf[place].numpy(), rollout.final_obs)
        part.terminated = bool(rollout.terminated[times[-1], slot])
    if rollout.valid is not None:
        real = rollout.valid[times, slot].numpy()
        times, reward = times[real], reward[real]
    if len(times):
        obs, action = (
            tree_map(lambda leaf: leaf.numpy()[times, slot], column) for column in (rollout.obs, rollout.action)
        )
        part.rows.append((obs, action, reward))


def _joined(slot: int, part: _OpenPart) -> Episode:
    """Join the rows of an agent's part in an episode."""
    obs, action, reward = zip(*part.rows, strict=True)
    ending = tree_map(lambda leaf: leaf[np.newaxis], part.last_obs)
    return Episode(
        slot=slot,
        obs=tree_zip(np.concatenate, [*obs, ending]),
        action=tree_zip(np.concatenate, action),
        reward=np.concatenate(reward),
        terminated=part.terminated,
    )
