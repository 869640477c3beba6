"""PPO with an LSTM for each of two agents, on CartPole without velocities.

Shows: memories of several policies, with states and segments at the clocks of their agents. Settings are those of
`stateless_cartpole_ppo.py`, normalised observations included.
Criterion: evaluation return of 600 (of 1,000), the sum of two agents, within 4,000,000 env steps.
Command: python examples/tuned/multi_agent_stateless_cartpole_ppo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 609.5, 634.6, 643.9 after 86,016, 55,296, 55,296 steps (27 to 40 s on two busy cores).
"""

from rl_connectors import MeanStdFilter
from rl_core import PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/StatelessCartPole-v0",
    stop_reward=600,
    stop_timesteps=4_000_000,
    honours=["--num-agents"],
)
parser.set_defaults(num_agents=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .env_runners(env_to_module_connector=(MeanStdFilter(),))
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6)
        .training(lr=[[0, 1e-3], [300_000, 1e-4]], gamma=0.995, lambda_=0.95)
        .rl_module(model_config={"fcnet_hiddens": [64], "use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 64})
    )
    run_example(independent_agents(config, args.num_agents), args)
