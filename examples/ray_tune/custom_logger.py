"""A logger of one's own for trials of Ray Tune.

Shows: `tune.logger.LoggerCallback`. Each result of each trial becomes a line of a file, and the end of a trial another.
Criterion: evaluation return of 200 (of 500), and every result of every trial is in the log.
Command: python examples/ray_tune/custom_logger.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 250.2, 449.1, 380.9 after 10,240 steps, all 10 results logged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl_core import PPOConfig, tune_trainable
from rl_core.example import example_parser, finish_trials, trials_config, trials_folder, trials_run_config

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=200, stop_iters=40, honours=["--num-samples"])

if __name__ == "__main__":
    args = parser.parse_args()
    from ray import tune
    from ray.tune.logger import LoggerCallback

    class LineLogger(LoggerCallback):
        """Writes a line for each result."""

        def __init__(self, path: Path) -> None:
            self.path = path

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            """Write what a trial reported; `iteration` is Tune's own counter, so the result's is taken."""
            self._write(trial, iteration=result["training_iteration"], env_steps=result["env_steps"])

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            """Write that a trial is over."""
            self._write(trial, ended=True, failed=failed)

        def _write(self, trial: Any, **line: Any) -> None:
            with self.path.open("a") as file:
                file.write(json.dumps({"trial": trial.trial_id, **line}) + "\n")

    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_interval=5)
    )
    with trials_folder(args) as folder:
        log = Path(folder) / "trials.jsonl"
        tuner = tune.Tuner(
            tune_trainable(trials_config(config, args)),
            tune_config=tune.TuneConfig(num_samples=args.num_samples),
            run_config=trials_run_config(args, folder, callbacks=[LineLogger(log)]),
        )

        def everything_was_logged(results: Any) -> tuple[bool, str]:
            """Compare the log with how far each trial came."""
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            logged = sum("iteration" in line for line in lines)
            ended = sum("ended" in line for line in lines)
            reported = sum(result.metrics["training_iteration"] for result in results)
            return (logged, ended) == (reported, len(results)), f"{logged} of {reported} results logged"

        finish_trials(tuner, args, everything_was_logged)
