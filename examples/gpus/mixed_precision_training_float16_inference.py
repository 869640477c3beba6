"""Mixed precision: products in float16, weights in float32; policies act in float16.

Shows: `precision="float16-mixed"`, which scales losses so that small gradients do not vanish and leaves out steps that
overflow, and `inference_dtype="float16"`, for which runners cast the weights once per version.
Criterion: evaluation return of 450 (of 500) within 200,000 env steps.
Command: python examples/gpus/mixed_precision_training_float16_inference.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 499.4, 452.6, 498.1 after 20,480, 15,360, 15,360 steps (on a CPU, which is slow in float16);
500.0 after 20,480, 20,480, 15,360 (on an H100).
"""

import torch

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=200_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8, inference_dtype="float16")
        .learners(num_gpus_per_learner=int(torch.cuda.is_available()))
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .training(precision="float16-mixed")
    )
    run_example(config, args)
