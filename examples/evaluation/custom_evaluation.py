"""An evaluation function of one's own, over evaluation runners that differ.

Shows: `evaluation(custom_evaluation_function=...)` is called with the algorithm and the evaluation runners. Here it
gives each of them a corridor of another length, asks each which length it really has, lets all play, and returns
figures by name, which results have under `evaluation/`. `call_each` calls a function with each runner, in its process.
Criterion: mean evaluation return of 0.75 over the corridors within 50,000 env steps, each runner with its own length.
Command: python examples/evaluation/custom_evaluation.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 0.85 each after 5,120 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example

LENGTHS = (2, 3)
"""Of the corridors of the two evaluation runners; trained is on one of 4. The best returns are 0.9 and 0.8."""

parser = example_parser(__doc__, stop_timesteps=50_000)
parser.set_defaults(evaluation_num_env_runners=2)


def play_own_corridor(runner: Any) -> tuple[int, list[float]]:
    """Play in a corridor whose length depends on the runner's number; returns the length and the returns."""
    length = LENGTHS[runner.index % len(LENGTHS)]
    envs = runner.env.env  # gymnasium's vector env
    envs.set_attr("length", length)
    episodes = runner.evaluate(num_episodes=10, seed=runner.index, explore=True)
    lengths = set(envs.get_attr("length"))
    assert lengths == {length}, "every env slot of the runner"
    return length, episodes.returns.tolist()


def evaluate(algorithm: Algorithm, runners: Any) -> dict[str, float]:
    """Compare the returns in corridors of several lengths."""
    played = runners.call_each(play_own_corridor)
    figures = {f"return_in_corridor_{length}": float(np.mean(returns)) for length, returns in played}
    everything = [value for _, returns in played for value in returns]
    return {**figures, "episode_return_mean": float(np.mean(everything)), "num_episodes": len(everything)}


def criterion(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
    """All runners' returns together, if each had a corridor of its own."""
    mean = result["evaluation/episode_return_mean"]
    own = [f"evaluation/return_in_corridor_{length}" in result for length in LENGTHS]
    return mean >= 0.75 and all(own), f"return {mean:.2f} over corridors of {LENGTHS}, goal 0.75"


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment("rl_envs:rl_envs/SimpleCorridor-v0", env_config={"length": 4})
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3)
        .evaluation(custom_evaluation_function=evaluate)
    )
    run_example(config, args, criterion=criterion)
