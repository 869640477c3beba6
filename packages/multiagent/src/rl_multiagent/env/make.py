"""Make vector envs with many agents from what a user may name them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rl_core import AlgorithmConfig
from rl_core.algorithm.components import Purpose
from rl_core.env.make import env_name
from rl_core.errors import ConfigError, EnvError, RLError
from rl_multiagent.env.agent_env import MultiAgentEnv
from rl_multiagent.env.vector import AgentsVectorEnv, SyncAgentsEnv


def make_agents_env(config: AlgorithmConfig, purpose: Purpose) -> AgentsVectorEnv:
    """Build the vector env of a runner.

    Raises:
        ConfigError: there is no env in the config.
        EnvError: it cannot be made.
    """
    environment, runners = config.environment.settings, config.env_runners.settings
    if environment.env is None:
        raise ConfigError("environment.env: got None, expected an env. Call config.environment(MyMultiAgentEnv).")
    num_envs, env_config = runners.num_envs_per_env_runner, environment.env_config
    if purpose == "evaluation":
        evaluation = config.evaluation.settings
        env_config = env_config | evaluation.evaluation_env_config
        chosen = evaluation.evaluation_num_envs
        num_envs = min(num_envs, evaluation.evaluation_duration) if chosen == "auto" else chosen
    name = env_name(environment.env)
    return SyncAgentsEnv(lambda: make_multi_agent_env(environment.env, env_config), num_envs, name=name)


def make_multi_agent_env(env: Any, env_config: Mapping[str, Any] | None = None) -> MultiAgentEnv:
    """Make one env.

    Args:
        env: A class derived from `MultiAgentEnv`, made with `cls(**env_config)`; or a function that gets the dict
            `env_config` and returns a `MultiAgentEnv`, or an env of PettingZoo, parallel or turn by turn.
        env_config: Settings of the env.

    Raises:
        EnvError: it cannot be made, or is none.
    """
    name, settings = env_name(env), dict(env_config or {})
    try:
        made = env(**settings) if isinstance(env, type) else _call(env, settings, name)
    except RLError:
        raise
    except Exception as error:
        raise EnvError(f"{name} cannot be made with {settings}: {type(error).__name__}: {error}") from error
    if not isinstance(made, MultiAgentEnv):
        raise EnvError(
            f"{name} made a {type(made).__module__}.{type(made).__name__}, expected a MultiAgentEnv. Derive it from "
            "rl_multiagent.MultiAgentEnv."
        )
    return made


def _call(env: object, settings: dict[str, Any], name: str) -> Any:
    """Call a function that makes an env."""
    if not callable(env):
        raise EnvError(f"{name}: got {env!r}, expected a MultiAgentEnv class or a function that makes one.")
    make: Callable[[dict[str, Any]], Any] = env
    return make(settings)
