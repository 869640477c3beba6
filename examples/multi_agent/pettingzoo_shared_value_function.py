"""Policies apart, judged by one critic that sees what all agents see: MAPPO.

Shows: `MAPPOConfig` in place of `PPOConfig`. Each agent acts on its own observation, in training and afterwards; what
the others see goes to the critic alone. With `--as-test` agents first learn on their own for as many steps (PPO, a
policy and value function each, the method of pettingzoo_independent_learning.py). `--env` is spread, MPE's, or pursuit,
SISL's, in a small form: its envs take a millisecond a step. Needs pip install "rl-multiagent[mpe]".
Criterion: after as many env steps (240,000; with pursuit 120,000) an evaluation return (sum over agents, 100 episodes)
above that of agents that learned on their own.
Command: python examples/multi_agent/pettingzoo_shared_value_function.py --as-test --seed 0
Reached: spread on seeds 0, 1, 2: -40.0, -38.4, -43.7; on their own -56.6, -44.9, -55.5 (3 to 10 min for each, the
machine shared). `--env pursuit --stop-timesteps 120000` on seeds 0, 1, 2, 3: 2.8, 2.6, 1.1, -3.4; on their own -8.3,
-2.8, -7.6, -11.9 (3 to 4 min for each); at random -39. The settings of pursuit were chosen on seeds 0 to 2. The lead
is one of speed: after 240,000 steps both are at 13 (seed 1). Where agents see 7 by 7 cells there was none.
"""

import argparse
from collections.abc import Callable
from typing import Any

from mpe2 import simple_spread_v3
from pettingzoo import ParallelEnv
from pettingzoo.sisl import pursuit_v5

from rl_core import AlgorithmConfig, PPOConfig
from rl_core.example import Verdict, example_parser, finish_example, one_run, train_example
from rl_multiagent import MAPPOConfig, MultiAgent


def spread(_: dict[str, Any]) -> ParallelEnv:
    """Three agents shall cover three landmarks and not collide."""
    return simple_spread_v3.parallel_env(max_cycles=25)


def pursuit(_: dict[str, Any]) -> ParallelEnv:
    """Four pursuers who see the cells around them shall catch six evaders, two at a time, on a grid of 10 by 10."""
    return pursuit_v5.parallel_env(
        n_pursuers=4, n_evaders=6, x_size=10, y_size=10, obs_range=3, surround=False, max_cycles=100
    )


ENVS: dict[str, tuple[Callable[[dict[str, Any]], ParallelEnv], list[str], float]] = {
    "spread": (spread, [f"agent_{place}" for place in range(3)], 5e-4),
    "pursuit": (pursuit, [f"pursuer_{place}" for place in range(4)], 1e-4),
}
"""By name: how to make the env, its agents, and the learning rate of the critic, which learns from the steps of all."""


def config_of(base: AlgorithmConfig, args: argparse.Namespace) -> AlgorithmConfig:
    """Complete a config of PPO or MAPPO: they differ in nothing but the critic."""
    env, agents, _ = ENVS[args.env]
    return (
        base.environment(env)
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=4000, minibatch_size=500, num_epochs=10, lr=5e-4, gamma=0.95)
        .training(lambda_=0.95, entropy_coeff=0.01)
        .use(MultiAgent(policies=tuple(agents)))
    )


parser = example_parser(__doc__, env="spread", stop_timesteps=240_000)
parser.set_defaults(evaluation_duration=100)

if __name__ == "__main__":
    args = parser.parse_args()
    if args.env not in ENVS:
        parser.error(f"--env: got {args.env!r}, expected one of {', '.join(ENVS)}")
    checks: list[Verdict] = []
    if args.as_test:
        apart = train_example(config_of(PPOConfig(), args), one_run(args, "apart"), evaluate_every=80_000)
        apart.algorithm.stop()
    mappo = MAPPOConfig().training(critic_lr=ENVS[args.env][2])
    together = train_example(config_of(mappo, args), one_run(args, "together"), evaluate_every=80_000)
    if args.as_test:
        figures = f"{together.evaluation_return:.1f} with one critic, {apart.evaluation_return:.1f} each on their own"
        checks.append((together.evaluation_return > apart.evaluation_return, figures))
    finish_example(together, args, *checks)
