"""A run with one agent as a run with several that learn side by side."""

from __future__ import annotations

from typing import TypeVar

from rl_core import AlgorithmConfig
from rl_multiagent.env.clone import clone_agents
from rl_multiagent.extension import MultiAgent

C = TypeVar("C", bound=AlgorithmConfig)


def independent_agents(config: C, num_agents: int) -> C:
    """Let n agents play the config's env, each in a copy of its own and with a policy of its own.

    Agents and policies are called `"0"`, `"1"` and so on; all else of the config holds for each policy.

    Args:
        config: Of a run with one agent, with an env; it is changed.
        num_agents: n; 0 leaves the config as it is.

    Returns:
        The config.
    """
    if num_agents:
        config.environment(clone_agents(config.environment.settings.env, num_agents))
        config.use(MultiAgent(policies=tuple(map(str, range(num_agents)))))
    return config
