"""IMPALA on CartPole-v1: two processes sample while this one learns.

Shows: asynchronous sampling with V-trace, each rollout learned from once, as it comes.
Criterion: evaluation return of 450 (of 500) within 2,000,000 env steps.
Command: python examples/tuned/cartpole_impala.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 484.6, 483.4, 495.4 after 66,560, 107,520, 122,880 steps.
"""

from rl_core import IMPALAConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=2_000_000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        IMPALAConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=256, minibatch_size=256, gamma=0.98, lambda_=0.95, lr=1e-3)
    )
    run_example(config, args)
