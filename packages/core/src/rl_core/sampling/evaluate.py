"""Whole episodes with a fixed policy."""

from __future__ import annotations

import numpy as np
import torch

from rl_core.connect.chain import ChainState
from rl_core.env.protocol import VectorEnv
from rl_core.errors import EnvError
from rl_core.policy import Policy, restart_state
from rl_core.records import Step
from rl_core.sampling.bad_observations import ObservationGuard
from rl_core.sampling.columns import allocate, rows_of, write
from rl_core.sampling.episodes import EpisodeStats
from rl_core.tree import tree_map

MOST_BROKEN = 100
"""A slot whose env breaks so many episodes in a row would never come to the end of one."""


def evaluate(
    env: VectorEnv,
    policy: Policy,
    *,
    num_episodes: int = 0,
    num_steps: int = 0,
    seed: int,
    explore: bool,
    guard: ObservationGuard | None = None,
) -> EpisodeStats:
    """Play exactly `num_episodes` episodes or `num_steps` env steps, each slot its fixed share of them.

    Taking whichever episodes end first would favour short ones; a share per slot does not.

    Args:
        env: Reset first; B slots play `num_episodes / B` episodes each, rounded down or up.
        policy: Not changed; the statistics of its connectors stay as they are.
        num_episodes: Number of episodes; 0 where steps are counted.
        num_steps: Number of env steps; episodes that end within them are returned.
        seed: Of the env and of the actions.
        explore: Draw actions; otherwise take the distribution's mode, unless the module `always_explores`.
        guard: Lets the last good observation stand in for one that a connector refuses; None raises.

    Raises:
        EnvError: the env of a slot is made anew again and again, and no episode comes to its end.
    """
    num_slots, module, chain = env.num_envs, policy.module, policy.obs_chain
    distribution = module.distribution
    explore = explore or module.always_explores
    share = shares(num_episodes or num_steps, num_slots)
    generator = torch.Generator().manual_seed(seed)
    state = policy.initial_state(num_slots, seed=seed)
    module_state, memory = state.module, state.action_memory

    def connect(raw: Step) -> tuple[ChainState, Step]:
        return chain(connectors, raw)

    connectors = state.connectors
    raw = env.reset(seed)
    connectors, step = guard(connect, raw) if guard else connect(raw)
    row = allocate(step.obs, 1)
    (inputs,) = rows_of(tree_map(torch.from_numpy, row), 1)
    open_return, open_length = np.zeros(num_slots), np.zeros(num_slots, np.int64)
    num_broken = np.zeros(num_slots, np.int64)
    returns: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    with torch.inference_mode():
        while share.any():
            write(row, 0, step.obs)
            dist_inputs, module_state = module.forward_policy(inputs, module_state)
            if explore:
                action = distribution.sample(dist_inputs, distribution.noise((num_slots,), generator))
            else:
                action = distribution.mode(dist_inputs)
            memory, env_action = policy.action_chain(memory, action, step.first)
            raw = env.step(env_action)
            connectors, step = guard(connect, raw) if guard else connect(raw)
            if module_state != () and step.first.any():
                module_state = restart_state(module, module_state, step.first)
            open_return += raw.reward
            open_length += ~raw.artificial
            done = raw.terminated | raw.truncated
            ended = done & (share > 0)
            share -= ended if num_episodes else (share > 0) & ~raw.artificial
            if done.any():
                returns.append(open_return[ended])
                lengths.append(open_length[ended])
                open_return[done] = 0.0
                open_length[done] = num_broken[done] = 0
            if raw.broken is not None:
                open_return[raw.broken] = 0.0
                open_length[raw.broken] = 0
                num_broken += raw.broken
                if num_broken.max() == MOST_BROKEN:
                    raise EnvError(broken_again_and_again(int(num_broken.argmax())))
    return EpisodeStats(
        returns=np.concatenate([np.zeros(0), *returns]),
        lengths=np.concatenate([np.zeros(0, np.int64), *lengths]),
        num_steps=num_steps,
    )


def shares(total: int, num_slots: int) -> np.ndarray:
    """Split a number of episodes or steps evenly over slots, `[B]`."""
    return total // num_slots + (np.arange(num_slots) < total % num_slots)


def broken_again_and_again(slot: int) -> str:
    """Say that no episode comes to its end."""
    return (
        f"evaluate: the env of slot {slot} failed in {MOST_BROKEN} episodes in a row. With "
        "restart_failed_sub_environments=False the failure itself is raised."
    )
