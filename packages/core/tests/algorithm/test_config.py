import copy

import numpy as np
import pytest

from rl_core import ModelSettings, PPOConfig
from rl_core.errors import ConfigError


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
