import math
import shutil
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch
from stateful_connectors import FrameStack, RunningMean

from rl_core import (
    A2CConfig,
    Algorithm,
    AlgorithmConfig,
    Callbacks,
    DQNConfig,
    Learner,
    ObsConnector,
    Policy,
    PPOConfig,
    RLModule,
)
from rl_core.errors import CheckpointError, ConfigError, EnvError, NonFiniteError
from rl_core.testing import check_algorithm
from rl_core.testing.check_algorithm import AlgorithmCheckError, without_clocks
from rl_core.testing.envs import CountdownEnv, LeavingSpaceEnv, NestedEnv, ObservationIsTimeEnv


class OwnModule(RLModule):
    def __init__(self, observation_space, action_space, *, size=8):
        super().__init__(observation_space, action_space)
        self.body = torch.nn.Linear(observation_space.shape[0], size)
        self.policy = torch.nn.Linear(size, self.distribution.num_inputs)
        self.value = torch.nn.Linear(size, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward_policy(self, obs, state=()):
        return self.policy(self.body(obs).relu()), state

    def forward_value(self, obs, state=()):
        return self.value(self.body(obs).relu()).squeeze(-1)


class EpisodeWatcher(Callbacks):
    """Logs figures that depend on whole episodes and on rollouts."""

    def on_episode_end(self, *, episode, metrics):
        metrics.log_value("custom/longest", len(episode.reward), reduce="max")
        metrics.log_value("custom/first_obs", float(np.sum(episode.obs[0])))

    def on_sample_end(self, *, rollout, metrics):
        metrics.log_value("custom/steps", rollout.env_steps, reduce="sum")

    def on_train_result(self, *, algorithm, result):
        result["custom/twice"] = 2 * result["training_iteration"]
        if algorithm.iteration % 2:
            algorithm.metrics.log_value("custom/carried", algorithm.iteration)


class Events(Callbacks):
    def __init__(self):
        self.seen = []

    def on_algorithm_init(self, *, algorithm):
        self.seen.append("init")

    def on_sample_end(self, *, rollout, metrics):
        self.seen.append("sample")

    def on_train_result(self, *, algorithm, result):
        self.seen.append("result")

    def on_evaluate_start(self, *, algorithm):
        self.seen.append("evaluate")

    def on_evaluate_end(self, *, algorithm, result):
        self.seen.append("evaluated")

    def on_checkpoint_saved(self, *, algorithm, path):
        self.seen.append(f"saved {path.name}")

    def on_checkpoint_loaded(self, *, algorithm, path):
        self.seen.append(f"loaded {path.name}")


def make_config(env="CartPole-v1", **training):
    settings = {"train_batch_size_per_learner": 96, "minibatch_size": 32, "num_epochs": 2, **training}
    config = PPOConfig().environment(env).env_runners(num_envs_per_env_runner=3).training(**settings)
    return config.rl_module(model_config={"fcnet_hiddens": [8]}).evaluation(evaluation_duration=3)


def train(algorithm, count=3):
    return [without_clocks(algorithm.train()) for _ in range(count)]


VARIANTS = {
    "discrete": make_config(),
    "continuous": make_config("Pendulum-v1").env_runners(num_envs_per_env_runner=2),
    "vector entry point": make_config().env_runners(gym_env_vectorize_mode="vector_entry_point"),
    "stateful connectors": make_config().env_runners(env_to_module_connector=(RunningMean(), FrameStack(2))),
    "nested": make_config(NestedEnv),
    "callbacks and evaluation": make_config()
    .callbacks(callbacks_class=EpisodeWatcher)
    .evaluation(evaluation_interval=2),
    "schedules and adaptive kl": make_config(
        lr=[[0, 1e-3], [500, 0]], entropy_coeff=[[0, 0.1], [300, 0.0]], kl_coeff=0.2, vf_clip_param=0.5, target_kl=0.1
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_ppo_conforms(name):
    check_algorithm(VARIANTS[name])


@pytest.mark.parametrize("mode", ["async", "async_shared_memory"])
def test_ppo_conforms_with_envs_in_worker_processes(mode):
    config = make_config(CountdownEnv).env_runners(gym_env_vectorize_mode=mode, num_envs_per_env_runner=2)
    check_algorithm(config.training(train_batch_size_per_learner=32, num_epochs=1))


def test_another_seed_gives_another_run():
    first, second = (train(make_config().debugging(seed=seed).build(), 1)[0] for seed in (0, 1))
    assert first["learner/default/total_loss"] != second["learner/default/total_loss"]


def test_torchs_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = train(make_config().build())
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    np.random.seed(7)
    np.testing.assert_equal(first, train(make_config().build()))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_resumed_run_is_bit_identical_including_weights(name, tmp_path):
    algorithm = VARIANTS[name].build()
    train(algorithm, 3)
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    assert type(resumed) is type(algorithm)
    assert resumed.iteration == 3
    for _ in range(3):
        np.testing.assert_equal(without_clocks(resumed.train()), without_clocks(algorithm.train()))
    for (key, one), two in zip(
        algorithm.policy.module.state_dict().items(), resumed.policy.module.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), key


def test_saving_does_not_disturb_the_run(tmp_path):
    plain, saving = make_config().build(), make_config().build()
    for iteration in range(3):
        saving.save(tmp_path / f"{iteration}")
        np.testing.assert_equal(train(saving, 1), train(plain, 1))


def test_a_checkpoint_before_the_first_iteration_resumes(tmp_path):
    algorithm = make_config().build()
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    np.testing.assert_equal(train(resumed), train(algorithm))


def test_a_checkpoint_saved_right_after_resuming_is_the_same(tmp_path):
    algorithm = VARIANTS["stateful connectors"].build()
    train(algorithm, 2)
    path = algorithm.save(tmp_path / "first")
    again = Algorithm.from_checkpoint(path).save(tmp_path / "second")
    for file in sorted(child for child in path.rglob("*") if child.is_file()):
        if "counters" not in file.parts and file.name != "manifest.json":
            assert file.read_bytes() == (again / file.relative_to(path)).read_bytes(), file
    assert Policy.from_checkpoint(again).shared[0]["count"] == Policy.from_checkpoint(path).shared[0]["count"] > 0


def test_restoring_forgets_the_episodes_of_the_run_before(tmp_path):
    fresh = make_config().build()
    path = fresh.save(tmp_path / "saved")
    other = make_config().build()
    train(other, 3)
    other.restore(path)
    assert other.num_episodes == 0
    np.testing.assert_equal(train(other, 2), train(fresh, 2))


# Results --------------------------------------------------------------------------------------------------------------

KEYS = """
training_iteration env_steps env_steps_per_s time_this_iter_s time_total_s
env_runners/episode_return_mean env_runners/episode_return_min env_runners/episode_return_max
env_runners/episode_len_mean env_runners/num_episodes env_runners/num_episodes_lifetime env_runners/env_steps_per_s
learner/default/total_loss learner/default/policy_loss learner/default/value_loss learner/default/entropy
learner/default/kl learner/default/clip_fraction learner/default/explained_variance learner/default/grad_norm
learner/default/lr learner/default/num_minibatches learner/default/stopped_early learner/default/policy_age
evaluation/episode_return_mean evaluation/episode_return_min evaluation/episode_return_max
evaluation/episode_return_std evaluation/episode_len_mean evaluation/num_episodes evaluation/training_iteration
timers/sample_s timers/update_s timers/publish_s timers/evaluate_s
"""


def test_keys_of_a_result_are_there_from_the_first_call_on():
    algorithm = make_config().evaluation(evaluation_interval=2).build()
    results = [algorithm.train() for _ in range(3)]
    assert set(KEYS.split()) <= set(results[0])
    assert set(results[0]) == set(results[1]) == set(results[2])
    assert math.isnan(results[0]["evaluation/episode_return_mean"])
    assert results[1]["evaluation/num_episodes"] == 3
    assert results[2]["evaluation/episode_return_mean"] == results[1]["evaluation/episode_return_mean"]
    assert [result["evaluation/training_iteration"] for result in results[1:]] == [2, 2]


def test_counts_add_up():
    algorithm = make_config(ObservationIsTimeEnv).env_runners(num_envs_per_env_runner=4).build()
    results = [algorithm.train() for _ in range(4)]
    assert [result["env_steps"] for result in results] == [96, 192, 288, 384]
    assert (
        sum(result["env_runners/num_episodes"] for result in results)
        == results[-1]["env_runners/num_episodes_lifetime"]
    )
    assert algorithm.env_steps == 384
    assert algorithm.iteration == 4
    assert 3 <= results[-1]["env_runners/episode_len_mean"] <= 5


def test_a_result_averages_over_the_last_episodes_only():
    config = make_config(CountdownEnv).env_runners(metrics_num_episodes_for_smoothing=1)
    result = config.build().train()
    assert result["env_runners/episode_return_mean"] == result["env_runners/episode_return_max"] == 5.0


def test_a_batch_that_the_slots_do_not_divide_is_rounded_up():
    config = make_config().training(train_batch_size_per_learner=100).env_runners(num_envs_per_env_runner=8)
    assert config.build().train()["env_steps"] == 104


# Evaluation -----------------------------------------------------------------------------------------------------------


def test_evaluation_plays_the_episodes_asked_for_and_repeats_its_figures_in_results():
    algorithm = make_config(CountdownEnv).build()
    result = algorithm.evaluate(num_episodes=7)
    assert result["evaluation/num_episodes"] == 7
    assert result["evaluation/episode_return_mean"] == result["evaluation/episode_len_mean"] == 5.0
    assert result["evaluation/episode_return_std"] == 0.0
    assert algorithm.evaluate()["evaluation/num_episodes"] == 3
    assert algorithm.train()["evaluation/num_episodes"] == 3


def test_evaluation_repeats_and_does_not_disturb_training():
    watched, plain = make_config().build(), make_config().build()
    for _ in range(3):
        assert watched.evaluate() == watched.evaluate()
        one, two = train(watched, 1)[0], train(plain, 1)[0]
        for key in one:
            if not key.startswith("evaluation/"):
                np.testing.assert_equal(one[key], two[key], err_msg=key)


def test_evaluation_uses_the_newest_statistics_and_leaves_them_frozen():
    algorithm = VARIANTS["stateful connectors"].build()
    algorithm.train()
    count = float(algorithm.policy.shared[0]["count"])
    algorithm.evaluate()
    assert algorithm.evaluator.runner.policy.shared[0]["count"] == count
    assert algorithm.policy.shared[0]["count"] == count
    algorithm.train()
    assert algorithm.policy.shared[0]["count"] == count + 96


@pytest.mark.parametrize("number", [0, -1])
def test_evaluating_no_episodes_is_refused(number):
    with pytest.raises(ValueError, match=f"got num_episodes={number}, expected at least 1"):
        make_config().build().evaluate(num_episodes=number)


# Callbacks and own code -----------------------------------------------------------------------------------------------


def test_callbacks_hear_every_event_in_order(tmp_path):
    algorithm = make_config().callbacks(callbacks_class=Events).build()
    (events,) = algorithm.callbacks.members
    algorithm.train()
    algorithm.evaluate()
    algorithm.restore(algorithm.save(tmp_path / "a"))
    expected = ["init", "sample", "result", "evaluate", "evaluated", "saved a", "loaded a"]
    assert events.seen == expected


def test_figures_logged_by_callbacks_are_in_the_results():
    algorithm = make_config(CountdownEnv).callbacks(callbacks_class=EpisodeWatcher).build()
    result = algorithm.train()
    assert result["custom/longest"] == 5
    assert result["custom/first_obs"] == 1.0
    assert result["custom/steps"] == 96
    assert result["custom/twice"] == 2
    assert algorithm.train()["custom/carried"] == 1


def test_episodes_are_not_put_together_where_nobody_listens():
    assert make_config().callbacks(callbacks_class=Events).build().env_runner._recorder is None
    assert make_config().callbacks(callbacks_class=EpisodeWatcher).build().env_runner._recorder is not None


def test_keys_that_callbacks_logged_stay_after_resuming(tmp_path):
    algorithm = make_config(CountdownEnv).callbacks(callbacks_class=EpisodeWatcher).build()
    keys = set(algorithm.train())
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    assert keys <= set(resumed.train())


def test_an_own_module_class_trains_saves_and_resumes(tmp_path):
    config = make_config().rl_module(module_class=OwnModule, model_config={"size": 5})
    check_algorithm(config)
    path = config.build().save(tmp_path / "saved")
    assert Policy.from_checkpoint(path).module.body.out_features == 5


def test_an_own_module_instance_trains_and_is_restored_into_the_same_config(tmp_path):
    space = gymnasium.make("CartPole-v1")
    module = OwnModule(space.observation_space, space.action_space)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    config = make_config().rl_module(module_class=module, model_config={})
    algorithm = config.build()
    train(algorithm, 2)
    path = algorithm.save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="An instance of .*:OwnModule was given to the config"):
        Algorithm.from_checkpoint(path)
    twin = config.build()
    twin.restore(path)
    np.testing.assert_equal(train(twin, 2), train(algorithm, 2))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items()), "it was copied"


@pytest.mark.parametrize(
    ("module", "model_config", "message"),
    [
        (OwnModule, {"sizes": 3}, r"module_class OwnModule cannot be made with .*sizes"),
        (torch.nn.Linear, {}, "expected a class or instance derived from RLModule"),
        ("OwnModule", {}, "expected a class or instance derived from RLModule"),
    ],
)
def test_what_cannot_be_built_as_a_module_is_refused(module, model_config, message):
    with pytest.raises(ConfigError, match=message):
        make_config().rl_module(module_class=module, model_config=model_config).build()


class TwoRolloutsPerIteration(Algorithm):
    def training_step(self):
        self.learner.update(self.sample())
        return super().training_step()


def test_a_training_step_of_ones_own_is_a_subclass():
    algorithm = TwoRolloutsPerIteration(make_config())
    result = algorithm.train()
    assert result["env_steps"] == 192
    assert result["learner/default/policy_age"] == 1.0, "the second rollout was sampled before the first was learned"
    assert algorithm.train()["training_iteration"] == 2


@dataclass(frozen=True)
class HalfObs(ObsConnector):
    def output_space(self, observation_space, action_space):
        return gymnasium.spaces.Box(-np.inf, np.inf, observation_space.shape)

    def __call__(self, state, step):
        from dataclasses import replace

        return state, replace(step, obs=step.obs / 2)


def test_connectors_change_what_the_module_sees():
    plain, halved = make_config().build(), make_config().env_runners(env_to_module_connector=[HalfObs()]).build()
    assert torch.equal(plain.sample().obs[0] / 2, halved.sample().obs[0])


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_an_env_that_leaves_its_space_is_refused_at_build_or_in_the_first_rollout():
    with pytest.raises(EnvError, match="observation"):
        make_config(LeavingSpaceEnv).build().train()


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"learners\.device: got 'nonsense', which torch cannot use here"):
        make_config().learners(device="nonsense").build()
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"learners\.device: got 'cuda:7'"):
            make_config().learners(device="cuda:7").build()


