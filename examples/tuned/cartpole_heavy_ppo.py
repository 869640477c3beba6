"""PPO with a large network on CartPole whose four numbers are spread over 1,024 features.

Shows: two dense layers of 512 units for each of policy and value function, 1.6 million weights, on a CPU; a small
learning rate suits them.
Criterion: evaluation return of 450 (of 500) within 300,000 env steps.
Command: python examples/tuned/cartpole_heavy_ppo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 458.2, 496.4, 500.0 after 40,703, 77,401, 41,693 steps (29 to 54 s).
"""

import rl_envs  # noqa: F401 # registers the env
from rl_core import PPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="rl_envs/HeavyCartPole-v0", stop_reward=450, stop_timesteps=300_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=1024, minibatch_size=256, num_epochs=6, lr=2e-4, gamma=0.98, lambda_=0.9)
        .rl_module(model_config={"fcnet_hiddens": [512, 512]})
    )
    run_example(config, args)
