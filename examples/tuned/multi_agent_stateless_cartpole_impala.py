"""IMPALA with an LSTM for each of two agents, on CartPole without velocities: two processes sample, this one learns.

Shows: memories of several policies in rollouts of other processes. Settings are those of
`stateless_cartpole_impala.py`.
Criterion: evaluation return of 300 (of 1,000), the sum of two agents, within 5,000,000 env steps.
Command: python examples/tuned/multi_agent_stateless_cartpole_impala.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 317.6, 306.9, 330.3 after 153,600, 148,480, 163,840 steps (113 to 150 s on two busy cores).
"""

from rl_core import IMPALAConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/StatelessCartPole-v0",
    stop_reward=300,
    stop_timesteps=5_000_000,
    honours=["--num-agents"],
)
parser.set_defaults(num_agents=2, num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        IMPALAConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=1024, minibatch_size=1024, gamma=0.995, lambda_=0.95)
        .training(lr=[[0, 1e-3], [500_000, 1e-4]])
        .rl_module(model_config={"fcnet_hiddens": [64], "use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 64})
    )
    run_example(independent_agents(config, args.num_agents), args)
