"""An env that computes on a GPU: each runner asks for a part of one.

Shows: `num_gpus_per_env_runner`. The env refuses to be made in a process that Ray has not given a GPU. Without a real
GPU the cluster is told that it has one, which is shared out all the same, and the env computes on the CPU.
Criterion: evaluation return of 0.9 (of 0.91) within 100,000 env steps, by two runners and one for evaluation that share
one GPU.
Command: python examples/gpus/gpus_on_env_runners.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 0.9 each after 10,240 steps (a logical GPU, and an H100).
"""

from __future__ import annotations

from typing import Any

import torch

from rl_core import PPOConfig, start_ray
from rl_core.example import example_parser, run_example
from rl_envs import SimpleCorridor

parser = example_parser(__doc__, stop_reward=0.9, stop_timesteps=100_000)
parser.add_argument("--num-gpus-per-env-runner", type=float, default=0.3, metavar="X", help="default: 0.3")
parser.set_defaults(num_env_runners=2, evaluation_num_env_runners=1)


class GPURequiring(SimpleCorridor):
    """A corridor whose rewards come from a GPU: 1 for the step onto the goal, -0.01 for every other."""

    def __init__(self) -> None:
        import ray

        if not ray.get_runtime_context().get_accelerator_ids()["GPU"]:
            raise RuntimeError("GPURequiring: Ray has given this process no GPU. Set num_gpus_per_env_runner.")
        super().__init__(length=10, max_steps=200)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.rewards = torch.tensor([-0.01, 1.0], device=device)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Walk."""
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(self.rewards[int(terminated)]), terminated, truncated, info


if __name__ == "__main__":
    args = parser.parse_args()
    start_ray(num_cpus=args.num_cpus or 4, num_gpus=None if torch.cuda.is_available() else 1)
    args.num_cpus = None
    config = (
        PPOConfig()
        .environment(GPURequiring)
        .env_runners(num_envs_per_env_runner=8, num_gpus_per_env_runner=args.num_gpus_per_env_runner)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3)
    )
    run_example(config, args)
