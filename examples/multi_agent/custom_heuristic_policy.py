"""A policy that plays by rules beside one that learns.

Shows: `PolicySpec(module_class=...)` gives a policy a module of its own; one without parameters has no learner. Here it
draws its actions at random.
Criterion: the learned agent's evaluation return of 450 within 200,000 env steps.
Command: python examples/multi_agent/custom_heuristic_policy.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0 each after 15,360, 10,240, 15,360 steps (9 to 13 s).
"""

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, PolicySpec, clone_agents
from rl_multiagent.selfplay import UniformRandom

parser = example_parser(__doc__, env="CartPole-v1", stop_timesteps=200_000)
parser.add_argument("--stop-reward-learned", type=float, default=450.0, metavar="R", help="default: 450")

if __name__ == "__main__":
    args = parser.parse_args()
    policies = {"learned": PolicySpec(), "random": PolicySpec(module_class=UniformRandom)}
    config = (
        PPOConfig()
        .environment(clone_agents(args.env, 2))
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9, lr=1e-3)
        .use(MultiAgent(policies=policies, policy_mapping_fn={"0": "learned", "1": "random"}))
    )

    def learned(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge the learned agent alone."""
        value = result["evaluation/policy_episode_return_mean/learned"]
        return value >= args.stop_reward_learned, f"learned agent {value:.1f}, goal {args.stop_reward_learned:g}"

    run_example(config, args, criterion=learned)
