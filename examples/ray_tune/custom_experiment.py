"""A function of one's own as a trial of Ray Tune: a phase with a high learning rate, then one with a low one.

Shows: `tune.with_resources(function, tune_resources(config))`, and a trial that builds, saves, restores and evaluates
algorithms as it likes. The second phase goes on from the first one's checkpoint with another learning rate.
Criterion: evaluation return of 475 (of 500) at the end.
Command: python examples/ray_tune/custom_experiment.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0 each (23 to 34 s, starting Ray included).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rl_core import PPOConfig, tune_resources
from rl_core.example import example_parser, finish_trials, trials_config, trials_folder

PHASES = ((1e-3, 20), (2e-4, 10))
"""Learning rate and iterations of each phase."""

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=475, honours=["--num-samples"])


def experiment(settings: dict[str, Any]) -> None:
    """Train in two phases and report each iteration; the last report has the evaluation."""
    from ray import tune

    num_iterations = settings["num_iterations"]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "phase"
        for phase, (lr, iterations) in enumerate(PHASES):
            algorithm = settings["config"].copy().training(lr=lr).build()
            if phase:
                algorithm.restore(checkpoint)
            for _ in range(min(iterations, num_iterations or iterations)):
                result = algorithm.train()
                tune.report({**result, "phase": phase})
            if not phase:
                algorithm.save(checkpoint)
                algorithm.stop()
    tune.report({**result, **algorithm.evaluate(), "phase": phase})
    algorithm.stop()


if __name__ == "__main__":
    args = parser.parse_args()
    if args.stop_timesteps is not None or args.checkpoint_freq is not None or args.checkpoint_at_end:
        parser.error("the phases have a length of their own, which --stop-iters shortens, and one checkpoint")
    from ray import tune

    config = PPOConfig().environment(args.env).env_runners(num_envs_per_env_runner=8)
    config.training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9)
    config = trials_config(config, args)
    with trials_folder(args) as folder:
        tuner = tune.Tuner(
            tune.with_resources(experiment, tune_resources(config)),
            param_space={"config": config, "num_iterations": args.stop_iters},
            tune_config=tune.TuneConfig(num_samples=args.num_samples),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        finish_trials(tuner, args)
