"""Sections `reporting` and `evaluation`, optimizers of one's own, and parts of a module that only learn."""

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from rl_core import Algorithm, Callbacks, Policy, PPOConfig, RLModule
from rl_core.errors import CheckpointError, ConfigError
from rl_core.learning.torch_optimizer import TorchOptimizer
from rl_core.testing import check_algorithm
from rl_core.testing.check_algorithm import without_clocks
from rl_core.testing.envs import CountdownEnv, ObservationIsTimeEnv


def make_config(env=CountdownEnv, **training):
    settings = {"train_batch_size_per_learner": 48, "minibatch_size": 16, "num_epochs": 2, **training}
    config = PPOConfig().environment(env).env_runners(num_envs_per_env_runner=3).training(**settings)
    return config.rl_module(model_config={"fcnet_hiddens": [8]}).evaluation(evaluation_duration=3)


# Reporting ------------------------------------------------------------------------------------------------------------


class Counting(Callbacks):
    def __init__(self):
        self.results, self.rollouts = 0, 0

    def on_sample_end(self, *, rollout, metrics):
        self.rollouts += 1
        metrics.log_value("custom/steps", rollout.env_steps, reduce="sum")

    def on_train_result(self, *, algorithm, result):
        self.results += 1


@pytest.mark.parametrize(("least", "times"), [(0, 1), (1, 1), (48, 1), (49, 2), (96, 2), (100, 3)])
def test_train_repeats_its_training_step_until_it_has_the_env_steps(least, times):
    config = make_config().reporting(min_sample_timesteps_per_iteration=least).callbacks(callbacks_class=Counting)
    algorithm = config.build()
    for iteration in (1, 2):
        result = algorithm.train()
        assert result["training_iteration"] == iteration
        assert result["env_steps"] == 48 * times * iteration
        assert result["custom/steps"] == 48 * times
    (counting,) = algorithm.callbacks.members
    assert (counting.results, counting.rollouts) == (2, 2 * times)
    assert algorithm.learner.version == 2 * times, "as many updates as rollouts"


def test_figures_of_an_iteration_are_means_over_its_training_steps():
    single = make_config("CartPole-v1", lr=[[0, 1e-3], [500, 0]]).build()
    reports = [single.train() for _ in range(3)]
    config = make_config("CartPole-v1", lr=[[0, 1e-3], [500, 0]])
    result = config.reporting(min_sample_timesteps_per_iteration=144).build().train()
    for key in reports[0]:
        if key.startswith("learner/"):
            known = [report[key] for report in reports if not math.isnan(report[key])]
            assert result[key] == pytest.approx(np.mean(known)), key
    assert result["learner/default/lr"] == pytest.approx(1e-3 * (1 - 48 / 500))
    for key in ("env_runners/episode_return_mean", "env_runners/num_episodes_lifetime", "env_steps"):
        assert result[key] == reports[-1][key], "as after three iterations of one step each"


def test_episodes_of_all_training_steps_are_counted():
    result = make_config(CountdownEnv).reporting(min_sample_timesteps_per_iteration=144).build().train()
    assert result["env_runners/num_episodes"] == result["env_runners/num_episodes_lifetime"] == 3 * (48 // 5)


def test_evaluation_counts_iterations_and_not_training_steps():
    config = make_config().reporting(min_sample_timesteps_per_iteration=144).evaluation(evaluation_interval=2)
    algorithm = config.build()
    results = [algorithm.train() for _ in range(2)]
    assert math.isnan(results[0]["evaluation/training_iteration"])
    assert results[1]["evaluation/training_iteration"] == 2


def test_ppo_with_a_least_number_of_env_steps_conforms():
    check_algorithm(make_config("CartPole-v1").reporting(min_sample_timesteps_per_iteration=100))


class SamplesNothing(Algorithm):
    def training_step(self):
        return {}


class SamplesOnce(Algorithm):
    def training_step(self):
        if self.env_steps == 0:
            self.sample()
        return {}


@pytest.mark.parametrize("kind", [SamplesNothing, SamplesOnce])
def test_a_training_step_that_does_not_sample_is_refused_where_steps_are_asked_for(kind):
    config = make_config().reporting(min_sample_timesteps_per_iteration=100)
    with pytest.raises(ConfigError, match=r"timesteps_per_iteration=100, but training_step\(\) did not sample"):
        kind(config).train()
    kind(make_config()).train()


# Evaluation -----------------------------------------------------------------------------------------------------------


class Recorded(CountdownEnv):
    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **settings):
        super().__init__(**settings)
        Recorded.made.append(settings)


