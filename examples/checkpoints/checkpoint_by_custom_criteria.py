"""Of several runs the best, and of its checkpoints the best, by a criterion of one's own.

Shows: `checkpointing(checkpoint_score_attribute=...)` with a function of the result, here the mean return of the
evaluation less its spread: good, and good every time. Three learning rates are tried one after the other; every run
keeps the two best of its checkpoints and the newest. The best of all is restored and evaluated anew.
Criterion: the checkpoint picked is the one that the recorded metrics name, of the run that they name, and its policy
reaches an evaluation return of 450.
Command: python examples/checkpoints/checkpoint_by_custom_criteria.py --as-test --seed 0
Reached: on seeds 0, 1, 2 the learning rate 0.001 of 0.00001, 0.001 and 0.1, whose best scores are 20.7, 500.0, 8.9;
19.7, 500.0, 53.8; 21.4, 500.0, 9.0; iteration 39 each, and 500.0 restored each time, 40,960 steps per run.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_core import Algorithm, PPOConfig
from rl_core.checkpoint import Checkpoint
from rl_core.errors import CheckpointError
from rl_core.example import example_parser, finish_example, one_run, train_example
from rl_core.runs.keeper import CheckpointKeeper
from rl_core.runs.metrics_file import read_rows

EVERY = 3
"""Iterations between evaluations, and so between checkpoints."""

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=40_000)
parser.add_argument("--lrs", type=float, nargs="+", default=[1e-5, 1e-3, 1e-1], metavar="LR", help="to be tried")


def steadiness(result: Mapping[str, Any]) -> float:
    """Mean return of the newest evaluation less one standard deviation."""
    return float(result["evaluation/episode_return_mean"] - result["evaluation/episode_return_std"])


def recorded_best(folder: Path, every: int) -> tuple[float, int]:
    """Work out from the metrics of a run its best score and the iteration it belongs to, the newer of equal ones."""
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["training_iteration"] % every == 0]
    return max((steadiness(row), row["training_iteration"]) for row in rows)


if __name__ == "__main__":
    args = parser.parse_args()
    args.lrs = list(dict.fromkeys(args.lrs))
    every = min(EVERY, args.stop_iters or EVERY)
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_interval=every)
        .checkpointing(checkpoint_frequency=every, checkpoint_at_end=False, num_to_keep=3)
        .checkpointing(checkpoint_score_attribute=steadiness, checkpoint_score_order="max")
    )
    with tempfile.TemporaryDirectory() as temporary:
        root = args.output or Path(temporary)
        runs, picked = {}, {}
        for lr in args.lrs:
            flags = one_run(args, f"lr_{lr:g}", output=root / f"lr_{lr:g}", stop_reward=None)
            runs[lr] = train_example(config.copy().training(lr=lr), flags)
            runs[lr].algorithm.stop()
            try:
                best = CheckpointKeeper(runs[lr].algorithm, flags.output / "checkpoints").best()
            except CheckpointError:
                parser.error(f"the run ended before its first checkpoint, after {every} iterations: allow more steps")
            picked[lr] = (Checkpoint(best).notes["score"], best)
        lr, (score, path) = max(picked.items(), key=lambda item: item[1][0])
        restored = Algorithm.from_checkpoint(path)
        score_again = restored.evaluate()["evaluation/episode_return_mean"]
        restored.stop()
        recorded = {lr: recorded_best(root / f"lr_{lr:g}", every) for lr in args.lrs}
    right_run = lr == max(recorded, key=lambda lr: recorded[lr])
    right_checkpoint = (score, restored.iteration) == recorded[lr]
    finish_example(
        dataclasses.replace(runs[lr], checkpoint=path if args.output else None),
        args,
        (right_run, f"lr {lr:g} picked of " + ", ".join(f"{lr:g} ({recorded[lr][0]:.1f})" for lr in args.lrs)),
        (right_checkpoint, f"its iteration {restored.iteration} with the score {score:.1f}"),
        (args.stop_reward is None or score_again >= args.stop_reward, f"restored: return {score_again:.1f}"),
    )
