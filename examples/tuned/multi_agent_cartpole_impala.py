"""IMPALA for each of two agents on CartPole: two processes sample while this one learns.

Shows: asynchronous sampling with several policies, each with a learner of its own. Settings are those of
`cartpole_impala.py`.
Criterion: evaluation return of 700 (of 1,000), the sum of two agents, within 2,000,000 env steps.
Command: python examples/tuned/multi_agent_cartpole_impala.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 777.7, 733.5, 715.8 after 61,440, 40,960, 56,320 steps (32 to 44 s on two busy cores).
"""

from rl_core import IMPALAConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=700, stop_timesteps=2_000_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2, num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        IMPALAConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=256, minibatch_size=256, gamma=0.98, lambda_=0.95, lr=1e-3)
    )
    run_example(independent_agents(config, args.num_agents), args)
