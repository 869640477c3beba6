"""Find out what is wrong with a vector env of many agents, before training."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.env.check import find_bad_values
from rl_core.errors import EnvError
from rl_core.records import Tree
from rl_core.tree import tree_leaves, tree_map, tree_zip
from rl_multiagent.env.layout import AgentKind, zeros
from rl_multiagent.env.slot import MASK
from rl_multiagent.env.vector import AgentsVectorEnv
from rl_multiagent.records import AgentsStep

_TIME_LIMIT_S = 1.0
_FLAGS = ("acts", "terminated", "truncated", "final_observed")


def check_agents_vector_env(env: AgentsVectorEnv, num_steps: int = 50) -> None:
    """Reset and step a vector env with random actions and compare its records with the contract.

    Args:
        env: Is reset and stepped; not closed.
        num_steps: Steps to take, fewer if they take longer than a second.

    Raises:
        EnvError: A column has a wrong shape or type, an observation is outside its space, a reward is not finite, or
            an agent acts, leaves or ends where it cannot; the message names agent, slot and step.
    """
    drawn = [copy.deepcopy(kind.action_space) for kind in env.layout.kinds]
    for seed, space in enumerate(drawn):
        space.seed(seed)
    started = time.perf_counter()
    step = env.reset(seed=0)
    _check_form(env, step, "reset")
    if not step.first.all() or step.terminated.any() or step.truncated.any():
        raise EnvError("reset: expected `first` in all slots, and nobody whose part ended.")
    present = np.zeros(step.acts.shape, bool)
    left = np.zeros(step.acts.shape, bool)
    _check_step(env, step, "reset")
    present |= step.acts
    for time_ in range(1, num_steps + 1):
        if time.perf_counter() - started > _TIME_LIMIT_S:
            break
        actions = tuple(_draw(env, place, space, step) for place, space in enumerate(drawn))
        step, where = env.step(actions), f"step {time_}"
        _check_form(env, step, where)
        _check_step(env, step, where)
        done = step.terminated | step.truncated
        _refuse(env, done & left, where, "ended, but it had left the episode before")
        first = step.first[:, np.newaxis]
        _refuse(
            env, present & ~done & first, where, "is in an episode that was replaced (`first`) before its part ended"
        )
        left = (left | done) & ~first
        _refuse(env, step.acts & left, where, "is to act, but its part in the episode has ended")
        present = ((present & ~first) | step.acts) & ~left


def _check_form(env: AgentsVectorEnv, step: AgentsStep, where: str) -> None:
    """Check shapes and types."""
    shape = (env.num_envs, env.layout.num_agents)
    for name in _FLAGS:
        column = getattr(step, name)
        if column.shape != shape or column.dtype != bool:
            raise EnvError(f"{where}: {name} is {column.dtype} {column.shape}, expected bool {shape}.")
    if step.reward.shape != shape or step.reward.dtype.kind != "f":
        raise EnvError(f"{where}: reward is {step.reward.dtype} {step.reward.shape}, expected floats {shape}.")
    if step.first.shape != shape[:1] or step.first.dtype != bool:
        raise EnvError(f"{where}: first is {step.first.dtype} {step.first.shape}, expected bool {shape[:1]}.")
    for name, trees in (("obs", step.obs), ("final_obs", step.final_obs)):
        for kind, tree in zip(env.layout.kinds, trees, strict=True):
            expected = zeros(kind.observation_space, (env.num_envs, kind.num_agents))
            for given, leaf in zip(tree_leaves(tree), tree_leaves(expected), strict=True):
                if given.shape != leaf.shape or given.dtype != leaf.dtype:
                    raise EnvError(
                        f"{where}: {name} of the agents from {env.layout.agents[kind.start]!r} on has a leaf "
                        f"{given.dtype} {given.shape}, expected {leaf.dtype} {leaf.shape}."
                    )


def _check_step(env: AgentsVectorEnv, step: AgentsStep, where: str) -> None:
    """Check values."""
    _refuse(env, ~np.isfinite(step.reward), where, "got a reward that is no finite number")
    _refuse(env, step.final_observed & ~(step.terminated | step.truncated), where, "got a last observation too early")
    for name, trees, meant in (("obs", step.obs, step.acts), ("final_obs", step.final_obs, step.final_observed)):
        for kind, tree in zip(env.layout.kinds, trees, strict=True):
            rows = meant[:, kind.start : kind.stop]
            bad = find_bad_values(
                kind.observation_space, tree_map(lambda leaf, rows=rows: leaf[rows][None], tree), name
            )
            if bad:
                raise EnvError(f"{where}: {bad}, among the agents from {env.layout.agents[kind.start]!r} on.")
            if isinstance(tree, dict) and MASK in tree:
                none = np.zeros(meant.shape, bool)
                none[:, kind.start : kind.stop] = rows & ~tree[MASK].any(axis=-1)
                _refuse(env, none, where, f"has an {MASK!r} in {name} that allows no action")


def _refuse(env: AgentsVectorEnv, agents: np.ndarray, where: str, problem: str) -> None:
    """Raise if anything is true of any agent."""
    if agents.any():
        slot, column = np.argwhere(agents)[0].tolist()
        raise EnvError(f"{where}, env slot {slot}: agent {env.layout.agents[column]!r} {problem}.")


def _draw(env: AgentsVectorEnv, place: int, space: spaces.Space[Any], step: AgentsStep) -> Tree:
    """Draw actions `[E, A_k, ...]` of one kind that masks allow."""
    kind: AgentKind = env.layout.kinds[place]
    obs = step.obs[place]
    mask = obs.get(MASK) if isinstance(obs, dict) and isinstance(space, spaces.Discrete) else None
    slots = []
    for slot in range(env.num_envs):
        samples = []
        for agent in range(kind.num_agents):
            legal = None if mask is None or not mask[slot, agent].any() else mask[slot, agent].astype(np.int8)
            samples.append(tree_map(np.asarray, space.sample() if legal is None else space.sample(mask=legal)))
        slots.append(tree_zip(np.stack, samples))
    return tree_zip(np.stack, slots)
