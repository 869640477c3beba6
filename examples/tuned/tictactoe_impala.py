"""IMPALA that learns tic-tac-toe against an opponent that plays any legal move: two processes sample, this one learns.

Shows: asynchronous sampling of a game of turns, with `MaskedActorCritic`, so that no action is illegal. The policy that
learns begins every second game. Needs pip install "rl-multiagent[openspiel]".
Criterion: within 2,000,000 env steps (moves) an evaluation return of 0.8 over 200 games, each worth 1, 0 or -1, half of
them as either side; two random players get 0, and 200 games have a standard error of at most 0.05.
Command: python examples/tuned/tictactoe_impala.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 0.81 each after 389,120, 634,880, 532,480 steps (93 to 127 s on two busy cores).
"""

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, IMPALAConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import AgainstPool, UniformRandom

AGENTS = ("player_0", "player_1")

parser = example_parser(__doc__, stop_timesteps=2_000_000)
parser.set_defaults(evaluation_duration=200, num_env_runners=2)
parser.add_argument("--stop-reward-learned", type=float, default=0.8, metavar="R", help="default: 0.8")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        IMPALAConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=32)
        .training(train_batch_size_per_learner=1024, minibatch_size=1024, gamma=1.0, lambda_=0.95)
        .training(lr=[[0, 3e-3], [600_000, 3e-4]], entropy_coeff=[[0, 0.03], [300_000, 0.005]])
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": [128, 128]})
        .use(
            MultiAgent(
                policies={"learned": PolicySpec(), "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=AgainstPool(AGENTS, "learned", ("random",), (1.0,)),
            )
        )
    )

    def beats_random(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge the policy that learns."""
        value = result["evaluation/policy_episode_return_mean/learned"]
        return value >= args.stop_reward_learned, f"return {value:.2f}, goal {args.stop_reward_learned:g}"

    run_example(config, args, criterion=beats_random, evaluate_every=20_000)