def test_the_env_of_evaluation_has_settings_of_its_own_over_those_of_training():
    config = make_config().environment(Recorded, env_config={"length": 4, "end": "truncated"})
    config.evaluation(evaluation_env_config={"length": 9})
    algorithm = config.build()
    result = algorithm.train()
    assert result["env_runners/episode_len_mean"] == 4
    Recorded.made.clear()
    assert algorithm.evaluate()["evaluation/episode_len_mean"] == 9
    assert Recorded.made == [{"length": 9, "end": "truncated"}] * 3, "what is not named stays"
    assert algorithm.train()["env_runners/episode_len_mean"] == 4
    assert algorithm.config.environment.env_config == {"length": 4, "end": "truncated"}


def test_ppo_with_another_env_config_in_evaluation_conforms():
    check_algorithm(make_config().evaluation(evaluation_env_config={"length": 2}, evaluation_interval=1))


# Optimizers of one's own ----------------------------------------------------------------------------------------------


def adam(parameters, settings):
    return torch.optim.Adam(parameters.values(), lr=settings.lr, eps=settings.adam_epsilon)


def one_for_each_network(parameters, settings):
    policy = [parameter for name, parameter in parameters.items() if name.startswith("policy")]
    value = [parameter for name, parameter in parameters.items() if name.startswith("value")]
    return [torch.optim.RMSprop(policy, lr=1e-3), torch.optim.AdamW(value, lr=5e-3, weight_decay=0.01)]


def halve_every_third(optimizer):
    return lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)


def decay(optimizer):
    return lr_scheduler.ExponentialLR(optimizer, gamma=0.9)


def milestones(optimizer):
    return lr_scheduler.MultiStepLR(optimizer, milestones=[2, 20], gamma=0.1)


TRUSTED = (__name__.partition(".")[0],)
LEARNERS = {
    "optimizer": {"optimizer_fn": adam},
    "optimizer and schedulers": {"optimizer_fn": adam, "lr_scheduler_fns": (halve_every_third, decay)},
    "schedulers": {"lr_scheduler_fns": (decay,)},
    "milestones": {"lr_scheduler_fns": (milestones,)},
    "two optimizers": {"optimizer_fn": one_for_each_network, "lr_scheduler_fns": (decay,)},
}


@pytest.mark.parametrize("learners", LEARNERS.values(), ids=LEARNERS)
def test_ppo_with_optimizers_and_schedulers_of_ones_own_conforms(learners):
    check_algorithm(make_config("CartPole-v1", lr=1e-3).learners(**learners))


