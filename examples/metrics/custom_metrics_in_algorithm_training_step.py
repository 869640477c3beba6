"""PPO whose training step logs figures of its own.

Shows: `self.metrics` in `training_step`, with several reductions: how much longer sampling takes than learning, as an
average over iterations; the quartiles of episode lengths; episodes per second; the longest episode. They stand in the
result beside the others, and sinks write the result to files: JSON lines, CSV and TensorBoard. (A run with --output
DIR keeps JSON lines and TensorBoard files there, without any sink.)
Criterion: evaluation return of 450 on CartPole-v1 within 100,000 env steps; the figures are in every result, and both
files and TensorBoard hold the same numbers.
Command: python examples/metrics/custom_metrics_in_algorithm_training_step.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0 each after 20,480, 30,720, 15,360 steps (2 to 6 s).
"""

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_core import Algorithm, CsvSink, JsonLinesSink, PPOConfig, TensorBoardSink
from rl_core.example import Verdict, example_parser, finish_example, train_example

RATIO = "custom/sampling_to_learning_time"
KEYS = (RATIO, "custom/episodes_per_s", "custom/longest_episode", "custom/episode_len_p25", "custom/episode_len_p75")

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=100_000)


class MeasuredPPO(Algorithm):
    """PPO that watches itself."""

    def training_step(self) -> dict[str, float]:
        """Do what the base class does too, and log."""
        start = time.perf_counter()
        rollout = self.sample()
        middle = time.perf_counter()
        with self.timer("update_s"):
            report = self.learner.update(rollout)
        ratio = (middle - start) / (time.perf_counter() - middle)
        self.metrics.log_value(RATIO, ratio, reduce="ema", ema_coeff=0.1)
        with self.timer("publish_s"):
            self.env_runner.set_weights(self.learner.weights())
        lengths = self.env_runner.episodes.lengths.tolist()
        self.metrics.log_value("custom/episodes_per_s", len(lengths), reduce="throughput")
        for length in lengths:
            self.metrics.log_value("custom/longest_episode", length, reduce="max", window=100)
            self.metrics.log_value("custom/episode_len", length, reduce="percentiles", percentiles=(25, 75))
        return report


class MeasuredPPOConfig(PPOConfig):
    """PPO's config, for the class above."""

    def build(self) -> MeasuredPPO:
        """Make the algorithm, with a copy of this config."""
        return MeasuredPPO(self)


def same(values: Sequence[float], expected: Sequence[float], tolerance: float) -> bool:
    """Compare numbers, of which some may not be known."""
    return len(values) == len(expected) and all(
        math.isclose(*pair, rel_tol=tolerance) or all(map(math.isnan, pair))
        for pair in zip(values, expected, strict=True)
    )


def check_logs(folder: Path, result: Mapping[str, Any]) -> Verdict:
    """Compare what three sinks wrote of the figures, row by row; a last evaluation has a row of its own."""
    iterations = result["training_iteration"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][:iterations]
    with (folder / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))[:iterations]
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for key in KEYS:
        assert key in result, f"{key} is not in the result"
        values = [math.nan if row[key] is None else row[key] for row in rows]
        assert same([float(line[key] or "nan") for line in lines], values, 1e-12), f"metrics.csv has another {key}"
        shown = [event.value for event in events.Scalars(key)]
        assert same(shown, [value for value in values if math.isfinite(value)], 1e-6), f"TensorBoard has another {key}"
        assert values[-1] == result[key] or math.isnan(result[key]), f"the last row has another {key}"
    return True, f"{len(KEYS)} figures in {len(rows)} rows of each sink, {RATIO} {result[RATIO]:.2f}"


if __name__ == "__main__":
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        sinks = (
            JsonLinesSink(str(folder / "metrics.jsonl")),
            CsvSink(str(folder / "metrics.csv")),
            TensorBoardSink(str(folder / "tensorboard")),
        )
        config = (
            MeasuredPPOConfig()
            .environment(args.env)
            .env_runners(num_envs_per_env_runner=8)
            .training(train_batch_size_per_learner=1024, minibatch_size=128, num_epochs=10, lr=2e-3)
            .training(gamma=0.98, lambda_=0.9)
            .reporting(sinks=sinks)
        )
        outcome = train_example(config, args)
        outcome.algorithm.stop()  # closes the sinks
        logs = check_logs(folder, outcome.result)
    finish_example(outcome, args, logs)
