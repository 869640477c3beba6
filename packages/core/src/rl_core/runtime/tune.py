"""Runs as trials of Ray Tune: a config as its trainable, settings by their dotted names as its search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_core.runtime.session import require_ray, wanted_by_learner, wanted_by_runner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

_CHECKPOINT = "checkpoint"


def tune_trainable(config: AlgorithmConfig) -> Any:
    """Make the class that `ray.tune.Tuner` runs trials of.

    A trial builds the config with the settings that Tune chose for it, by their dotted names, and reports what
    `train()` returns. Tune's checkpoints are those of `Algorithm.save`: trials go on after a crash, and schedulers that
    copy one trial into another with other settings (population-based training) work. What a trial needs of the cluster
    follows from its config.

    Example:
        >>> from ray import tune
        >>> tuner = tune.Tuner(
        ...     tune_trainable(PPOConfig().environment("CartPole-v1").evaluation(evaluation_interval=5)),
        ...     param_space={"training.lr": tune.loguniform(1e-4, 1e-2), "training.gamma": tune.choice([0.98, 0.99])},
        ...     tune_config=tune.TuneConfig(metric="evaluation/episode_return_mean", mode="max", num_samples=4),
        ...     run_config=tune.RunConfig(stop={"evaluation/episode_return_mean": 450}),
        ... )
        >>> tuner.fit().get_best_result().config

    Args:
        config: What all trials have in common; it is copied.

    Raises:
        ConfigError: Ray is not installed.
    """
    require_ray("tune_trainable")
    from ray import tune

    base = config.copy()

    class AlgorithmTrainable(tune.Trainable):
        """A run as a trial."""

        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> Any:
            """Say what a trial needs of the cluster."""
            return tune_resources(with_settings(base, config))

        def setup(self, config: dict[str, Any]) -> None:
            """Build the run."""
            self.algorithm = with_settings(base, config).build()

        def step(self) -> dict[str, Any]:
            """Run one iteration."""
            return dict(self.algorithm.train())

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Save the run into a folder of Tune's."""
            self.algorithm.save(Path(checkpoint_dir) / _CHECKPOINT)

        def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override] # Tune passes a path
            """Go on from a folder of Tune's."""
            self.algorithm.restore(Path(checkpoint_dir) / _CHECKPOINT)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            """Become another trial in the same process, with `reuse_actors`."""
            self.algorithm.stop()
            self.algorithm = with_settings(base, new_config).build()
            return True

        def cleanup(self) -> None:
            """Close the envs."""
            self.algorithm.stop()

    AlgorithmTrainable.__name__ = AlgorithmTrainable.__qualname__ = type(config).__name__.removesuffix("Config")
    return AlgorithmTrainable


def quiet_run_config(
    folder: str,
    *,
    stop: Mapping[str, float],
    checkpoint_frequency: int,
    checkpoint_at_end: bool,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Make Tune's `RunConfig` for trials in a folder of this machine, without Tune's own tables.

    Args:
        folder: Where everything is written.
        stop: Figures of the result at which a trial ends.
        checkpoint_frequency: Iterations between checkpoints, 0 for none.
        checkpoint_at_end: Whether a trial saves its end.
        callbacks: Of Tune.
    """
    from ray import tune

    return tune.RunConfig(
        stop=dict(stop),
        checkpoint_config=tune.CheckpointConfig(
            checkpoint_frequency=checkpoint_frequency, checkpoint_at_end=checkpoint_at_end
        ),
        callbacks=list(callbacks),
        storage_path=folder,
        verbose=0,
    )


def tune_checkpoint(checkpoint: Any) -> Path:
    """Return the folder in one of Tune's checkpoints that `from_checkpoint` of `Algorithm` and `Policy` reads.

    Args:
        checkpoint: Such as `result.checkpoint` of Tune, on a local disk.
    """
    return Path(checkpoint.path) / _CHECKPOINT


def with_settings(config: AlgorithmConfig, settings: Mapping[str, Any]) -> AlgorithmConfig:
    """Return a copy with settings by dotted name.

    Raises:
        ConfigError: there is no such setting, or a value does not fit.
    """
    config = config.copy()
    for name, value in settings.items():
        config.set(name, value)
    return config


def tune_resources(config: AlgorithmConfig) -> Any:
    """Say what a run needs of the cluster, for `tune.with_resources`: a CPU, and what its runners and learners ask for.

    Raises:
        ConfigError: Ray is not installed.
    """
    require_ray("tune_resources")
    from ray import tune

    learners, own = config.learners.settings, {"CPU": 1.0}
    if not learners.num_learners:
        num_gpus = learners.num_gpus_per_learner or float(learners.device.startswith("cuda"))
        own |= {"GPU": num_gpus} if num_gpus else {}
    num_runners = config.env_runners.settings.num_env_runners + config.evaluation.settings.evaluation_num_env_runners
    others = [wanted_by_runner(config)] * num_runners + [wanted_by_learner(config)] * learners.num_learners
    return tune.PlacementGroupFactory([own, *(each for each in others if each)])
