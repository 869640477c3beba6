"""PPO on CartPole-v1, solved within seconds.

Shows: a config, and training until a separate evaluation reaches the goal.
Criterion: evaluation return of 450 (of 500) within 300,000 env steps.
Command: python examples/tuned/cartpole_ppo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 484.2, 500.0, 500.0 after 15,360 steps each (2 s).
"""

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=300_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
    )
    run_example(config, args)
