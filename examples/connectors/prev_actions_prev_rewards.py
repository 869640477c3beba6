"""The last actions and rewards as part of the observation, for a module with an LSTM.

Shows: `PrevActionsPrevRewards` before flattening, on CartPole without velocities.
Criterion: evaluation return of 200 within 1,000,000 env steps; without memory about 49 is the best. With --num-agents 2
--stop-reward 400 the sum of two agents.
Command: python examples/connectors/prev_actions_prev_rewards.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 250.6, 224.4, 469.6 after 42,100, 66,373, 60,462 steps (5 to 21 s). Two agents: 411.1,
523.9, 488.6 after 73,728, 79,872, 73,728.
"""

from rl_connectors import FlattenObs, PrevActionsPrevRewards
from rl_core import PPOConfig
from rl_core.cli.options import whole_number
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/StatelessCartPole-v0",
    stop_reward=200,
    stop_timesteps=1_000_000,
    honours=["--num-agents"],
)
parser.add_argument("--n-prev-actions", type=whole_number, default=1, metavar="N", help="default: 1")
parser.add_argument("--n-prev-rewards", type=whole_number, default=1, metavar="N", help="default: 1")

if __name__ == "__main__":
    args = parser.parse_args()
    previous = PrevActionsPrevRewards(args.n_prev_actions, args.n_prev_rewards)
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .env_runners(env_to_module_connector=(previous, FlattenObs()))
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6, lr=1e-3, gamma=0.98)
        .rl_module(model_config={"use_lstm": True, "fcnet_hiddens": [64], "lstm_cell_size": 64, "max_seq_len": 32})
    )
    run_example(independent_agents(config, args.num_agents), args)
