"""IMPALA on Pendulum-v1: continuous torques, sampled and learned from in turn in this process.

Shows: normalised observations and rewards, and a learning rate that decays. Without the first, and without the clipping
of PPO and APPO, one run with lr=3e-4 and a batch of 512 at once stayed near -1200 for 400,000 steps; with a constant
lr=3e-4 one of two runs fell from -415 to -1450 after a million steps and stayed there.
Criterion: evaluation return of -200 within 5,000,000 env steps.
Command: python examples/tuned/pendulum_impala.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -132.0, -194.8, -174.2 after 737,280, 1,208,320, 552,960 steps (35 to 68 s, two busy cores).
"""

from rl_connectors import MeanStdFilter, NormalizeReward
from rl_core import IMPALAConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="Pendulum-v1", stop_reward=-200, stop_timesteps=5_000_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        IMPALAConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16)
        .env_runners(env_to_module_connector=(MeanStdFilter(), NormalizeReward(gamma=0.9)))
        .training(train_batch_size_per_learner=512, minibatch_size=64, num_epochs=2)
        .training(lr=[[0, 5e-4], [1_000_000, 3e-5]])
        .training(gamma=0.9, lambda_=0.95, normalize_advantage=True, entropy_coeff=0.0, grad_clip=0.5)
    )
    run_example(config, args)
