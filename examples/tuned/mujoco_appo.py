"""APPO on Humanoid-v5: two processes sample while this one learns.

Shows: `rl_connectors.mujoco` with asynchronous runners: their statistics of observations and rewards are merged and go
out with the weights. Each rollout is learned from four times. Needs pip install "rl-envs[mujoco]".
Criterion: evaluation return of 800 within 3,000,000 env steps.
Command: python examples/tuned/mujoco_appo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 878.3, 931.5, 820.6 after 688,128, 516,096, 430,080 steps (166 to 291 s), with the first
settings tried; how old policies are, and so what is learned, differs from run to run.
"""

from rl_connectors import mujoco
from rl_core import APPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="Humanoid-v5", stop_reward=800, stop_timesteps=3_000_000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        APPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=2048, minibatch_size=128, lr=[[0, 3e-4], [3_000_000, 0.0]])
        .training(circular_buffer_iterations_per_batch=4, clip_param=0.2, entropy_coeff=0.0, grad_clip=0.5)
    )
    config.env_runners(env_to_module_connector=mujoco(config.training.gamma))
    run_example(config, args, evaluate_every=40_000)
