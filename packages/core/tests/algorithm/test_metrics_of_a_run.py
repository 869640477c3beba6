"""Figures of one's own in a run: from training steps, callbacks, connectors, losses and modules; learner callbacks."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rl_core import Algorithm, Callbacks, DQNConfig, ObsConnector, PPOConfig, log_value
from rl_core.algorithm.algorithm import Algorithm as Base
from rl_core.testing import check_connector
from rl_core.testing.check_algorithm import without_clocks
from rl_core.testing.envs import CountdownEnv


@dataclass(frozen=True)
class CountSteps(ObsConnector):
    """Counts the rows that it is given."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        log_value("env_runners/connector_rows", len(step.first), reduce="sum")
        log_value("env_runners/connector_rows_lifetime", len(step.first), reduce="lifetime_sum")
        return state, step


def loss(module, batch, settings):
    total, report = PPOConfig.objective.loss(module, batch, settings)
    log_value("learner/default/minibatches", 1, reduce="sum")
    log_value("learner/default/loss_ema", total.detach(), reduce="ema", ema_coeff=0.5)
    return total, report


class LoggingPPOConfig(PPOConfig):
    objective = dataclasses.replace(PPOConfig.objective, loss=loss)


def make_config(kind=LoggingPPOConfig):
    return (
        kind()
        .environment(CountdownEnv)
        .env_runners(num_envs_per_env_runner=3, env_to_module_connector=(CountSteps(),))
        .training(train_batch_size_per_learner=48, minibatch_size=16, num_epochs=2)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .evaluation(evaluation_duration=3)
    )


def make_dqn_config(**training):
    config = DQNConfig().environment(CountdownEnv).rl_module(model_config={"fcnet_hiddens": [8]})
    config.env_runners(num_envs_per_env_runner=2, env_to_module_connector=(CountSteps(),))
    config.reporting(min_sample_timesteps_per_iteration=0)
    return config.training(num_steps_sampled_before_learning_starts=8, train_batch_size_per_learner=8, **training)


def test_connectors_and_losses_log_to_the_run_they_work_for():
    algorithm = make_config().build()
    first, second = algorithm.train(), algorithm.train()
    steps = 48 + 3 * (48 // 15)  # each step's rows, and those of the true last observations of its episodes
    assert second["env_runners/connector_rows"] >= steps
    assert first["env_runners/connector_rows"] == second["env_runners/connector_rows"] + 3, "the reset comes first"
    lifetime = first["env_runners/connector_rows"] + second["env_runners/connector_rows"]
    assert second["env_runners/connector_rows_lifetime"] == lifetime
    assert second["learner/default/minibatches"] == 6.0
    assert math.isfinite(second["learner/default/loss_ema"])


def test_what_evaluation_and_inference_log_is_dropped():
    algorithm = make_config().evaluation(evaluation_interval=1).build()
    plain = make_config().build()
    key = "env_runners/connector_rows"
    assert algorithm.train()[key] == plain.train()[key]
    algorithm.evaluate()
    algorithm.policy.act(np.zeros(1, np.float32))
    assert algorithm.train()[key] == plain.train()[key]


class EvaluatesInItsStep(Base):
    def training_step(self):
        report = super().training_step()
        self.evaluate()
        return report


def test_evaluation_inside_a_training_step_does_not_log_either():
    key = "env_runners/connector_rows"
    assert EvaluatesInItsStep(make_config()).train()[key] == make_config().build().train()[key]


def test_a_key_that_every_result_has_is_not_replaced():
    class Careless(Callbacks):
        def on_sample_end(self, *, metrics, **kwargs):
            metrics.log_value("env_steps", 1.0)

    config = PPOConfig().environment(CountdownEnv).training(train_batch_size_per_learner=32, minibatch_size=32)
    algorithm = config.callbacks(callbacks_class=Careless).build()
    with pytest.raises(ValueError, match=r"metrics: \['env_steps'\] were logged, but every result has them"):
        algorithm.train()
    algorithm.stop()


def test_a_failed_training_step_leaves_no_logger_in_use():
    class Fails(Base):
        def training_step(self):
            raise KeyError

    algorithm = Fails(make_config())
    with pytest.raises(KeyError):
        algorithm.train()
    log_value("a", 1.0)
    assert algorithm.metrics.take() == {}


def test_a_connector_logs_from_the_thread_that_samples_beside_learning():
    rows = []
    for overlap in (False, True):
        algorithm = make_dqn_config(overlap_sampling=overlap).build()
        rows.append([algorithm.train()["env_runners/connector_rows"] for _ in range(3)])
        algorithm.stop()
    assert rows[0] == rows[1]


def test_a_connector_that_logs_passes_the_checks():
    check_connector(CountSteps(), Box(-1, 1, (3,)), Discrete(2))


class TimesItself(Base):
    def training_step(self):
        with self.metrics.timer("timers/whole_step_s"):
            report = super().training_step()
        self.metrics.log_value("steps_per_s", self.env_steps, reduce="throughput")
        self.metrics.log_value("best", report["learner/default/entropy"], reduce="max")
        self.metrics.log_image("map", np.zeros((2, 2)))
        return report


def test_a_training_step_logs_numbers_into_the_result_and_pictures_beside_it():
    algorithm = TimesItself(make_config())
    result = algorithm.train()
    assert 0 < result["timers/update_s"] < result["timers/whole_step_s"] < result["time_this_iter_s"]
    assert result["steps_per_s"] == pytest.approx(result["env_steps_per_s"])
    assert result["best"] == result["learner/default/entropy"]
    assert "map" not in result
    assert algorithm.metrics.media["map"].pixels.shape == (2, 2, 1)


def test_figures_that_last_go_on_after_a_restore(tmp_path):
    algorithm = make_config().build()
    algorithm.train()
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"), allow=(__name__.partition(".")[0],))
    for _ in range(2):
        np.testing.assert_equal(without_clocks(resumed.train()), without_clocks(algorithm.train()))


# Learner callbacks ----------------------------------------------------------------------------------------------------


class Watches(Callbacks):
    def __init__(self):
        self.calls = []

    def on_learner_update_end(self, *, learner, result, metrics):
        self.calls.append((learner.name, learner.version))
        metrics.log_value("updates", 1, reduce="lifetime_sum")
        result[f"learner/{learner.name}/seen"] = 1.0

    def on_algorithm_stop(self, *, algorithm):
        self.calls.append(("stop", algorithm.iteration))


@pytest.mark.parametrize("config", [make_config(PPOConfig), make_dqn_config()], ids=["ppo", "dqn"])
def test_the_learner_tells_after_each_update(config):
    algorithm = config.callbacks(callbacks_class=Watches).build()
    results = [algorithm.train() for _ in range(3)]
    algorithm.stop()
    (watches,) = algorithm.callbacks.members
    assert watches.calls == [("default", 1), ("default", 2), ("default", 3), ("stop", 3)]
    assert [result["updates"] for result in results] == [1.0, 2.0, 3.0]
    assert [result["learner/default/seen"] for result in results] == [1.0] * 3


def test_a_learner_that_nobody_listens_to_calls_nothing():
    config = make_config(PPOConfig).callbacks(callbacks_class=Callbacks)
    assert config.build().learner.on_update_end is None
