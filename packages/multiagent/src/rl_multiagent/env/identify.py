"""Agents that are told who they are, for policies that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_multiagent.env.agent_env import AgentID, MultiAgentEnv
from rl_multiagent.env.slot import MASK

AGENT, OBSERVATIONS = "agent", "observations"
"""Keys of what an agent sees: its place among `possible_agents`, and what it saw without that."""


class IdentifiedAgents(MultiAgentEnv):
    """Adds to what each agent sees its place among `possible_agents`.

    What an agent sees becomes `Dict(agent=Discrete(A), observations=...)`. Where there is an `action_mask`, that stands
    beside `observations` still, which becomes such a Dict.

    Example:
        >>> config.environment(lambda _: IdentifiedAgents(MyEnv())).use(MultiAgent())  # one policy knows whom it plays
    """

    def __init__(self, env: MultiAgentEnv) -> None:
        """Take ownership of the env."""
        self.env = env
        self.possible_agents = env.possible_agents
        self.action_spaces = env.action_spaces
        self._place = {agent: np.int64(place) for place, agent in enumerate(env.possible_agents)}
        self._masked = {
            agent: isinstance(space, spaces.Dict) and set(space.spaces) == {MASK, OBSERVATIONS}
            for agent, space in env.observation_spaces.items()
        }
        place = spaces.Discrete(len(self._place))
        self.observation_spaces = {
            agent: self._told(agent, space, place, spaces.Dict) for agent, space in env.observation_spaces.items()
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        obs, infos = self.env.reset(seed=seed, options=options)
        return self._tell(obs), infos

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Let agents act."""
        obs, *rest = self.env.step(actions)
        return self._tell(obs), *rest  # type: ignore[return-value] # the rest is as it was

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def _tell(self, obs: Mapping[Any, Any]) -> dict[Any, Any]:
        """Tell agents who they are."""
        return {agent: self._told(agent, value, self._place[agent], dict) for agent, value in obs.items()}

    def _told(self, agent: AgentID, value: Any, place: Any, join: Callable[[dict[str, Any]], Any]) -> Any:
        """Put an observation, or its space, together with a place."""
        if self._masked[agent]:
            return join({MASK: value[MASK], OBSERVATIONS: join({AGENT: place, OBSERVATIONS: value[OBSERVATIONS]})})
        return join({AGENT: place, OBSERVATIONS: value})
