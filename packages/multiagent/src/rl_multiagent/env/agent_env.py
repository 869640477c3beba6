"""The base of envs with many agents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

from gymnasium.spaces import Space

AgentID: TypeAlias = Hashable
"""Names an agent; `str(agent)` names it in metrics and where it has a policy of its own."""
EVERYONE = "__all__"
"""Key of `terminateds` and `truncateds` that ends the episode for all agents."""


class MultiAgentEnv(ABC):
    """An env in which agents act together, in turns, or as they come and go.

    What `reset` and `step` return are dicts by agent. Who gets an observation acts in the next step, and nobody else
    does. Rewards may go to any agent at any time: those between two actions of an agent are added up. An agent leaves
    when `terminateds` or `truncateds` says so, with or without a last observation. The episode is over when either says
    so for `"__all__"`, or when all agents that took part have left.

    Which actions are legal is told by an observation that is a Dict with `action_mask`, one number per action, not zero
    where it is legal. An agent that acts must have a legal one.

    Example:
        >>> from gymnasium.spaces import Box, Discrete
        >>> class Guess(MultiAgentEnv):
        ...     possible_agents = ("left", "right")
        ...     observation_spaces = {agent: Box(-1, 1, (1,)) for agent in possible_agents}
        ...     action_spaces = {agent: Discrete(2) for agent in possible_agents}
        ...     def reset(self, *, seed=None, options=None):
        ...         return {agent: np.zeros(1, np.float32) for agent in self.possible_agents}, {}
        ...     def step(self, actions):
        ...         rewards = {agent: float(action) for agent, action in actions.items()}
        ...         return {}, rewards, {"__all__": True}, {}, {}
    """

    possible_agents: tuple[AgentID, ...]
    """All agents that may ever take part, in an order that never changes."""
    observation_spaces: Mapping[Any, Space[Any]]
    """Of each possible agent."""
    action_spaces: Mapping[Any, Space[Any]]
    """Of each possible agent."""

    @abstractmethod
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode.

        Returns:
            Observations of the agents that act first, and infos.
        """

    @abstractmethod
    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Let those agents act that got an observation.

        Returns:
            Observations, rewards, terminateds, truncateds and infos, each by agent; agents may be left out.
        """

    def render(self) -> Any:
        """Return a frame, or None."""
        return None

    def close(self) -> None:
        """Release what the env holds; calling it twice is fine."""
        return None
