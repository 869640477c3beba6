"""APPO with an LSTM on CartPole without velocities: two processes sample while this one learns.

Shows: V-trace with a memory, trained on segments of up to 64 steps that begin with the state of the policy that acted.
Criterion: evaluation return of 350 (of 500) within 2,000,000 env steps; that of a random policy is 22.
Command: python examples/tuned/stateless_cartpole_appo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 355.9, 354.6, 363.9 after 198,278, 192,785, 191,956 steps (80 to 115 s on two busy cores).
"""

from rl_core import APPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="rl_envs:rl_envs/StatelessCartPole-v0", stop_reward=350, stop_timesteps=2_000_000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        APPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=1024, minibatch_size=1024, gamma=0.995, lambda_=0.95)
        .training(lr=[[0, 1e-3], [500_000, 1e-4]])
        .rl_module(
            model_config={
                "use_lstm": True,
                "fcnet_hiddens": [64],
                "lstm_cell_size": 64,
                "max_seq_len": 64,
            }
        )
    )
    run_example(config, args)
