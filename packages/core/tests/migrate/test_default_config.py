"""Everything that RLlib's `DefaultModelConfig` can say can be said here."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_core import ModelSettings
from rl_core.config.check import fields_of
from rl_core.errors import ConfigError
from rl_core.migrate import model_settings_from_default_config, model_settings_from_rllib, module_from_rllib
from rl_core.module import ActorCritic

# Written by the script that made the fixtures: the fields of ray 2.60 with their defaults.
RLLIB = json.loads((Path(__file__).parent / "fixtures" / "default_model_config.json").read_text())
VECTOR, IMAGE = spaces.Box(-1, 1, (4,), np.float32), spaces.Box(0.0, 1.0, (12, 10, 2), np.float32)
CHOICE, BOX = spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)

# Field, a value that is not RLlib's default, and what changes here.
TABLE = [
    ("fcnet_hiddens", [32, 16], {"fcnet_hiddens": (32, 16)}),
    ("fcnet_activation", "swish", {"fcnet_activation": "silu"}),
    ("fcnet_activation", "silu", {"fcnet_activation": "silu"}),
    ("fcnet_activation", "relu", {"fcnet_activation": "relu"}),
    ("fcnet_activation", "linear", {"fcnet_activation": "linear"}),
    ("fcnet_activation", None, {"fcnet_activation": "linear"}),
    ("fcnet_use_layernorm", True, {"fcnet_use_layernorm": True}),
    ("conv_filters", [[4, 3, 2]], {"conv_filters": ((4, 3, 2, "same"),)}),
    ("conv_filters", [[4, [4, 3], [2, 1]]], {"conv_filters": ((4, (4, 3), (2, 1), "same"),)}),
    ("conv_activation", "tanh", {"conv_activation": "tanh"}),
    ("head_fcnet_hiddens", [8], {"head_fcnet_hiddens": (8,)}),
    ("head_fcnet_activation", "tanh", {"head_fcnet_activation": "tanh"}),
    ("head_fcnet_use_layernorm", True, {"head_fcnet_use_layernorm": True}),
    ("free_log_std", True, {"free_log_std": True}),
    ("log_std_clip_param", 3.0, {"log_std_bounds": (-3.0, 3.0)}),
    ("log_std_clip_param", float("inf"), {"log_std_bounds": (-np.inf, np.inf)}),
    ("vf_share_layers", False, {"vf_share_layers": False}),
    ("use_lstm", True, {"use_lstm": True}),
    ("max_seq_len", 7, {"max_seq_len": 7}),
    ("lstm_cell_size", 9, {"lstm_cell_size": 9}),
    ("fusionnet_hiddens", [5], {"fusionnet_hiddens": (5,)}),
    ("fusionnet_activation", "relu", {"fusionnet_activation": "relu"}),
]
for part in ("fcnet", "conv", "head_fcnet", "fusionnet", "lstm"):
    for which, name, kwargs in (("kernel", "normal_", {"mean": 0.5}), ("bias", "constant_", {"val": 0.1})):
        field, wanted = f"{part}_{which}_initializer", name.removesuffix("_")
        changes = {field: wanted, f"{field}_kwargs": kwargs}
        TABLE += [
            (field, name, changes),
            (field, getattr(nn.init, name), changes),
            (f"{field}_kwargs", kwargs, changes),
        ]
BY_CONNECTORS = {"lstm_use_prev_action", "lstm_use_prev_reward"}


def said(field, value):
    """The fields that are needed to say it; an initialiser and its arguments go together."""
    if "_initializer" not in field:
        return {field: value}
    base = field.removesuffix("_kwargs")
    kernel = "kernel" in field
    arguments = {"mean": 0.5} if kernel else {"val": 0.1}
    return {base: "normal_" if kernel else "constant_", f"{base}_kwargs": arguments, field: value}


def test_the_table_has_every_field_of_rllib():
    assert {field for field, _, _ in TABLE} | BY_CONNECTORS == set(RLLIB)


@pytest.mark.parametrize(
    ("field", "value", "changes"), TABLE, ids=lambda value: getattr(value, "__name__", str(value))[:40]
)
def test_every_field_has_its_counterpart(field, value, changes):
    assert value != RLLIB[field], "a default proves nothing"
    default = fields_of(model_settings_from_default_config({}))
    settings = model_settings_from_default_config(said(field, value))
    assert fields_of(settings) == {**default, **changes}
    assert default != fields_of(settings)


def test_the_defaults_are_rllibs():
    assert model_settings_from_default_config({}) == model_settings_from_default_config(RLLIB)
    settings = fields_of(model_settings_from_default_config(RLLIB))
    for field, value in RLLIB.items():
        if field in settings and not field.endswith("_kwargs"):
            assert settings[field] == (tuple(value) if isinstance(value, list) else value), field
    assert settings["log_std_bounds"] == (-RLLIB["log_std_clip_param"], RLLIB["log_std_clip_param"])


def test_a_record_is_taken_as_it_is():
    record = dataclasses.make_dataclass("DefaultModelConfig", [(name, object) for name in RLLIB])(**RLLIB)
    assert model_settings_from_default_config(record) == model_settings_from_default_config({})


def test_previous_actions_and_rewards_are_a_matter_of_connectors():
    for field in BY_CONNECTORS:
        with pytest.raises(ConfigError, match=f"{field}: got True, .* connector .* previous actions and rewards"):
            model_settings_from_default_config({field: True})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fcnet_hidden": [3]}, "'fcnet_hidden' is no field of DefaultModelConfig. Did you mean 'fcnet_hiddens'"),
        ({"fcnet_kernel_initializer": "glorot_"}, "expected a function of torch.nn.init"),
        ({"fcnet_kernel_initializer": lambda weight: weight}, "expected a function of torch.nn.init"),
        ({"fcnet_bias_initializer": "orthogonal_"}, "fcnet_bias_initializer: got 'orthogonal'"),
        ({"fcnet_activation": "cube"}, "fcnet_activation: got 'cube'"),
        ({"conv_filters": [[4, 3]]}, "conv_filters"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(config, message):
    with pytest.raises(ConfigError, match=message):
        model_settings_from_default_config(config)


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fcnet_hiddens", 64),
        ("fcnet_hiddens", None),
        ("fcnet_hiddens", [64, -1]),
        ("fcnet_hiddens", ["64"]),
        ("fcnet_hiddens", ENDLESS),
        pytest.param("fcnet_hiddens", [10**5000], id="fcnet_hiddens huge"),
        ("max_seq_len", 0),
        ("lstm_cell_size", 0),
        pytest.param("lstm_cell_size", 10**5000, id="lstm_cell_size huge"),
        ("lstm_cell_size", True),
        ("use_lstm", "no"),
        ("free_log_std", None),
        ("vf_share_layers", ENDLESS),
        ("conv_filters", 3),
        ("conv_filters", [[16, 8]]),
        ("conv_filters", [[16, 8, 4, "valid", 1]]),
        ("conv_filters", [[16, [8, 8, 8], 4]]),
        ("log_std_clip_param", "20"),
        ("log_std_clip_param", 0),
        ("log_std_clip_param", float("nan")),
        pytest.param("log_std_clip_param", 10**5000, id="log_std_clip_param huge"),
    ],
)
def test_values_of_another_kind_are_refused_by_name(name, value):
    space, actions = spaces.Box(0, 1, (4,)), spaces.Discrete(2)
    for translate in (
        model_settings_from_default_config,
        model_settings_from_rllib,
        lambda model: module_from_rllib(model, space, actions),
    ):
        with pytest.raises(ConfigError, match=f"^{name}: got .*, expected "):
            translate({name: value})


@pytest.mark.parametrize("settings", [None, 3, [("fcnet_hiddens", (3,))], "fcnet_hiddens"])
def test_what_is_no_mapping_is_refused(settings):
    for translate in (model_settings_from_default_config, model_settings_from_rllib):
        with pytest.raises(ConfigError, match="expected RLlib's model settings"):
            translate(settings)


def test_settings_survive_json_also_without_bounds():
    from rl_core.config.codec import decode, encode

    config = {"log_std_clip_param": float("inf"), "conv_filters": [[4, [4, 3], 2], [4, 3, 1]]}
    settings = model_settings_from_default_config(config)
    assert ModelSettings(**decode(json.loads(json.dumps(encode(settings))))) == settings


def shapes(module):
    return [tuple(parameter.shape) for parameter in module.parameters() if parameter.dim() > 1]


def test_networks_have_the_layers_that_rllib_builds():
    heads = {"head_fcnet_hiddens": [8], "head_fcnet_use_layernorm": True}
    settings = model_settings_from_default_config({"conv_filters": [[4, [4, 3], 2], [6, 3, [2, 1]]], **heads})
    module = ActorCritic(IMAGE, CHOICE, settings)
    # 12 x 10 pixels, padded: 6 x 5, then 3 x 5.
    assert shapes(module) == [(4, 2, 4, 3), (6, 4, 3, 3), (8, 6 * 3 * 5), (3, 8), (8, 6 * 3 * 5), (1, 8)]
    assert sum(isinstance(part, nn.LayerNorm) for part in module.modules()) == 2
    module = ActorCritic(VECTOR, BOX, model_settings_from_default_config({"use_lstm": True, "lstm_cell_size": 5}))
    assert shapes(module) == [(256, 4), (256, 256), (20, 256), (20, 5), (4, 5), (1, 5)]
    with torch.no_grad():
        assert module.forward_value(torch.zeros(2, 4), module.initial_state(2)).shape == (2,)
