"""`python -m rl_multiagent.selfplay GAME`: play a game of OpenSpiel against a policy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gymnasium.spaces import Dict

from rl_core import Policy
from rl_core.env.spaces import same_space
from rl_core.errors import CheckpointError, RLError
from rl_multiagent.env.open_spiel import OpenSpielEnv
from rl_multiagent.selfplay.play import play
from rl_multiagent.selfplay.uniform_random import random_policy


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and play; exit with status 2 where there is nothing to play with."""
    parser = argparse.ArgumentParser(prog="python -m rl_multiagent.selfplay", description=__doc__)
    parser.add_argument("game", help="such as connect_four, or 'leduc_poker(players=3)'")
    parser.add_argument("--checkpoint", help="that the opponents' policy is read from; without one they play at random")
    parser.add_argument("--policy", default="default", help="id of the policy in the checkpoint")
    parser.add_argument("--allow", action="append", default=[], help="package the checkpoint may import classes from")
    parser.add_argument(
        "--observation", default="auto", choices=("auto", "information_state", "observation"), help="as in training"
    )
    parser.add_argument("--side", type=int, default=0, help="number of the player that you are")
    parser.add_argument("--seed", type=int, help="of the game's chance")
    parser.add_argument("--explore", action="store_true", help="opponents draw their moves instead of the likeliest")
    args = parser.parse_args(arguments)
    try:
        env, policy = _load(args)
        person = f"player_{args.side}"
        opponents = dict.fromkeys((agent for agent in env.possible_agents if agent != person), policy)
        play(env, opponents, person=person, seed=args.seed, explore=args.explore)
    except RLError as error:
        parser.exit(2, f"{error}\n")


def _load(args: argparse.Namespace) -> tuple[OpenSpielEnv, Policy]:
    """Make the game as the policy knows it.

    Raises:
        CheckpointError: there is no such policy, or it was trained on another game.
    """
    if not args.checkpoint:
        env = OpenSpielEnv(args.game, observation=args.observation)
        return env, random_policy(env, env.possible_agents[0])
    policy = Policy.from_checkpoint(args.checkpoint, args.policy, allow=args.allow)
    seen = policy.observation_space
    has_mask = isinstance(seen, Dict)
    tensor = seen["observations"] if isinstance(seen, Dict) else seen
    env = OpenSpielEnv(
        args.game, observation=args.observation, flatten=len(tensor.shape or ()) == 1, action_mask=has_mask
    )
    agent = env.possible_agents[0]
    difference = same_space(env.observation_spaces[agent], seen) or same_space(
        env.action_spaces[agent], policy.action_space
    )
    if difference:
        raise CheckpointError(
            f"The policy {args.policy!r} was not trained on {args.game} with observation={args.observation!r}: "
            f"{difference}"
        )
    return env, policy


if __name__ == "__main__":
    main()
