"""Games between policies, played to the end: each policy as it acts alone, outside of any run."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from rl_core import Policy
from rl_core.env.spaces import same_space
from rl_core.errors import ConfigError
from rl_core.policy import PolicyState
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.selfplay.ratings import WinTable


def play_games(
    env: MultiAgentEnv,
    policies: Mapping[AgentID, Policy],
    *,
    num_games: int,
    seed: int,
    explore: bool | Collection[AgentID] = True,
) -> np.ndarray:
    """Play games one after the other.

    Args:
        env: Reset with `seed` for the first game.
        policies: Of each possible agent; one may play several.
        num_games: G.
        seed: Of the env's chance; a policy draws from its own random numbers.
        explore: Draw actions, or take the mode; or the agents that draw.

    Returns:
        `[G, A]`: what each of `possible_agents` got.

    Raises:
        ConfigError: an agent has no policy, or one that was made for other spaces.
        EnvError: a policy acts as it must not.
    """
    _check_policies(env, policies)
    drawing = (env.possible_agents if explore else ()) if isinstance(explore, bool) else explore
    columns = {agent: column for column, agent in enumerate(env.possible_agents)}
    returns = np.zeros((num_games, len(columns)))
    for game in range(num_games):
        for agent, value in _play_game(env, policies, seed if game == 0 else None, drawing).items():
            returns[game, columns[agent]] = value
    return returns


def _check_policies(env: MultiAgentEnv, policies: Mapping[AgentID, Policy]) -> None:
    """Refuse policies that cannot play."""
    for agent in env.possible_agents:
        if agent not in policies:
            raise ConfigError(f"play_games: agent {agent!r} has no policy. Give one to each of possible_agents.")
        policy = policies[agent]
        for what, space, expected in (
            ("observations", policy.observation_space, env.observation_spaces[agent]),
            ("actions", policy.action_space, env.action_spaces[agent]),
        ):
            difference = same_space(expected, space)
            if difference:
                raise ConfigError(
                    f"play_games: the policy of agent {agent!r} was made for other {what}: {difference}. Make the env "
                    "as it was for training."
                )


def _play_game(
    env: MultiAgentEnv, policies: Mapping[AgentID, Policy], seed: int | None, drawing: Collection[AgentID]
) -> dict[AgentID, float]:
    """Play one game and return what every agent got."""
    returns = dict.fromkeys(env.possible_agents, 0.0)
    before = dict(returns)  # at an agent's last action
    states: dict[AgentID, PolicyState] = {}
    obs, _ = env.reset(seed=seed)
    present = set(obs)
    while present:
        actions: dict[AgentID, Any] = {}
        for agent, seen in obs.items():
            actions[agent], states[agent] = policies[agent].act(
                seen, states.get(agent), reward=returns[agent] - before[agent], explore=agent in drawing
            )
            before[agent] = returns[agent]
        obs, rewards, terminateds, truncateds, _ = env.step(actions)
        for agent, reward in rewards.items():
            returns[agent] += reward
        left = {agent for flags in (terminateds, truncateds) for agent, flag in flags.items() if flag}
        present = set() if EVERYONE in left else (present | obs.keys()) - left
        obs = {agent: seen for agent, seen in obs.items() if agent in present}  # who leaves does not act
    return returns


def play_match(
    env: MultiAgentEnv,
    first: Policy,
    second: Policy,
    *,
    num_games: int,
    seed: int,
    explore: bool | tuple[bool, bool] = True,
) -> np.ndarray:
    """Play a match of two, who have each side equally often.

    Args:
        env: With two agents.
        first: One side.
        second: The other.
        num_games: G.
        seed: Of the env's chance.
        explore: Draw actions, or take the mode; for both, or for each.

    Returns:
        `[G]`: scores of the first: 1 where it got more than the other, 0.5 where as much, else 0.

    Raises:
        ConfigError: the env has not two agents, or a policy is for other spaces.
        EnvError: a policy acts as it must not.
    """
    if len(env.possible_agents) != 2:
        raise ConfigError(f"play_match: the env has {len(env.possible_agents)} agents, expected two.")
    draws = (explore, explore) if isinstance(explore, bool) else explore
    scores = np.zeros(num_games)
    for side in (0, 1):
        agents = env.possible_agents[side], env.possible_agents[1 - side]
        drawing = [agent for agent, draw in zip(agents, draws, strict=True) if draw]
        players = dict(zip(agents, (first, second), strict=True))
        returns = play_games(env, players, num_games=len(scores[side::2]), seed=seed + side, explore=drawing)
        scores[side::2] = (1.0 + np.sign(returns[:, side] - returns[:, 1 - side])) / 2.0
    return scores


def round_robin(
    env: MultiAgentEnv,
    policies: Mapping[str, Policy],
    *,
    num_games: int,
    seed: int,
    explore: bool | Collection[str] = True,
) -> WinTable:
    """Let every policy play a match against every other, and return the table of all scores.

    Args:
        env: With two agents.
        policies: By name.
        num_games: Of each match.
        seed: Of the env's chance.
        explore: Draw actions, or take the mode; or the names of those that draw.
    """
    drawing = (policies if explore else ()) if isinstance(explore, bool) else explore
    table = WinTable()
    for (name, first), (other, second) in itertools.combinations(policies.items(), 2):
        draws = (name in drawing, other in drawing)
        for score in play_match(env, first, second, num_games=num_games, seed=seed, explore=draws):
            table.record(name, other, float(score))
    return table
