"""Trials of Ray Tune, run by Ray Tune."""

import os
from pathlib import Path

import pytest

from rl_core import Algorithm, PPOConfig, tune_checkpoint, tune_resources, tune_trainable
from rl_core.errors import ConfigError
from rl_core.example import example_parser, finish_trials


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


@pytest.mark.usefixtures("cluster")
def test_trials_that_fail_end_a_script_whatever_it_looks_for(tmp_path, capsys):
    from ray import tune

    def fail(config):
        raise ValueError("what went wrong")

    args = example_parser("Shows nothing.", stop_iters=1).parse_args([])
    run_config = tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    with pytest.raises(SystemExit) as ending:
        finish_trials(tune.Tuner(fail, run_config=run_config), args, lambda results: results[0].metrics["nothing"])
    assert ending.value.code == 1
    captured = capsys.readouterr()
    assert "what went wrong" in captured.err
    assert captured.out.splitlines()[-1] == "failed: 1 of 1 trials, see above"
