"""APPO for each of two agents on CartPole: two processes sample while this one learns.

Shows: asynchronous sampling with several policies, each with a learner of its own. Settings are those of
`cartpole_appo.py`.
Criterion: evaluation return of 700 (of 1,000), the sum of two agents, within 2,500,000 env steps.
Command: python examples/tuned/multi_agent_cartpole_appo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 967.5, 979.2, 924.4 after 30,720, 122,880, 107,520 steps (37 to 71 s on two busy cores).
"""

from rl_core import APPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=700, stop_timesteps=2_500_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2, num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        APPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=256, minibatch_size=256, gamma=0.98, lambda_=0.95)
        .training(lr=[[0, 2e-3], [300_000, 1e-4]])
    )
    run_example(independent_agents(config, args.num_agents), args)
