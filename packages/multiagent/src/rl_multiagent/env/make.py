"""Make vector envs with many agents from what a user may name them by."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from rl_core import AlgorithmConfig
from rl_core.algorithm.components import Purpose
from rl_core.env.make import env_name
from rl_core.errors import ConfigError, EnvError, RLError
from rl_multiagent.env.agent_env import MultiAgentEnv
from rl_multiagent.env.check import check_multi_agent_env
from rl_multiagent.env.check_vector import check_agents_vector_env
from rl_multiagent.env.clone import ClonedAgents
from rl_multiagent.env.pettingzoo import as_multi_agent_env
from rl_multiagent.env.restart import RestartingAgents
from rl_multiagent.env.vector import AgentsVectorEnv, SyncAgentsEnv
from rl_multiagent.env.workers import AsyncAgentsEnv


def make_agents_env(config: AlgorithmConfig, purpose: Purpose) -> AgentsVectorEnv:
    """Build the vector env of a runner, and check it for sampling.

    `gym_env_vectorize_mode` says how: `"sync"` steps the envs one after the other, `"async"` and
    `"async_shared_memory"`, which are the same here, in a process each, `"vector_entry_point"` as arrays.

    Raises:
        ConfigError: there is no env in the config.
        EnvError: it cannot be made, or does not keep to its contract.
    """
    environment, runners = config.environment.settings, config.env_runners.settings
    if environment.env is None:
        raise ConfigError("environment.env: got None, expected an env. Call config.environment(MyMultiAgentEnv).")
    mode, checked = runners.gym_env_vectorize_mode, purpose == "sampling" and not environment.disable_env_checking
    num_envs, env_config = runners.num_envs_per_env_runner, environment.env_config
    if purpose == "evaluation":
        evaluation = config.evaluation.settings
        env_config = env_config | evaluation.evaluation_env_config
        num_envs = evaluation.num_slots(num_envs)
    restart_failed = config.fault_tolerance.settings.restart_failed_sub_environments
    if mode == "vector_entry_point":
        if restart_failed:
            raise EnvError(
                f"{env_name(environment.env)}: with gym_env_vectorize_mode='vector_entry_point' all slots are one env, "
                "and none can be made anew alone. Use 'sync' or 'async', or set restart_failed_sub_environments=False."
            )
        vector_env = make_agents_vector_env(environment.env, num_envs, env_config)
        if checked:
            try:
                check_agents_vector_env(vector_env)
            except BaseException:
                vector_env.close()
                raise
        return vector_env
    make: Callable[[], MultiAgentEnv] = functools.partial(make_multi_agent_env, environment.env, env_config)
    if restart_failed:
        make = functools.partial(RestartingAgents, make)
    if checked:
        single = make()
        try:
            for note in check_multi_agent_env(single):
                warnings.warn(note, stacklevel=2)
        finally:
            single.close()
    kind = SyncAgentsEnv if mode == "sync" else AsyncAgentsEnv
    return kind(make, num_envs, name=env_name(environment.env))


def make_multi_agent_env(env: Any, env_config: Mapping[str, Any] | None = None) -> MultiAgentEnv:
    """Make one env.

    Args:
        env: A class derived from `MultiAgentEnv`, made with `cls(**env_config)`; or a function that gets the dict
            `env_config` and returns a `MultiAgentEnv`, or an env of PettingZoo, parallel or turn by turn.
        env_config: Settings of the env.

    Raises:
        EnvError: it cannot be made, or is none.
    """
    name = env_name(env)
    made = _call(env, dict(env_config or {}), name)
    if isinstance(made, MultiAgentEnv):
        return made
    wrapped = as_multi_agent_env(made)
    if wrapped is None:
        raise EnvError(
            f"{name} made a {type(made).__module__}.{type(made).__name__}, expected a MultiAgentEnv or an env of "
            "PettingZoo. Derive it from rl_multiagent.MultiAgentEnv; clone_agents lets many agents play an env for one."
        )
    return wrapped


def make_agents_vector_env(env: Any, num_envs: int, env_config: Mapping[str, Any] | None = None) -> AgentsVectorEnv:
    """Make an env that steps all slots as arrays.

    Args:
        env: What `clone_agents` returned; a class, made with `cls(num_envs=num_envs, **env_config)`; or a function of
            `env_config` with the key `num_envs` added.
        num_envs: E.
        env_config: Settings of the env.

    Raises:
        EnvError: it cannot be made, or is none.
    """
    if isinstance(env, ClonedAgents):
        return env.make_vector(num_envs, dict(env_config or {}))
    name = env_name(env)
    made = _call(env, {**(env_config or {}), "num_envs": num_envs}, name)
    if not isinstance(made, AgentsVectorEnv):
        raise EnvError(
            f"{name} made a {type(made).__module__}.{type(made).__name__}, expected an AgentsVectorEnv. With "
            "gym_env_vectorize_mode='vector_entry_point' give clone_agents(...), or a class or function of num_envs "
            "that makes one; else use 'sync', or 'async' for slow envs."
        )
    if made.num_envs != num_envs:
        raise EnvError(f"{name} made {made.num_envs} env slots, expected num_envs = {num_envs}.")
    return made


def _call(env: object, settings: dict[str, Any], name: str) -> Any:
    """Call a class or function that makes an env."""
    if not callable(env):
        raise EnvError(f"{name}: got {env!r}, expected a MultiAgentEnv class or a function that makes one.")
    make: Callable[..., Any] = env
    try:
        return make(**settings) if isinstance(env, type) else make(settings)
    except RLError:
        raise
    except Exception as error:
        raise EnvError(f"{name} cannot be made with {settings}: {type(error).__name__}: {error}") from error
