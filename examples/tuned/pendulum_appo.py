"""APPO on Pendulum-v1: continuous torques, two processes sample while this one learns.

Shows: a horizon and minibatches as in `pendulum_ppo.py`, with each rollout in two passes at most instead of ten.
Criterion: evaluation return of -300 within 5,000,000 env steps.
Command: python examples/tuned/pendulum_appo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -200.4, -201.6, -275.4 after 199,680, 286,720, 153,600 steps (95 to 141 s on two busy cores).
"""

from rl_core import APPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="Pendulum-v1", stop_reward=-300, stop_timesteps=5_000_000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        APPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=1024, minibatch_size=64, gamma=0.9, lambda_=0.95, lr=1e-3)
        .training(normalize_advantage=True, entropy_coeff=0.0, grad_clip=0.5)
    )
    run_example(config, args)
