"""An env of PettingZoo in which one policy plays all agents.

Shows: `MultiAgent()` without arguments. In simple_spread of MPE three agents are to cover three landmarks and not
to run into each other; what one of them learns serves all. Needs pip install "rl-multiagent[mpe]".
Criterion: within 100,000 env steps an evaluation return (sum over agents, 200 episodes) that is above that of random
actions by 5 standard errors, and at least -64: RLlib 2.60 with much the same networks, batches and settings of PPO
reached -64.06 +- 1.08 after 100,000 steps on seed 0; its command:
python benchmarks/peers/rllib_mpe.py simple_spread_v3 --policies shared
Command: python examples/multi_agent/pettingzoo_parameter_sharing.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -62.1, -59.3, -62.0 after 20,000, 40,000, 40,000 steps, 9 to 11 standard errors above random
actions, -80.7 (23 to 105 s on two busy cores).
"""

from collections.abc import Mapping
from typing import Any

from mpe2 import simple_spread_v3
from pettingzoo import ParallelEnv

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, PolicySpec
from rl_multiagent.selfplay import UniformRandom


def make_env(_: dict[str, Any]) -> ParallelEnv:
    """Make the env; episodes are cut after 25 steps."""
    return simple_spread_v3.parallel_env(max_cycles=25)


parser = example_parser(__doc__, stop_reward=-64, stop_timesteps=100_000)
parser.set_defaults(evaluation_duration=200)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(make_env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=2000, minibatch_size=250, num_epochs=10, gamma=0.95, lambda_=0.95)
        .training(lr=[[0, 2e-3], [100_000, 2e-4]], entropy_coeff=[[0, 0.01], [100_000, 0.0]])
        .rl_module(model_config={"fcnet_hiddens": [64, 64]})
        .use(MultiAgent())
    )
    rules = MultiAgent(policies={"random": PolicySpec(module_class=UniformRandom)})
    random = PPOConfig().environment(make_env).use(rules).build().evaluate(num_episodes=args.evaluation_duration)

    def above_random(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Compare with random actions, in standard errors."""
        error = (result["evaluation/episode_return_std"] ** 2 + random["evaluation/episode_return_std"] ** 2) ** 0.5
        error /= args.evaluation_duration**0.5
        above = (result["evaluation/episode_return_mean"] - random["evaluation/episode_return_mean"]) / error
        return above >= 5, f"{above:.1f} standard errors above random ({random['evaluation/episode_return_mean']:.1f})"

    run_example(config, args, criterion=above_random, evaluate_every=20_000)
