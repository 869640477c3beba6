import dataclasses
import re

import pytest

from rl_core import DQNConfig, ModelSettings, PPOConfig, SACConfig
from rl_core.config.check import Settings, type_hints
from rl_core.config.elsewhere import NAMES_ELSEWHERE
from rl_core.errors import ConfigError, RLError

SECTIONS = PPOConfig()._sections()


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_refuses_an_unknown_name_and_suggests_the_nearest(name):
    config = PPOConfig()
    setting = next(iter(type_hints(SECTIONS[name].settings_class)))
    wrong = setting + "x"
    with pytest.raises(ConfigError, match=rf"{name}: there is no setting '{wrong}'\. Did you mean .*'{setting}'"):
        getattr(config, name)(**{wrong: 1})
    with pytest.raises(AttributeError, match=rf"{name}: there is no setting '{wrong}'\. Did you mean"):
        getattr(getattr(config, name), wrong)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_lists_its_names_where_none_is_near(name):
    with pytest.raises(ConfigError, match=rf"{name}: there is no setting 'qqqqq'\. Known: "):
        getattr(PPOConfig(), name)(qqqqq=1)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_default_can_be_given_again(name):
    settings = getattr(PPOConfig(), name).settings
    values = {field: getattr(settings, field) for field in type_hints(type(settings))}
    assert getattr(PPOConfig(), name)(**values).diff() == {}


def test_a_name_of_another_section_is_told_where_it_belongs():
    with pytest.raises(ConfigError, match=r"training: there is no setting 'seed'\. It belongs to debugging\(\)\."):
        PPOConfig().training(seed=1)
    with pytest.raises(ConfigError, match=r"environment: there is no setting 'lr'\. It belongs to training\(\)\."):
        PPOConfig().environment("CartPole-v1", lr=1.0)


@pytest.mark.parametrize(
    ("section", "setting", "value", "expected"),
    [
        ("training", "lr", "fast", r"training\.lr: got 'fast', expected a number or a tuple"),
        ("training", "lr", True, "training.lr: got True, expected a number"),
        ("training", "lr", -1.0, "lr: got -1.0, expected values from 0"),
        ("training", "lr", [[0, 1e-3], [0, 1e-4]], "increasing steps"),
        ("training", "lr", [[0, 1e-3, 5]], "expected"),
        ("training", "lr", [], "expected points"),
        ("training", "gamma", 1.5, r"training\.gamma: got 1\.5, expected a number >= 0 and <= 1\."),
        ("training", "gamma", float("nan"), "expected a number >= 0 and <= 1"),
        ("training", "gamma", None, "got None, expected a number"),
        ("training", "num_epochs", 0, r"training\.num_epochs: got 0, expected a number >= 1\."),
        ("training", "num_epochs", 2.0, r"training\.num_epochs: got 2\.0, expected an int\."),
        ("training", "num_epochs", True, r"got True, expected an int\."),
        ("training", "grad_clip", 0, r"training\.grad_clip: got 0.*, expected .*> 0.* or None\."),
        ("training", "grad_clip", "x", r"training\.grad_clip: got 'x', expected a number or None\."),
        ("training", "grad_clip_by", "norms", r"got 'norms', expected one of 'global_norm', 'norm', 'value'\."),
        ("training", "grad_clip_by", ["norm"], "expected one of 'global_norm'"),
        ("training", "normalize_advantage", 1, r"got 1, expected a bool\."),
        ("training", "minibatch_size", 4096, "expected at most train_batch_size_per_learner, which is 2048"),
        ("training", "entropy_coeff", [[0, -1]], "entropy_coeff: got .*, expected values from 0"),
        ("env_runners", "rollout_fragment_length", "all", "got 'all', expected an int or one of 'auto'"),
        ("env_runners", "rollout_fragment_length", 0, "expected a number >= 1 or one of 'auto'"),
        ("env_runners", "num_env_runners", -1, r"num_env_runners: got -1"),
        ("env_runners", "env_to_module_connector", 3, "expected a tuple"),
        ("env_runners", "gym_env_vectorize_mode", "threads", "expected one of 'sync', 'async'"),
        ("environment", "env_config", [1], r"environment\.env_config: got \[1\], expected a mapping\."),
        ("environment", "clip_actions", "yes", r"got 'yes', expected a bool\."),
        ("learners", "device", 0, r"learners\.device: got 0, expected a str\."),
        ("evaluation", "evaluation_duration", -5, "expected a number >= 1"),
        (
            "rl_module",
            "model_config",
            {"fcnet_hiddens": "64"},
            "model_config.fcnet_hiddens: got '64', expected a tuple",
        ),
        (
            "rl_module",
            "model_config",
            {"hiddens": (1,)},
            "there is no setting 'hiddens'.* Did you mean .*fcnet_hiddens",
        ),
        ("rl_module", "model_config", {"fcnet_activation": "tan"}, "expected one of 'tanh', 'relu'"),
        ("checkpointing", "num_to_keep", 0, "expected a number >= 1"),
        ("debugging", "seed", -1, r"debugging\.seed: got -1, expected a number >= 0\."),
        ("debugging", "seed", "0", r"debugging\.seed: got '0', expected an int\."),
    ],
)
def test_a_wrong_value_is_refused_when_it_is_set_and_the_message_says_what_was_expected(
    section, setting, value, expected
):
    config = PPOConfig()
    with pytest.raises(ConfigError, match=expected) as error:
        getattr(config, section)(**{setting: value})
    assert setting in str(error.value)
    assert config.diff() == {}, "a refused value changes nothing"
    assert isinstance(error.value, RLError)
    assert isinstance(error.value, ValueError)


