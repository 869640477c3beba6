import copy
import json
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest

from rl_core import Learner, ModelSettings, PPOConfig, RLModule
from rl_core.config.check import Range, Settings
from rl_core.config.section import Section
from rl_core.config.settings import EnvRunnerSettings
from rl_core.errors import ConfigError
from rl_core.module.spec import ModuleSpec


def test_set_changes_a_setting_by_its_dotted_name():
    config = PPOConfig().set("training.lr", 1e-2).set("environment.env", "A-v0").set("debugging.seed", 3)
    assert (config.training.lr, config.environment.env, config.debugging.seed) == (1e-2, "A-v0", 3)


def test_set_reaches_into_the_model_config():
    config = PPOConfig().set("rl_module.model_config.fcnet_hiddens", [8, 8])
    assert config.rl_module.model_config == ModelSettings(fcnet_hiddens=(8, 8))
    config.set("rl_module.model_config.fcnet_activation", "relu")
    assert config.rl_module.model_config == ModelSettings(fcnet_hiddens=(8, 8), fcnet_activation="relu")


def test_set_reaches_into_nested_mappings_and_makes_what_is_missing():
    config = PPOConfig().environment("A", env_config={"a": {"b": 1}})
    config.set("environment.env_config.a.c", 2).set("environment.env_config.x.y", 3)
    assert config.environment.env_config == {"a": {"b": 1, "c": 2}, "x": {"y": 3}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trainin.lr", r"there is no section 'trainin'\. Did you mean 'training'\?"),
        ("lr", r"lr: there is no section 'lr'\. Write training\.lr\."),
        ("training", "name a setting of this section: .*lr"),
        ("training.lrr", r"there is no setting 'lrr'\. Did you mean .*'lr'"),
        ("training.seed", r"It belongs to debugging\(\)"),
        ("training.lr.x", r"training\.lr\.x: training\.lr is 0\.0003 and has no settings inside"),
        ("training.lrr.x", "there is no setting 'lrr'"),
        ("rl_module.model_config.hiddens", "there is no setting 'hiddens'"),
        ("", "there is no section ''"),
        (".", "there is no section ''"),
        ("training.", "there is no setting ''"),
    ],
)
def test_set_refuses_unknown_names_and_says_where_they_would_be(name, message):
    config = PPOConfig()
    with pytest.raises(ConfigError, match=message):
        config.set(name, 1)
    assert config.diff() == {}


def test_set_refuses_a_value_that_does_not_fit():
    with pytest.raises(ConfigError, match=r"training\.gamma: got 3, expected a number >= 0 and <= 1|got 3.0"):
        PPOConfig().set("training.gamma", 3)


def test_a_copy_changes_apart_from_its_original():
    original = PPOConfig().training(lr=0.1)
    twin = original.copy().training(lr=0.2)
    assert (original.training.lr, twin.training.lr) == (0.1, 0.2)
    original.debugging(seed=5)
    assert twin.debugging.seed == 0


def test_a_copy_does_not_share_mappings_with_its_original():
    given = {"a": {"b": 1}}
    original = PPOConfig().environment("A", env_config=given)
    twin = original.copy()
    given["a"]["b"] = 2
    original.environment.env_config["c"] = 3
    assert twin.environment.env_config == {"a": {"b": 1}}


def test_defaults_are_not_shared_between_configs():
    PPOConfig().environment.env_config["leak"] = 1
    assert PPOConfig().environment.env_config == {}


def test_a_built_algorithm_keeps_its_config():
    config = PPOConfig().environment("CartPole-v1").env_runners(num_envs_per_env_runner=1)
    algorithm = config.build()
    config.training(lr=0.5)
    assert algorithm.config.training.lr == 3e-4
    algorithm.stop()


def test_diff_names_what_differs_from_the_defaults():
    config = PPOConfig().environment("A-v0").training(lr=0.1, gamma=0.99)
    assert config.diff() == {"environment.env": "A-v0", "training.lr": 0.1}
    assert PPOConfig().diff() == {}


def test_settings_inside_settings_show_only_what_differs_under_names_that_set_takes():
    config = PPOConfig().rl_module(model_config={"fcnet_hiddens": (8,)})
    assert config.diff() == {"rl_module.model_config.fcnet_hiddens": (8,)}
    twin = PPOConfig()
    for name, value in config.diff().items():
        twin.set(name, value)
    assert twin.to_dict() == config.to_dict()


def test_diff_of_a_value_that_cannot_be_compared_names_it():
    config = PPOConfig().environment("A-v0", env_config={"map": np.zeros(3)})
    assert "environment.env_config" in config.diff()
    assert "map" in repr(config)


def test_a_config_prints_as_what_differs():
    assert repr(PPOConfig().training(lr=0.1)) == "PPOConfig(training.lr=0.1)"
    assert repr(PPOConfig()) == "PPOConfig()"


def test_use_refuses_what_is_no_extension():
    with pytest.raises(TypeError, match=r"use\(\): got 3, expected an instance of a class derived from Extension"):
        PPOConfig().use(3)


def test_a_config_without_an_env_cannot_be_built():
    with pytest.raises(ConfigError, match=r"Call config\.environment\('CartPole-v1'\)"):
        PPOConfig().build()


def test_a_config_can_be_copied_deeply():
    config = PPOConfig().training(lr=0.1)
    assert copy.deepcopy(config).to_dict() == config.to_dict()


# Nested settings, defaults of an algorithm, and what a config makes ---------------------------------------------------


class Own(RLModule):
    def forward_policy(self, obs, state=()):
        raise NotImplementedError

    def forward_value(self, obs, state=()):
        raise NotImplementedError


