"""What a GPU does for an update: `python -m benchmarks.gpu`.

PPO's update of 8 envs x 128 steps in 4 epochs of 4 minibatches, the way of the rollout to the GPU included: with the
Nature network on images of 84 x 84 x 4 bytes, and with wide dense layers. In turn on the CPU with all its cores, and
on the GPU in the precisions of the setting `precision`; medians of the repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rl_core import PPOConfig

MODELS: dict[str, tuple[spaces.Box, dict[str, Any]]] = {
    "Nature network, 84 x 84 x 4": (spaces.Box(0, 255, (84, 84, 4), np.uint8), {}),
    "2 x 2048, 376 inputs": (spaces.Box(-1.0, 1.0, (376,), np.float32), {"fcnet_hiddens": (2048, 2048)}),
}
PRECISIONS = ("float32", "bfloat16-mixed", "float16-mixed", "bfloat16-true")


class Noise(gymnasium.Env[Any, Any]):
    """Random observations and rewards; episodes of 100 steps."""

    def __init__(self, model: str) -> None:
        self.observation_space, self.action_space = MODELS[model][0], spaces.Discrete(6)
        self.observation_space.seed(0)
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin."""
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on."""
        self.time += 1
        return self.observation_space.sample(), float(self.np_random.random()), False, self.time == 100, {}


def update_ms(model: str, device: str, precision: str, *, repeats: int) -> float:
    """Milliseconds of an update."""
    config = (
        PPOConfig()
        .environment(Noise, env_config={"model": model}, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=256, num_epochs=4, precision=precision, lr=1e-5)
        .rl_module(model_config=MODELS[model][1])
        .learners(device=device)
    )
    algorithm = config.build()
    rollout = algorithm.env_runner.sample()
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        algorithm.learner.update(rollout)  # its figures are on the CPU, so it waits for the GPU
        times.append(time.perf_counter() - start)
    algorithm.stop()
    return 1000.0 * statistics.median(times[3:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for model in MODELS:
        on_cpu = update_ms(model, "cpu", "float32", repeats=repeats)
        print(f"{model}\n  cpu  float32         {on_cpu:8.1f} ms, {torch.get_num_threads()} threads")
        for precision in PRECISIONS if torch.cuda.is_available() else ():
            found = update_ms(model, "cuda", precision, repeats=repeats)
            print(f"  cuda {precision:15} {found:8.1f} ms, {on_cpu / found:5.1f} x the CPU", flush=True)


if __name__ == "__main__":
    main()
