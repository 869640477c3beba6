"""Four trials with different learning rates train at the same time, their learners on a quarter of a GPU each.

Shows: `num_gpus_per_learner=0.25` with `tune_trainable`, which asks Ray Tune for what the learners need. Without a real
GPU the cluster is told that it has one, which is shared out all the same, and the learners compute on the CPU.
Criterion: a trial reaches an evaluation return of 180 within 100,000 env steps; every learner was given the one GPU,
and at some time all four had it.
Command: python examples/gpus/fractional_gpus_per_learner.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 238.0, 449.1, 265.0 after 30,720, 30,720, 25,600 steps of all trials (a logical GPU);
253.7, 500.0, 310.2 after as many (an H100).
"""

from __future__ import annotations

from typing import Any

import torch

from rl_core import Callbacks, PPOConfig, start_ray, tune_trainable
from rl_core.example import example_parser, finish_trials, trials_config, trials_folder, trials_run_config

LRS = (3e-4, 1e-3, 2e-3, 3e-3)

parser = example_parser(
    __doc__, env="CartPole-v1", stop_reward=180, stop_timesteps=100_000, honours=["--max-concurrent-trials"]
)
parser.set_defaults(num_learners=1, num_gpus_per_learner=0.25)


class CountGPUs(Callbacks):
    """Logs what the process of the learner sees of the cluster's GPUs."""

    def on_learner_update_end(self, *, learner: Any, result: Any, metrics: Any) -> None:
        """Count those that Ray has given to it, in whole or in part, and what all processes have together."""
        import ray

        metrics.log_value("gpus_seen", len(ray.get_runtime_context().get_accelerator_ids()["GPU"]), reduce="max")
        total, free = ray.cluster_resources()["GPU"], ray.available_resources().get("GPU", 0.0)
        metrics.log_value("gpus_in_use", total - free, reduce="max")


def shared_a_gpu(results: Any) -> tuple[bool, str]:
    """Whether every learner saw one GPU, of which all together used no more than there is, and all four at a time."""
    seen = {int(result.metrics["gpus_seen"]) for result in results}
    most = max(result.metrics_dataframe["gpus_in_use"].max() for result in results)
    return seen == {1} and most == 1.0, f"each learner saw {sorted(seen)} GPU, together they used {most:g}"


if __name__ == "__main__":
    args = parser.parse_args()
    from ray import tune

    has_gpu = torch.cuda.is_available()
    start_ray(num_cpus=args.num_cpus or 2 * len(LRS), num_gpus=None if has_gpu else 1)
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .learners(device="auto" if has_gpu else "cpu")
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_interval=5)
        .callbacks(callbacks_class=CountGPUs)
    )
    with trials_folder(args) as folder:
        tuner = tune.Tuner(
            tune_trainable(trials_config(config, args)),
            param_space={"training.lr": tune.grid_search(list(LRS))},
            tune_config=tune.TuneConfig(max_concurrent_trials=args.max_concurrent_trials),
            run_config=trials_run_config(args, folder),
        )
        finish_trials(tuner, args, shared_a_gpu)
