"""Play against a policy in the terminal: the game's own text, legal moves listed, others refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rl_core import Policy
from rl_core.errors import ConfigError
from rl_core.policy import PolicyState
from rl_multiagent.env.agent_env import EVERYONE
from rl_multiagent.env.open_spiel import OpenSpielEnv, open_spiel

QUIT = ("q", "quit")
"""What gives the game up."""


class GaveUpError(Exception):
    """The person wants to play no more."""


def play(
    env: OpenSpielEnv,
    policies: Mapping[str, Policy],
    *,
    person: str,
    seed: int | None = None,
    explore: bool = False,
    read: Callable[[str], str] = input,
    write: Callable[[str], object] = print,
) -> dict[str, float] | None:
    """Play one game.

    Of games with hidden information the person sees what its player may see, until the game is over.

    Args:
        env: Of the game.
        policies: Of all agents but the person's.
        person: The agent that the person plays.
        seed: Of the game's chance.
        explore: Let policies draw their actions; otherwise they take their modes.
        read: Asks for a line; EOFError gives the game up.
        write: Shows a line.

    Returns:
        The returns by agent; None if the person gave up.

    Raises:
        ConfigError: `person` is no agent, or another has no policy.
    """
    if person not in env.possible_agents:
        raise ConfigError(f"play: there is no player {person!r}; {env.game} has {', '.join(env.possible_agents)}.")
    missing = [agent for agent in env.possible_agents if agent != person and agent not in policies]
    if missing:
        raise ConfigError(f"play: {missing[0]!r} has no policy. Give one to each player but {person!r}.")
    returns = dict.fromkeys(env.possible_agents, 0.0)
    before = dict(returns)  # at an agent's last action
    states: dict[str, PolicyState] = {}
    obs, _ = env.reset(seed=seed)
    over = False
    while not over:
        actions: dict[str, Any] = {}
        for agent in obs.keys() - {person}:
            reward, before[agent] = returns[agent] - before[agent], returns[agent]
            actions[agent], states[agent] = policies[agent].act(
                obs[agent], states.get(agent), reward=reward, explore=explore
            )
        if person in obs:
            try:
                actions[person] = _ask(env, person, read, write)
            except (GaveUpError, EOFError):
                write(f"{person} gives up.")
                return None
        if not _has_secrets(env):
            for agent in sorted(actions.keys() - {person}):
                move = env.state.action_to_string(env.possible_agents.index(agent), actions[agent])
                write(f"{agent} plays {move}")
        obs, rewards, terminateds, _, _ = env.step(actions)
        returns = {agent: total + rewards[agent] for agent, total in returns.items()}
        over = terminateds[EVERYONE]
    write(f"\n{env.state}\n")
    write("The game is over: " + ", ".join(f"{agent} got {total:g}" for agent, total in returns.items()) + ".")
    return returns


def _ask(env: OpenSpielEnv, person: str, read: Callable[[str], str], write: Callable[[str], object]) -> int:
    """Show the game to the person and ask until it names a legal move.

    Raises:
        GaveUpError: it would rather not.
    """
    player = env.possible_agents.index(person)
    moves: dict[int, str] = {
        action: env.state.action_to_string(player, action) for action in env.state.legal_actions(player)
    }
    listed = "  ".join(f"{action}: {text}" for action, text in moves.items())
    write(f"\n{_view(env, player)}\nLegal moves: {listed}")
    while True:
        answer = read(f"{person}, your move (q gives up): ").strip()
        if answer.lower() in QUIT:
            raise GaveUpError
        for action, text in moves.items():
            if answer in (str(action), text):
                return action
        write(f"{answer!r} is not a legal move. Legal moves: {listed}")


def _view(env: OpenSpielEnv, player: int) -> str:
    """Write down what a player may know."""
    if not _has_secrets(env):
        return str(env.state)
    if env.game.get_type().provides_observation_string:
        return str(env.state.observation_string(player))
    return str(env.state.information_state_string(player))


def _has_secrets(env: OpenSpielEnv) -> bool:
    """Whether players know different things."""
    kinds = open_spiel("pyspiel").GameType.Information
    return bool(env.game.get_type().information == kinds.IMPERFECT_INFORMATION)
