"""Two policies that learn to beat each other at rock, paper, scissors.

Shows: a learner for each side of a game, and how far such a pair is from an equilibrium: what a best response to each
gets, by dynamic programming, since a policy's move depends on the opponent's last one alone. Policies that only chase
each other are easily exploited; a large entropy coefficient keeps them near the equilibrium, which is to draw moves.
Needs pip install "pettingzoo[classic]".
Criterion: PettingZoo's rps_v2 with its 15 moves. After 100,000 env steps, over 200 evaluation games both returns are
between -1.5 and 1.5, and a best response to either gets 1.5 of 15 at most. Control: `--entropy-coeff 0` fails.
Command: python examples/multi_agent/rock_paper_scissors_learned_vs_learned.py --as-test --seed 0
Reached: on seeds 0, 1, 2: returns within 0.10 of 0; best responses get 0.48, 0.47, 0.50 at most (29 to 32 s).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pettingzoo.classic.rps.rps import parallel_env

from rl_core import Algorithm, Policy, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent
from rl_multiagent.selfplay import action_probabilities

NUM_MOVES, NO_MOVE_YET = 15, 3
PLAYERS = ("player_0", "player_1")
SCORES = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
"""`[own move, other's move]`: rock, paper, scissors."""


def make_env(config: Mapping[str, Any]) -> Any:
    """Make the game; both players move at the same time and see the other's last move."""
    return parallel_env(max_cycles=NUM_MOVES, **config)


def best_response(policy: Policy) -> float:
    """Work out the most that anyone can get in a game against a policy, on average."""
    likely = action_probabilities(policy, [np.int64(seen) for seen in range(NO_MOVE_YET + 1)])  # [own last move, move]
    gains = likely @ SCORES.T  # [own last move, own move]
    to_come = np.zeros(NO_MOVE_YET)  # after each own move, of the moves that are left
    for _ in range(NUM_MOVES - 1):
        to_come = (gains[:NO_MOVE_YET] + to_come).max(1)
    return float((gains[NO_MOVE_YET] + to_come).max())


parser = example_parser(__doc__, stop_timesteps=100_000)
parser.set_defaults(evaluation_duration=200)
parser.add_argument("--entropy-coeff", type=float, default=0.3, metavar="C", help="default: 0.3")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(make_env)
        .env_runners(num_envs_per_env_runner=32)
        .training(train_batch_size_per_learner=1920, minibatch_size=480, gamma=0.9, lambda_=0.9)
        .training(lr=((0, 1e-3), (100_000, 1e-4)), entropy_coeff=args.entropy_coeff)
        .use(MultiAgent(policies=PLAYERS))
    )

    def near_equilibrium(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge the returns, and what a best response to each policy would get."""
        returns = [result[f"evaluation/agent_episode_return_mean/{player}"] for player in PLAYERS]
        exploited = [best_response(algorithm.env_runner.policies[player]) for player in PLAYERS]
        passed = max(map(abs, returns)) <= 1.5 and max(exploited) <= 1.5
        return passed, (
            f"returns {returns[0]:.2f} and {returns[1]:.2f}, best responses to them get {exploited[0]:.2f} and "
            f"{exploited[1]:.2f}, at most 1.5 each"
        )

    run_example(config, args, criterion=near_equilibrium, evaluate_every=10_000_000)  # at the end: both begin at random
