"""DQN for each of two agents on CartPole.

Shows: a replay buffer and a learner for each policy. Settings are those of `cartpole_dqn.py`.
Criterion: evaluation return of 900 (of 1,000), the sum of two agents, within 500,000 env steps.
Command: python examples/tuned/multi_agent_cartpole_dqn.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 993.1, 1000.0, 1000.0 after 20,000, 35,000, 15,000 steps (30 to 98 s on two busy cores).
"""

from rl_core import DQNConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=900, stop_timesteps=500_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        DQNConfig()
        .environment(args.env)
        .training(train_batch_size_per_learner=128, env_steps_per_gradient_step=2, n_step=3)
        .training(lr=[[0, 2e-3], [40_000, 1e-4]], epsilon=[[0, 1], [8_000, 0.02]])
        .training(tau=0.01, target_network_update_freq=0)
        .rl_module(model_config={"fcnet_hiddens": [128, 128]})
    )
    run_example(independent_agents(config, args.num_agents), args)
