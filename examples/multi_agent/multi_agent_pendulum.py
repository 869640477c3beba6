"""Several agents with continuous actions.

Shows: the same as multi_agent_cartpole.py, with torques instead of choices.
Criterion: evaluation return of -400, the sum of two agents, within 500,000 env steps.
Command: python examples/multi_agent/multi_agent_pendulum.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -388.4, -361.7, -392.5 after 87,040, 81,920, 122,880 steps (155 to 164 s).
"""

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import MultiAgent, clone_agents

parser = example_parser(__doc__, env="Pendulum-v1", stop_reward=-400, stop_timesteps=500_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(clone_agents(args.env, args.num_agents))
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=64, lr=1e-3, gamma=0.9, lambda_=0.95)
        .use(MultiAgent(policies=tuple(map(str, range(args.num_agents)))))
    )
    run_example(config, args)
