"""Where each agent stands in the arrays of a vector env: agents with equal spaces stand together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Space

from rl_core.env.spaces import check_supported, same_space
from rl_core.errors import EnvError
from rl_core.records import Tree
from rl_multiagent.env.agent_env import AgentID

if TYPE_CHECKING:
    from rl_core import Policy


@dataclass(frozen=True, slots=True)
class AgentKind:
    """Agents with equal spaces: columns `start` to before `stop` of the arrays `[E, A]`."""

    observation_space: Space[Any]
    action_space: Space[Any]
    start: int
    stop: int

    @property
    def num_agents(self) -> int:
        """A_k."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class AgentLayout:
    """All possible agents, sorted by kind."""

    agents: tuple[AgentID, ...]
    """A agents: the place of each is its column."""
    kinds: tuple[AgentKind, ...]
    index: Mapping[AgentID, int]
    """Agent -> column."""

    @property
    def num_agents(self) -> int:
        """A."""
        return len(self.agents)

    def kind_of(self, column: int) -> int:
        """Return the place of the kind that an agent is of."""
        return next(place for place, kind in enumerate(self.kinds) if column < kind.stop)

    def fits(self, column: int, policy: Policy) -> bool:
        """Whether a policy was made for the spaces of an agent."""
        kind = self.kinds[self.kind_of(column)]
        same = (
            same_space(kind.observation_space, policy.observation_space),
            same_space(kind.action_space, policy.action_space),
        )
        return same == (None, None)

    def empty_actions(self, num_envs: int) -> tuple[Tree, ...]:
        """Make arrays `[E, A_k, ...]` for the actions of each kind."""
        return tuple(zeros(kind.action_space, (num_envs, kind.num_agents)) for kind in self.kinds)


def agent_layout(env: Any, name: str) -> AgentLayout:
    """Sort the possible agents of an env by their spaces.

    Args:
        env: With `possible_agents`, `observation_spaces` and `action_spaces`.
        name: What messages call it.

    Raises:
        EnvError: there are no agents, an agent comes twice, or one has no space.
        UnsupportedSpaceError: a space is of a kind that is not supported.
    """
    agents = tuple(getattr(env, "possible_agents", ()))
    if not agents:
        raise EnvError(f"{name}: it has no possible_agents. List all agents that may ever take part.")
    if len({str(agent) for agent in agents}) < len(agents):
        raise EnvError(f"{name}: possible_agents {agents} has agents of the same name. Give each its own.")
    kinds: list[tuple[Space[Any], Space[Any], list[AgentID]]] = []
    for agent in agents:
        observation_space = _space_of(env, "observation_spaces", agent, name)
        action_space = _space_of(env, "action_spaces", agent, name)
        for kind in kinds:
            if same_space(kind[0], observation_space) is None and same_space(kind[1], action_space) is None:
                kind[2].append(agent)
                break
        else:
            check_supported(observation_space, f"{name}: observation space of agent {agent!r}")
            check_supported(action_space, f"{name}: action space of agent {agent!r}")
            kinds.append((observation_space, action_space, [agent]))
    ordered = tuple(agent for *_, members in kinds for agent in members)
    stops = np.cumsum([len(members) for *_, members in kinds]).tolist()
    return AgentLayout(
        agents=ordered,
        kinds=tuple(
            AgentKind(observation_space, action_space, stop - len(members), stop)
            for (observation_space, action_space, members), stop in zip(kinds, stops, strict=True)
        ),
        index={agent: column for column, agent in enumerate(ordered)},
    )


def _space_of(env: Any, what: str, agent: AgentID, name: str) -> Space[Any]:
    """Look up the space of an agent."""
    given = getattr(env, what, None)
    space = given.get(agent) if isinstance(given, Mapping) else None
    if not isinstance(space, Space):
        raise EnvError(
            f"{name}: agent {agent!r} has no space in {what} (got {space!r}). Give one for each of possible_agents."
        )
    return space


def zeros(space: Space[Any], leading: Sequence[int]) -> Tree:
    """Make arrays `[*leading, ...]` for samples of a space."""
    parts = getattr(space, "spaces", None)
    if isinstance(parts, Mapping):
        return {key: zeros(part, leading) for key, part in parts.items()}
    if parts is not None:
        return tuple(zeros(part, leading) for part in parts)
    return np.zeros((*leading, *(space.shape or ())), space.dtype)