def test_numbers_that_are_not_finite_stop_the_run_with_the_last_good_weights():
    algorithm = make_config(lr=1e30, grad_clip=None).build()
    with pytest.raises(NonFiniteError, match="lower lr"):
        for _ in range(20):
            algorithm.train()
    assert all(parameter.isfinite().all() for parameter in algorithm.policy.module.parameters())


def snapshot(algorithm):
    weights = [tensor.clone() for tensor in algorithm.policy.module.state_dict().values()]
    learned = [tensor.clone() for tensor in algorithm.learner.module.state_dict().values()]
    return weights + learned + [algorithm.learner.optimizer.mean.clone(), algorithm.learner.generator.get_state()]


class OtherCartPole(gymnasium.Wrapper):
    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.observation_space = gymnasium.spaces.Box(-100, 100, (4,), np.float32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (make_config("MountainCar-v0"), "is of another env: the observation space of policy 'default' differs"),
        (make_config("Acrobot-v1"), "is of another env: the observation space"),
        (make_config(OtherCartPole), "is of another env: the observation space"),
        (
            make_config().rl_module(model_config={"fcnet_hiddens": [9]}),
            r"weights of policy 'default' do not fit .*has shape",
        ),
        (make_config().rl_module(model_config={"fcnet_hiddens": [8, 8]}), "is missing|is not in this module"),
        (
            make_config().env_runners(env_to_module_connector=(RunningMean(),)),
            "Observation connector 0 of the checkpoint is none, of this run RunningMean",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_algorithm_goes_on_unchanged(tmp_path, config, message):
    saved = make_config().build()
    saved.train()
    path = saved.save(tmp_path / "saved")
    algorithm, twin = config.build(), config.build()
    train(algorithm, 2)
    train(twin, 2)
    before = snapshot(algorithm)
    with pytest.raises(CheckpointError, match=message):
        algorithm.restore(path)
    assert algorithm.iteration == 2
    for old, new in zip(before, snapshot(algorithm), strict=True):
        assert torch.equal(old, new)
    np.testing.assert_equal(train(algorithm, 2), train(twin, 2))


@pytest.mark.parametrize("other", [A2CConfig, DQNConfig])
def test_a_checkpoint_of_another_algorithm_is_refused_by_name(tmp_path, other):
    saved = make_config().build()
    path = saved.save(tmp_path / "saved")
    algorithm = other().environment("CartPole-v1").rl_module(model_config={"fcnet_hiddens": [8]}).build()
    with pytest.raises(
        CheckpointError, match=f"of the algorithm 'ppo', this run is of '{other.name}'.*from_checkpoint"
    ):
        algorithm.restore(path)


def test_a_run_with_other_settings_says_which_and_goes_on_with_them(tmp_path):
    saved = make_config(lr=0.001).build()
    path = saved.save(tmp_path / "saved")
    assert saved.restore(path) == {}
    own = make_config(lr=[[0, 0.01], [10, 0.0]]).debugging(seed=5).rl_module(model_config={"fcnet_activation": "relu"})
    own.env_runners(metrics_num_episodes_for_smoothing=7)
    assert own.build().restore(path) == {
        "training.lr": (0.001, [[0.0, 0.01], [10.0, 0.0]]),
        "rl_module.model_config.fcnet_activation": ("tanh", "relu"),
        "debugging.seed": (0, 5),
        "env_runners.metrics_num_episodes_for_smoothing": (100, 7),
    }
    nameless = make_config(lr=0.001).environment(lambda config: gymnasium.make("CartPole-v1"))  # has no stored form
    ((name, (before, now)),) = nameless.build().restore(path).items()
    assert (name, before) == ("environment.env", "CartPole-v1")
    assert "lambda" in now


@pytest.mark.parametrize("component", ["counters", "runners/0", "learners/default", "policies/default"])
def test_a_failed_restore_never_applies_half(tmp_path, component, monkeypatch):
    """A checkpoint whole by its hashes but with a part of another shape."""
    from rl_core import checkpoint

    saved = make_config().debugging(seed=3).build()
    train(saved, 2)
    path = saved.save(tmp_path / "saved")
    real = checkpoint.Checkpoint.load

    def damaged(self, name):
        state = real(self, name)
        if name == component:
            state = dict(state)
            state.pop(
                {"counters": "lengths", "runners/0": "open_length", "learners/default": "adaptive"}.get(name, "tensors")
            )
        return state

    algorithm, twin = make_config().build(), make_config().build()
    train(algorithm, 1)
    train(twin, 1)
    monkeypatch.setattr(checkpoint.Checkpoint, "load", damaged)
    with pytest.raises(CheckpointError, match="malformed or does not fit"):
        algorithm.restore(path)
    monkeypatch.undo()
    np.testing.assert_equal(train(algorithm, 2), train(twin, 2))


def test_a_damaged_checkpoint_changes_nothing(tmp_path):
    algorithm, twin = make_config().build(), make_config().build()
    train(algorithm, 1)
    train(twin, 1)
    path = algorithm.save(tmp_path / "saved")
    for number, file in enumerate(sorted(child for child in path.rglob("*") if child.is_file())):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(path, copy)
        (copy / file.relative_to(path)).write_bytes(file.read_bytes()[:-7])
        with pytest.raises(CheckpointError, match="damaged"):
            algorithm.restore(copy)
        with pytest.raises(CheckpointError, match="damaged"):
            Algorithm.from_checkpoint(copy)
    np.testing.assert_equal(train(algorithm, 2), train(twin, 2))


def test_a_lambda_as_env_trains_but_cannot_be_saved(tmp_path):
    algorithm = make_config(lambda config: gymnasium.make("CartPole-v1")).build()
    algorithm.train()
    with pytest.raises(ConfigError, match=r"environment\.env: a lambda cannot be stored"):
        algorithm.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_stopping_twice_is_fine():
    algorithm = make_config().build()
    algorithm.evaluate()
    algorithm.stop()
    algorithm.stop()


# The conformance check itself -----------------------------------------------------------------------------------------


class ChangingKeys(Callbacks):
    def on_train_result(self, *, algorithm, result):
        result[f"iteration_{algorithm.iteration}"] = 1


class Drifting(Callbacks):
    runs = 0

    def on_train_result(self, *, algorithm, result):
        Drifting.runs += 1
        result["drift"] = Drifting.runs


class NotNumbers(Callbacks):
    def on_train_result(self, *, algorithm, result):
        result["word"] = "x"


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (ChangingKeys, r"train\(\) returned \['iteration_1'\] once and then no more"),
        (Drifting, r"Two runs with the same seed differ: drift of call 0 is 3, expected 1"),
        (NotNumbers, r"train\(\) returned word = 'x', expected a number"),
    ],
)
def test_check_algorithm_names_the_rule_that_is_broken(callbacks, message):
    Drifting.runs = 0
    with pytest.raises(AlgorithmCheckError, match=message):
        check_algorithm(make_config().callbacks(callbacks_class=callbacks))