class Other(Own):
    pass


def test_a_mapping_changes_only_what_it_names_of_nested_settings():
    config = PPOConfig().rl_module(model_config={"fcnet_hiddens": [8]})
    config.rl_module(model_config={"fcnet_activation": "relu"})
    assert config.rl_module.model_config == ModelSettings(fcnet_hiddens=(8,), fcnet_activation="relu")
    config.rl_module(model_config=ModelSettings(use_lstm=True))
    assert config.rl_module.model_config == ModelSettings(use_lstm=True), "settings replace all of them"
    config.rl_module(model_config={})
    assert config.rl_module.model_config == ModelSettings(use_lstm=True)


def test_keyword_arguments_of_an_own_module_are_replaced_as_a_whole():
    config = PPOConfig().rl_module(module_class=Own, model_config={"a": 1})
    config.rl_module(model_config={"b": 2})
    assert config.rl_module.model_config == {"b": 2}


def test_another_module_class_forgets_the_settings_of_the_one_before():
    config = PPOConfig().rl_module(model_config={"fcnet_hiddens": [8]})
    assert config.rl_module(module_class=Own).rl_module.model_config == {}
    config.rl_module(model_config={"a": 1})
    assert config.rl_module(module_class=Own).rl_module.model_config == {"a": 1}, "the same class keeps them"
    assert config.rl_module(module_class=Other).rl_module.model_config == {}
    assert config.rl_module(module_class=Own, model_config={"b": 2}).rl_module.model_config == {"b": 2}
    assert config.rl_module(module_class=None).rl_module.model_config == ModelSettings()
    assert config.set("rl_module.module_class", Own).rl_module.model_config == {}


def test_module_settings_survive_json():
    for settings in ({"model_config": {"fcnet_hiddens": [8]}}, {"module_class": Own, "model_config": {"a": 1}}):
        config = PPOConfig().rl_module(**settings)
        back = PPOConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert back.rl_module.settings == config.rl_module.settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner(Settings):
    number: Annotated[int, Range(ge=1)] = 1
    word: str = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer(Settings):
    inner: Inner = Inner()
    rate: float = 0.5


class NestedConfig(PPOConfig):
    nested = Section(Outer, rate=0.25, inner=Inner(number=3))
    env_runners = Section(EnvRunnerSettings, num_envs_per_env_runner=1)


def test_a_section_has_the_defaults_of_its_config():
    config = NestedConfig()
    assert config.nested.settings == Outer(rate=0.25, inner=Inner(number=3))
    assert config.env_runners.num_envs_per_env_runner == 1
    assert PPOConfig().env_runners.num_envs_per_env_runner == 8
    assert config.diff() == {}
    assert config.nested(rate=0.5).diff() == {"nested.rate": 0.5}, "the dataclass's own default is a change here"


def test_defaults_of_a_config_may_be_mappings_and_are_checked():
    class Right(PPOConfig):
        nested = Section(Outer, inner={"word": "b"})

    class Wrong(PPOConfig):
        nested = Section(Outer, inner={"number": 0})

    assert Right().nested.inner == Inner(word="b")
    with pytest.raises(ConfigError, match=r"inner\.number: got 0, expected a number >= 1"):
        Wrong()


def test_nested_settings_are_changed_by_mapping_by_dotted_name_and_checked():
    config = NestedConfig().nested(inner={"word": "b"})
    assert config.nested.inner == Inner(number=3, word="b")
    config.set("nested.inner.number", 5)
    assert config.nested.settings == Outer(rate=0.25, inner=Inner(number=5, word="b"))
    for wrong, message in (({"number": 0}, r"nested\.inner\.number: got 0"), ({"wrod": "c"}, "Did you mean 'word'")):
        with pytest.raises(ConfigError, match=message):
            config.nested(inner=wrong)
    assert config.nested.inner == Inner(number=5, word="b")


def test_the_steps_of_a_rollout_follow_from_batch_and_slots():
    config = PPOConfig().training(train_batch_size_per_learner=100).env_runners(num_envs_per_env_runner=8)
    config.training(minibatch_size=10)
    assert config.num_rollout_steps() == 13, "rounded up"
    config.env_runners(rollout_fragment_length=12)
    with pytest.raises(ConfigError, match="num_envs_per_env_runner=8 is 96, but train_batch_size_per_learner=100"):
        config.num_rollout_steps()
    assert config.training(train_batch_size_per_learner=96).num_rollout_steps() == 12


def test_the_module_spec_is_that_of_the_section():
    assert PPOConfig().module_spec().model_config == ModelSettings()
    spec = PPOConfig().rl_module(module_class=Own, model_config={"a": 1}).module_spec()
    assert (spec.module_class, dict(spec.model_config)) == (Own, {"a": 1})


class WatchedLearner(Learner):
    pass


class LinearConfig(PPOConfig):
    """An algorithm with a module, a rollout length and a learner of its own."""

    def module_spec(self):
        return ModuleSpec(model_config=ModelSettings(fcnet_hiddens=()))

    def num_rollout_steps(self):
        return 3

    def make_learner(self, module, **parts):
        return WatchedLearner(module, self.training.settings, self.objective, **parts)


def test_an_algorithm_may_override_module_rollout_and_learner():
    config = LinearConfig().environment("CartPole-v1").env_runners(num_envs_per_env_runner=2)
    algorithm = config.build()
    assert type(algorithm.learner) is WatchedLearner
    assert sum(parameter.numel() for parameter in algorithm.learner.module.parameters()) == 4 * 3 + 3
    assert algorithm.train()["env_steps"] == 6
