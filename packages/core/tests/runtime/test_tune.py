"""Trials of Ray Tune, run by Ray Tune."""

import os
from pathlib import Path

import pytest

from rl_core import Algorithm, PPOConfig, tune_checkpoint, tune_resources, tune_trainable
from rl_core.errors import ConfigError


def config():
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": (4,)})
    )


def test_resources_follow_from_the_config():
    own = tune_resources(config())
    assert own.bundles == [{"CPU": 1.0}]
    more = config().env_runners(num_env_runners=2, num_cpus_per_env_runner=0.5, num_gpus_per_env_runner=0.25)
    more.evaluation(evaluation_num_env_runners=1)
    assert tune_resources(more).bundles == [{"CPU": 1.0}, *[{"CPU": 0.5, "GPU": 0.25}] * 3]


@pytest.mark.learning
@pytest.mark.usefixtures("cluster")
def test_a_trial_that_crashes_goes_on_from_its_checkpoint_and_the_settings_are_those_of_the_search(tmp_path):
    from ray import tune

    class CrashOnce(tune_trainable(config())):
        def step(self):
            result = super().step()
            note = tmp_path / "crashed"
            if self.algorithm.iteration == 3 and not note.exists():
                note.touch()
                os._exit(1)
            return result

    tuner = tune.Tuner(
        CrashOnce,
        param_space={"training.lr": tune.grid_search([1e-3]), "rl_module.model_config.fcnet_activation": "relu"},
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "results"),
            stop={"training_iteration": 4},
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    assert (tmp_path / "crashed").exists()
    assert result.error is None
    assert result.metrics["training_iteration"] == 4
    assert result.metrics["env_steps"] == 4 * 64, "it went on, and did not begin anew"
    restored = Algorithm.from_checkpoint(tune_checkpoint(result.checkpoint))
    assert restored.iteration == 4
    assert restored.config.training.lr == 1e-3
    assert restored.config.rl_module.model_config.fcnet_activation == "relu"
    restored.stop()
    assert Path(result.path).is_relative_to(tmp_path)


@pytest.mark.learning
@pytest.mark.usefixtures("cluster")
def test_population_based_training_copies_a_run_into_one_with_other_settings(tmp_path):
    from ray import tune

    scheduler = tune.schedulers.PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        synch=True,
        hyperparam_mutations={"training.lr": [1e-4, 1e-3]},
        quantile_fraction=0.5,
        resample_probability=1.0,
    )
    tuner = tune.Tuner(
        tune_trainable(config()),
        param_space={"training.lr": tune.grid_search([1e-4, 1e-3])},
        tune_config=tune.TuneConfig(
            scheduler=scheduler, metric="env_runners/episode_return_mean", mode="max", reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"training_iteration": 6},
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2),
            verbose=0,
        ),
    )
    results = tuner.fit()
    assert not results.errors
    assert [result.metrics["training_iteration"] for result in results] == [6, 6]
    assert scheduler._num_perturbations > 0


def test_a_setting_that_does_not_exist_is_refused_before_trials_start():
    with pytest.raises(ConfigError, match="there is no setting 'learning_rte'"):
        tune_trainable(config()).default_resource_request({"training.learning_rte": 1e-3})