def test_check_algorithm_refuses_a_config_that_cannot_be_stored():
    with pytest.raises(AlgorithmCheckError, match="does not survive JSON: environment.env"):
        check_algorithm(make_config(lambda config: gymnasium.make("CartPole-v1")))


def test_configs_and_learners_are_the_public_types():
    algorithm = make_config().build()
    assert isinstance(algorithm.config, AlgorithmConfig)
    assert isinstance(algorithm.learner, Learner)
    assert isinstance(algorithm.policy, Policy)


def test_evaluation_by_a_function_of_the_users_own():
    def count_slots(algorithm, runner):
        (slots,) = runner.call_each(lambda one: one.env.num_envs)
        return {"slots": slots, "episode_return_mean": 7.0}

    algorithm = make_config().evaluation(custom_evaluation_function=count_slots, evaluation_interval=1).build()
    result = algorithm.train()
    algorithm.stop()
    assert result["evaluation/slots"] == 3
    assert result["evaluation/episode_return_mean"] == 7.0
    assert result["evaluation/training_iteration"] == 1
    assert math.isnan(result["evaluation/num_episodes"])


@pytest.mark.parametrize("num_steps", [1, 7, 100])
def test_evaluation_counts_steps_exactly(num_steps):
    algorithm = make_config().evaluation(evaluation_duration=num_steps, evaluation_duration_unit="timesteps").build()
    result = algorithm.evaluate()
    algorithm.stop()
    assert result["evaluation/num_env_steps"] == num_steps
    assert (
        result["evaluation/num_episodes"] * max(result["evaluation/episode_len_mean"], 0) <= num_steps
        or not (result["evaluation/num_episodes"])
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluation_parallel_to_training": True}, "evaluation_num_env_runners=0"),
        ({"evaluation_duration": "auto"}, "lasts as long as training"),
    ],
)
def test_evaluation_settings_that_do_not_go_together(settings, words):
    with pytest.raises(ConfigError, match=words):
        make_config().evaluation(**settings)
