"""Envs with many agents that outlive a failure: where one raises, another is made and takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rl_core.env.restart import Restarts
from rl_multiagent.env.agent_env import MultiAgentEnv


class RestartingAgents(MultiAgentEnv):
    """Makes its env anew when `step` or `reset` raises, and goes on with the new one's first observations.

    A step that failed gives no rewards and no ends; `infos[RESTARTS]` tells it from one that took place.
    """

    def __init__(self, make_env: Callable[[], MultiAgentEnv]) -> None:
        """Make the first env; `make_env` is called again after each failure."""
        self.env = make_env()
        self.possible_agents = self.env.possible_agents
        self.observation_spaces = self.env.observation_spaces
        self.action_spaces = self.env.action_spaces
        self._make_env = make_env
        self._restarts = Restarts()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode, in a new env if need be."""
        self._restarts.seed(seed)
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            self.env, obs, infos = self._restarts.next_env(self._make_env, self.env, error, options)
            return obs, infos

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Let agents act, or begin an episode in a new env."""
        try:
            result = self.env.step(actions)
        except Exception as error:
            self.env, obs, infos = self._restarts.next_env(self._make_env, self.env, error)
            return obs, {}, {}, {}, infos
        self._restarts.went_well()
        return result

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()
