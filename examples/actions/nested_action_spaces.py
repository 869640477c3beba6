"""Observations and actions that are trees: Dict, Tuple, Discrete, MultiDiscrete and Box in each other.

Shows: that nothing needs to be done. Observations become one vector, choices out of n one-hot; actions are drawn from a
tree of independent distributions; the env gets what its action space says. In RepeatAfterMe of rl_envs the action
should be the observation:
    Dict(parts: Tuple(Discrete(4), Dict(mode: MultiDiscrete([2, 3]))), position: Box(-1, 1, (2,)))
Criterion: evaluation return of -100 over episodes of 100 steps within 200,000 env steps. (0 is best; a random policy
reaches -325, so that a bound of -500 would say nothing.) With --num-agents 2 --stop-reward -200 as much of each of two.
Command: python examples/actions/nested_action_spaces.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -83.5, -90.5, -86.3 after 12,288 steps (2 s). Two agents: -171.9, -174.5, -175.7 as soon.
"""

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__, env="rl_envs:rl_envs/RepeatAfterMe-v0", stop_reward=-100, stop_timesteps=200_000, honours=["--num-agents"]
)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=2048, minibatch_size=128, lr=1e-3, gamma=0.0)
    )
    run_example(independent_agents(config, args.num_agents), args)
