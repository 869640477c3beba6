"""DQN that learns tic-tac-toe against an opponent that plays any legal move.

Shows: `MaskedQNetwork`, so that neither the greedy nor a random action is illegal, in a game of turns, in which the
next observation of a transition is the agent's own next one. The policy that learns begins every second game. Needs
pip install "rl-multiagent[openspiel]".
Criterion: within 1,000,000 env steps (moves) an evaluation return of 0.8 over 200 games, each worth 1, 0 or -1, half of
them as either side; two random players get 0, and 200 games have a standard error of at most 0.05.
Command: python examples/tuned/tictactoe_dqn.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 0.81, 0.86, 0.83 after 35,840, 40,960, 40,960 steps (11 to 16 s on two busy cores).
"""

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, DQNConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_core.module import MaskedQNetwork
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import AgainstPool, UniformRandom

AGENTS = ("player_0", "player_1")

parser = example_parser(__doc__, stop_timesteps=1_000_000)
parser.set_defaults(evaluation_duration=200)
parser.add_argument("--stop-reward-learned", type=float, default=0.8, metavar="R", help="default: 0.8")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        DQNConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=128, env_steps_per_gradient_step=8, lr=1e-3, gamma=1.0)
        .training(epsilon=[[0, 1], [20_000, 0.02]], tau=0.02, target_network_update_freq=0)
        .rl_module(module_class=MaskedQNetwork, model_config={"fcnet_hiddens": [128, 128]})
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

    run_example(config, args, criterion=beats_random)
