"""`rl evaluate`: returns of a trained policy."""

from __future__ import annotations

import argparse
import json
import sys

from rl_core.algorithm.algorithm import Algorithm
from rl_core.cli import inputs


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    checkpoint, _ = inputs.find_checkpoint(arguments.path, lambda text: print(text, file=sys.stderr))
    algorithm = Algorithm.from_checkpoint(checkpoint, allow=inputs.allowed(arguments))
    try:
        figures = algorithm.evaluate(num_episodes=arguments.episodes, explore=arguments.explore)
        config = algorithm.config
    finally:
        algorithm.stop()
    result = {
        "return": figures["evaluation/episode_return_mean"],
        "std": figures["evaluation/episode_return_std"],
        "min": figures["evaluation/episode_return_min"],
        "max": figures["evaluation/episode_return_max"],
        "episode_length": figures["evaluation/episode_len_mean"],
        "episodes": int(figures["evaluation/num_episodes"]),
        "env": str(config.environment.env),
        "env_steps": algorithm.env_steps,
        "checkpoint": str(checkpoint),
    }
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(f"{config.name} on {result['env']} after {algorithm.env_steps:,} env steps ({checkpoint})")
    print(
        f"return {result['return']:.1f} ± {result['std']:.1f} (standard deviation), min {result['min']:.1f}, "
        f"max {result['max']:.1f}, {result['episodes']} episodes of {result['episode_length']:.0f} steps"
    )
    return 0