def test_settings_are_read_back_as_they_were_given_or_normalised():
    config = PPOConfig().environment("CartPole-v1", env_config={"a": 1}).training(lr=1, gamma=0.5)
    assert config.environment.env == "CartPole-v1"
    assert config.environment.env_config == {"a": 1}
    assert config.training.lr == 1.0
    assert type(config.training.lr) is float
    assert config.training.gamma == 0.5
    assert config.training.lambda_ == 0.95, "what was not given keeps its default"
    assert config.training(lr=[[0, 1], [10, 0.5]]).training.lr == ((0.0, 1.0), (10.0, 0.5))
    assert config.rl_module(model_config={"fcnet_hiddens": [8]}).rl_module.model_config == ModelSettings(
        fcnet_hiddens=(8,)
    )


def test_the_same_section_can_be_called_again_and_keeps_what_is_not_mentioned():
    config = PPOConfig().training(lr=0.1).training(gamma=0.5)
    assert (config.training.lr, config.training.gamma) == (0.1, 0.5)


def test_a_call_returns_its_own_config():
    config = PPOConfig()
    assert config.training(lr=0.1) is config


def test_only_the_env_goes_by_position():
    assert PPOConfig().environment("A-v0").environment.env == "A-v0"
    with pytest.raises(TypeError, match=r"environment\(\): got 2 values without a name, expected 1"):
        PPOConfig().environment("A-v0", {})
    with pytest.raises(TypeError, match=r"training\(\): got 1 values without a name, expected 0"):
        PPOConfig().training(0.1)


def test_settings_cannot_be_changed_behind_the_configs_back():
    config = PPOConfig()
    with pytest.raises(AttributeError):
        config.training.settings.lr = 3.0
    with pytest.raises(AttributeError):
        config.training.lr = 3.0
    with pytest.raises(AttributeError, match=r"training is a section: write config\.training\(\.\.\.\)"):
        config.training = 3.0


def test_a_section_shows_its_settings():
    assert "lr=0.0003" in repr(PPOConfig().training)


def test_every_section_is_settings_and_documents_every_field():
    for section in SECTIONS.values():
        assert issubclass(section.settings_class, Settings)
        assert section.settings_class.__doc__


def test_a_section_of_the_class_describes_it_and_has_no_settings():
    assert PPOConfig.training.name == "training"
    assert not hasattr(PPOConfig.training, "lr")


@pytest.mark.parametrize("name", NAMES_ELSEWHERE)
def test_names_of_other_libraries_lead_to_those_here(name):
    known = {
        field.name
        for config in (PPOConfig(), DQNConfig(), SACConfig())
        for settings in config._values.values()
        for field in dataclasses.fields(settings)
    }
    here = NAMES_ELSEWHERE[name]
    assert name not in known
    assert any(re.search(rf"\b{setting}\b", here) for setting in known) or name == "framework"
    with pytest.raises(ConfigError, match=rf"there is no setting '{name}'\. Here that is {re.escape(here)}\."):
        PPOConfig().training(**{name: 1})
