"""A single-agent env played by n agents at once, each in a copy of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from rl_core.config.codec import Storable
from rl_core.env.make import EnvLike, env_name, make_single_env, make_vector_env
from rl_core.errors import ConfigError
from rl_core.rng import stream_seed
from rl_multiagent.env.agent_env import MultiAgentEnv
from rl_multiagent.env.clone_vector import ClonedAgentsVectorEnv


def clone_agents(env: EnvLike, num_agents: int) -> ClonedAgents:
    """Let n agents play an env for one, each in a copy of its own: `"0"`, `"1"` and so on.

    An agent whose copy ended waits until all have; then the next episode begins. With
    `gym_env_vectorize_mode="vector_entry_point"` the env's own vectorised form steps all agents of all slots at once.

    Args:
        env: As in `config.environment` of a single-agent run: a registered id, a class, or a function.
        num_agents: n.

    Returns:
        What `config.environment` takes; `env_config` is that of each copy.

    Example:
        >>> config.environment(clone_agents("CartPole-v1", 8)).use(MultiAgent())
    """
    return ClonedAgents(env, num_agents)


@dataclass(frozen=True)
class ClonedAgents(Storable):
    """Makes cloned envs; see `clone_agents`."""

    env: Any
    """A registered id, an env class, or a function of the env config."""
    num_agents: int
    """n, at least 1."""

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ConfigError: there would be no agent.
        """
        if self.num_agents < 1:
            raise ConfigError(f"clone_agents: num_agents is {self.num_agents}, expected at least 1.")

    def __call__(self, env_config: Mapping[str, Any]) -> MultiAgentEnv:
        """Make one env with n agents."""
        return ClonedEnv([make_single_env(self.env, env_config) for _ in range(self.num_agents)])

    def make_vector(self, num_envs: int, env_config: Mapping[str, Any]) -> ClonedAgentsVectorEnv:
        """Make env slots out of one vector env with a row for each agent of each slot."""
        rows = make_vector_env(
            self.env,
            num_envs=num_envs * self.num_agents,
            vectorize_mode="vector_entry_point",
            env_config=env_config,
        )
        try:
            return ClonedAgentsVectorEnv(rows, num_envs, name=env_name(self.env))
        except BaseException:
            rows.close()
            raise


class ClonedEnv(MultiAgentEnv):
    """n envs for one agent each, stepped together; the episode is over when all have ended."""

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        """Take ownership of the envs.

        Args:
            envs: With equal spaces.
        """
        self.envs = list(envs)
        self.possible_agents = tuple(str(place) for place in range(len(envs)))
        self.observation_spaces = dict.fromkeys(self.possible_agents, envs[0].observation_space)
        self.action_spaces = dict.fromkeys(self.possible_agents, envs[0].action_space)
        self._env_of = dict(zip(self.possible_agents, self.envs, strict=True))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode in every copy, each with a seed of its own."""
        obs, infos = {}, {}
        for agent, env in self._env_of.items():
            own = None if seed is None else stream_seed(seed, "agent", str(agent))
            obs[agent], infos[agent] = env.reset(seed=own, options=options)
        return obs, infos

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Step the copies of those that act: all whose part has not ended."""
        obs: dict[Any, Any] = {}
        rewards: dict[Any, float] = {}
        terminateds, truncateds, infos = {}, {}, {}
        for agent, action in actions.items():
            obs[agent], reward, terminateds[agent], truncateds[agent], infos[agent] = self._env_of[agent].step(action)
            rewards[agent] = float(reward)
        return obs, rewards, terminateds, truncateds, infos

    def render(self) -> Any:
        """Return what the first copy draws."""
        return self.envs[0].render()

    def close(self) -> None:
        """Close all copies."""
        for env in self.envs:
            env.close()