def test_the_learning_rate_that_schedulers_give_is_reported():
    config = make_config(lr=1e-3).learners(optimizer_fn=adam, lr_scheduler_fns=(halve_every_third, decay))
    algorithm = config.build()
    assert isinstance(algorithm.learner.optimizer, TorchOptimizer)
    rates = [algorithm.train()["learner/default/lr"] for _ in range(3)]
    last = [5, 11, 17]  # six optimizer steps in an iteration; the last one's rate is reported
    assert rates == pytest.approx([1e-3 * 0.5 ** (step // 3) * 0.9**step for step in last])


@pytest.mark.parametrize("learners", LEARNERS.values(), ids=LEARNERS)
def test_a_run_with_optimizers_of_ones_own_resumes_bit_for_bit(learners, tmp_path):
    algorithm = make_config("CartPole-v1", lr=1e-2).learners(**learners).build()
    before = {key: tensor.clone() for key, tensor in algorithm.learner.module.state_dict().items()}
    for _ in range(2):
        algorithm.train()
    assert all(not torch.equal(before[key], new) for key, new in algorithm.learner.module.state_dict().items())
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"), allow=TRUSTED)
    for _ in range(3):
        np.testing.assert_equal(without_clocks(resumed.train()), without_clocks(algorithm.train()))
    for key, tensor in algorithm.learner.module.state_dict().items():
        assert torch.equal(tensor, resumed.learner.module.state_dict()[key]), key


def test_adam_of_ones_own_trains_as_the_default_does():
    plain, own = make_config("CartPole-v1").build(), make_config("CartPole-v1").learners(optimizer_fn=adam).build()
    for _ in range(2):
        one, two = plain.train(), own.train()
        for key in ("total_loss", "entropy", "grad_norm", "lr"):
            assert one[f"learner/default/{key}"] == pytest.approx(two[f"learner/default/{key}"], rel=1e-3)


def test_a_checkpoint_of_another_optimizer_is_refused_and_the_algorithm_goes_on_unchanged(tmp_path):
    saved = make_config("CartPole-v1").learners(optimizer_fn=adam).build()
    saved.train()
    path = saved.save(tmp_path / "saved")
    for learners in ({}, {"optimizer_fn": one_for_each_network}):
        algorithm, twin = (make_config("CartPole-v1").learners(**learners).build() for _ in range(2))
        algorithm.train()
        twin.train()
        with pytest.raises(CheckpointError, match="Optimiser state|saved optimizers are others"):
            algorithm.restore(path)
        np.testing.assert_equal(without_clocks(algorithm.train()), without_clocks(twin.train()))


def test_a_schedule_together_with_schedulers_is_refused_when_the_algorithm_is_built():
    with pytest.raises(ConfigError, match=r"lr: got the schedule .* expected one of the two"):
        make_config(lr=[[0, 1e-3], [100, 0]]).learners(lr_scheduler_fns=(decay,)).build()


# Parts that only learn ------------------------------------------------------------------------------------------------


class WithCritic(RLModule):
    """The value function is the learner's alone."""

    learner_only = ("critic",)

    def __init__(self, observation_space, action_space, *, size=8):
        super().__init__(observation_space, action_space)
        self.policy = torch.nn.Linear(observation_space.shape[0], self.distribution.num_inputs)
        self.critic = torch.nn.Sequential(
            torch.nn.Linear(observation_space.shape[0], size), torch.nn.Tanh(), torch.nn.Linear(size, 1)
        )
        self.critic.register_buffer("scale", torch.ones(()))
        self.critic_free = torch.nn.Linear(1, 1).requires_grad_(False)

    def forward_policy(self, obs, state=()):
        return self.policy(obs), state

    def forward_value(self, obs, state=()):
        return self.critic(obs).squeeze(-1) * self.critic.scale


def with_critic():
    return make_config("CartPole-v1").rl_module(module_class=WithCritic, model_config={"size": 5})


PUBLISHED = {"policy.weight", "policy.bias", "critic_free.weight", "critic_free.bias"}


def test_a_module_with_parts_of_the_learner_alone_conforms():
    check_algorithm(with_critic())


def test_parts_of_the_learner_alone_are_not_published_and_not_in_policies(tmp_path):
    algorithm = with_critic().build()
    before = algorithm.learner.module.critic[0].weight.clone()
    algorithm.train()
    assert not torch.equal(before, algorithm.learner.module.critic[0].weight), "it is trained"
    assert set(algorithm.learner.weights().tensors) == PUBLISHED
    assert set(algorithm.policy.module.state_dict()) == PUBLISHED
    assert not hasattr(algorithm.policy.module, "critic")
    exported = Policy.from_checkpoint(algorithm.save(tmp_path / "saved"))
    assert set(exported.module.state_dict()) == PUBLISHED
    assert exported.act(np.zeros(4, np.float32))[0] in (0, 1)


def test_parts_of_the_learner_alone_are_saved_with_the_learner(tmp_path):
    algorithm = with_critic().build()
    algorithm.train()
    hidden = algorithm.learner.get_state()["learner_only"]
    assert {name.split(".")[0] for name in hidden} == {"critic"}
    assert "critic.scale" in hidden, "buffers too"
    path = algorithm.save(tmp_path / "saved")
    other = with_critic().debugging(seed=7).build()
    other.restore(path)
    for resumed in (Algorithm.from_checkpoint(path), other):
        for key, tensor in algorithm.learner.module.state_dict().items():
            assert torch.equal(tensor, resumed.learner.module.state_dict()[key]), key
    np.testing.assert_equal(without_clocks(other.train()), without_clocks(algorithm.train()))


def test_an_instance_keeps_the_parts_that_only_learn():
    env = ObservationIsTimeEnv()
    module = WithCritic(env.observation_space, env.action_space)
    algorithm = make_config(ObservationIsTimeEnv).rl_module(module_class=module, model_config={}).build()
    assert torch.equal(algorithm.learner.module.critic[0].weight, module.critic[0].weight)
    algorithm.train()
    assert hasattr(module, "critic"), "the instance given was copied"
