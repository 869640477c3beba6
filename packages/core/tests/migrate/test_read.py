"""Modules read from RLlib's checkpoints put out what RLlib recorded."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import PPOConfig
from rl_core.errors import CheckpointError, ConfigError, UnsupportedSpaceError
from rl_core.migrate import (
    RllibNetwork,
    model_settings_from_rllib,
    module_from_rllib,
    read_rllib_module,
    read_rllib_policy,
)
from rl_core.migrate.inert import Record, parse_pickle
from rl_core.migrate.values import to_array
from rl_core.module import ActorCritic
from rl_core.module.images import same_padding
from rl_core.testing import check_module

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


def read(name):
    reader = read_rllib_policy if name.startswith("policy") else read_rllib_module
    return reader(FIXTURES / name)


def recorded(name):
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(got, expected):
    np.testing.assert_allclose(got.detach().numpy(), expected.numpy(), rtol=0, atol=1e-5)


def flat(state):
    return [part for pair in state for part in (flat(pair) if isinstance(pair, tuple) else [pair])]


@pytest.mark.parametrize("name", NAMES)
def test_distribution_inputs_values_and_states_are_rllibs_step_by_step(name):
    module, record = read(name), recorded(name)
    num_steps, num_rows = record["dist_inputs"].shape[:2]
    state = module.initial_state(num_rows)
    with torch.no_grad():
        for step in range(num_steps):
            value = module.forward_value(record["obs"][step], state)
            dist_inputs, state = module.forward_policy(record["obs"][step], state)
            close(dist_inputs, record["dist_inputs"][step])
            close(value, record["value"][step] if "value" in record else record["dist_inputs"][step].amax(-1))
    states = [record[key].reshape(num_rows, -1) for key in record if key.startswith("state")]
    assert len(flat(state)) == len(states)
    for got, expected in zip(flat(state), states, strict=True):
        close(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_forward_train_is_rllibs_for_whole_segments(name):
    module, record = read(name), recorded(name)
    dist_inputs, value = module.forward_train(record["obs"], module.initial_state(record["obs"].shape[1]))
    close(dist_inputs, record["dist_inputs"])
    if "value" in record:
        close(value, record["value"])


@pytest.mark.parametrize("name", NAMES)
def test_modules_keep_the_rules_of_modules(name):
    module = read(name)
    check_module(module, module.observation_space, module.action_space)


def test_the_default_module_is_used_where_it_expresses_the_network():
    own = {name for name in NAMES if isinstance(read(name), RllibNetwork)}
    assert own == {name for name in NAMES if "image" in name or name in ("ppo_heads", "dqn_dueling")}  # heads: norms
    assert all(type(read(name)) is ActorCritic for name in set(NAMES) - own)


def test_whole_algorithm_checkpoints_are_found_by_id(tmp_path):
    shutil.copytree(FIXTURES / "policy_lstm", tmp_path / "old" / "policies" / "walker")
    shutil.copytree(FIXTURES / "ppo_dense_shared", tmp_path / "new" / "learner_group/learner/rl_module/walker")
    assert read_rllib_policy(tmp_path / "old", policy_id="walker").is_recurrent
    assert read_rllib_policy(tmp_path / "old" / "policies" / "walker" / "policy_state.pkl").is_recurrent
    assert not read_rllib_module(tmp_path / "new", module_id="walker").is_recurrent
    with pytest.raises(CheckpointError, match="none of .*default_policy.* exists"):
        read_rllib_policy(tmp_path / "old")
    with pytest.raises(CheckpointError, match="none of .*default_policy.* exists"):
        read_rllib_module(tmp_path / "new")


def test_reading_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    read("policy_lstm")
    assert torch.equal(torch.get_rng_state(), before)


def test_rllib_is_not_imported():
    read("ppo_lstm_shared")
    assert not any(name.partition(".")[0] == "ray" and "rllib" in name for name in sys.modules)


def test_ppo_trains_on_from_what_was_read():
    for name in ("policy_dense_separate_tanh", "policy_lstm", "policy_image_lstm"):
        module = read(name)
        spaces_of = {"observation_space": module.observation_space, "action_space": module.action_space}
        config = (
            PPOConfig()
            .environment(functools.partial(make_env, **spaces_of))
            .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=8)
        )
        config = config.training(train_batch_size_per_learner=16, minibatch_size=16, num_epochs=1).rl_module(
            module_class=module
        )
        algorithm = config.debugging(seed=0).build()
        try:
            assert np.isfinite(algorithm.train()["learner/default/policy_loss"])
        finally:
            algorithm.stop()


def make_env(env_config, *, observation_space, action_space):
    return SpacesEnv(observation_space, action_space)


class SpacesEnv(gymnasium.Env):
    """Draws observations from a space; an episode is 5 steps long."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample(), 1.0, self.time == 5, False, {}


@pytest.fixture
def altered(tmp_path):
    """Write a policy's checkpoint with something changed; records are written as what they stand for."""

    def write(change, name="policy_dense_separate_tanh"):
        state = plain(parse_pickle((FIXTURES / name / "policy_state.pkl").read_bytes()))
        state = {key: state[key] for key in ("weights", "policy_spec")}
        state["policy_spec"]["config"] = {"model": state["policy_spec"]["config"]["model"]}
        change(state, state["policy_spec"]["config"]["model"])
        path = tmp_path / "policy_state.pkl"
        path.write_bytes(pickle.dumps(state))
        return path

    return write


def plain(value):
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    is_array = isinstance(value, Record) and value.path.startswith("numpy")
    return (
        to_array(value, "") if is_array and "dtype" not in value.path else None if isinstance(value, Record) else value
    )


class Attack:
    def __reduce__(self):
        return os.system, ("exit 3",)


def test_a_filter_of_observations_is_reported(altered):
    def change(state, model):
        state["policy_spec"]["config"]["observation_filter"] = "MeanStdFilter"

    with pytest.warns(UserWarning, match="observation_filter='MeanStdFilter'"):
        read_rllib_policy(altered(change))


def test_an_attack_anywhere_in_the_file_is_refused(altered):
    for place in ("weights", "policy_spec", "_optimizer_variables"):
        with pytest.raises(CheckpointError, match="Nothing of it was run"):
            read_rllib_policy(altered(lambda state, model, place=place: state.update({place: Attack()})))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"custom_model": "mine"}, "custom_model: got 'mine'"),
        ({"use_attention": True}, "use_attention: got True"),
        ({"lstm_use_prev_action": True}, "lstm_use_prev_action"),
        ({"no_final_linear": True}, "no_final_linear"),
        ({"fcnet_activation": "cube"}, "fcnet_activation: got 'cube'"),
        ({"no_such_key": 1}, "'no_such_key' is no setting"),
    ],
)
def test_unsupported_models_are_refused_by_name(altered, model, message):
    with pytest.raises(ConfigError, match=message):
        read_rllib_policy(altered(lambda state, own: own.update(model)))
    with pytest.raises(ConfigError, match=message):
        model_settings_from_rllib(model)


@pytest.mark.parametrize(
    "model",
    [
        {"fcnet_hiddens": [2**40, 2**40]},  # would take yottabytes
        {"fcnet_hiddens": [8, 9]},
        {"fcnet_hiddens": [8]},
        {"fcnet_hiddens": ["8", {}]},
        {"fcnet_hiddens": 8},
        {"fcnet_hiddens": [-8, 8]},
        {"use_lstm": True},
        {"vf_share_layers": True},
        {"log_std_clip_param": "x"},
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(altered, model):
    with pytest.raises((CheckpointError, ConfigError)):
        read_rllib_policy(altered(lambda state, own: own.update(model)))


def test_weights_that_do_not_fit_are_refused(altered):
    first = "_hidden_layers.0._model.0.weight"
    changes = (
        ({first: np.zeros((8, 4), np.float32)}, "shapes"),
        ({first: np.full((8, 3), np.nan, np.float32)}, "finite"),
        ({first: "text"}, "expected an array"),
        ({"critic.weight": np.zeros(3)}, "RLlib's own networks only"),
        ({"_append_free_log_std.log_std": np.zeros(3)}, "shapes"),
    )
    for change, message in changes:
        with pytest.raises(CheckpointError, match=message):
            read_rllib_policy(altered(lambda state, model, change=change: state["weights"].update(change)))


def test_descriptions_without_end_are_refused(altered):
    loop: dict = {}
    loop.update(space="dict", spaces={"a": loop})
    fan: list = []
    for _ in range(40):
        fan = [fan, fan]
    for change in (
        lambda state, model: state["policy_spec"].update(observation_space=loop),
        lambda state, model: model.update(fcnet_hiddens=fan),
        lambda state, model: state.update(weights=fan),
        lambda state, model: state.update(policy_spec=fan),
        lambda state, model: state["policy_spec"].update(action_space=fan),
    ):
        with pytest.raises(CheckpointError):
            read_rllib_policy(altered(change))


def test_modules_of_ones_own_are_refused(tmp_path):
    shutil.copytree(FIXTURES / "ppo_dense_shared", tmp_path / "module")
    file = tmp_path / "module" / "class_and_ctor_args.pkl"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"DefaultPPOTorchRLModule", b"DefaultSACTorchRLModule"))
    with pytest.raises(CheckpointError, match="DefaultSACTorchRLModule.*expected one of"):
        read_rllib_module(tmp_path / "module")
    file.write_bytes(content.replace(b"ray.rllib.algorithms", b"my_.rllib.algorithms"))
    with pytest.raises(CheckpointError, match="expected one of"):
        read_rllib_module(tmp_path / "module")


def test_model_dicts_become_settings_of_the_default_module():
    model = {"fcnet_hiddens": [32, 16], "fcnet_activation": "swish", "vf_share_layers": False, "free_log_std": True}
    got = model_settings_from_rllib({**model, "fcnet_weights_initializer": "xavier_uniform_", "dim": 42})
    assert got.fcnet_hiddens == (32, 16)
    assert (got.fcnet_activation, got.vf_share_layers, got.free_log_std) == ("silu", False, True)
    assert got.log_std_bounds == (-20.0, 20.0)
    assert model_settings_from_rllib({}).fcnet_hiddens == (256, 256)
    recurrent = model_settings_from_rllib({"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 4})
    assert (recurrent.use_lstm, recurrent.lstm_cell_size, recurrent.max_seq_len) == (True, 8, 4)
    assert model_settings_from_rllib({"fcnet_hiddens": [4], "post_fcnet_hiddens": [2]}).fcnet_hiddens == (4, 2)
    image = model_settings_from_rllib({"conv_filters": [[16, [4, 4], 2], [32, 4, [2, 1]], [64, [3, 2], 1]]})
    assert image.conv_filters == ((16, (4, 4), 2, "same"), (32, 4, (2, 1), "same"), (64, (3, 2), 1))
    assert image.post_fcnet_hiddens == ()
    with pytest.raises(ConfigError, match="conv_filters"):
        model_settings_from_rllib({"conv_filters": [[16, [4, 4]]]})


def test_settings_of_an_old_image_model_build_rllibs_convolutions():
    model = {"conv_filters": [[4, [4, 4], 2], [8, [3, 3], 2], [8, [3, 3], 1]], "vf_share_layers": True}
    theirs = read("policy_image_shared")
    own = ActorCritic(theirs.observation_space, theirs.action_space, model_settings_from_rllib(model))
    weights = [(layer.weight, layer.bias) for layer in theirs.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer, (weight, bias) in zip(own.trunk.convolutions, weights, strict=True):
        layer.weight.data, layer.bias.data = weight.data, bias.data
    image = torch.rand(5, *theirs.observation_space.shape)
    with torch.no_grad():
        torch.testing.assert_close(own.trunk(image), theirs.encoder(image, (), one_step=True)[0])


def test_model_dicts_become_rllibs_networks():
    image, choice = spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Discrete(6)
    module = module_from_rllib({}, image, choice)
    assert [tuple(p.shape) for p in module.encoder.parameters()][::2] == [
        (16, 4, 8, 8),
        (32, 16, 4, 4),
        (256, 32, 11, 11),
    ]
    assert module.policy_head[0].weight.shape == (6, 256)
    check_module(module, image, choice)
    with pytest.raises(UnsupportedSpaceError, match="expected a Box"):
        module_from_rllib({}, spaces.Discrete(3), choice)
    with pytest.raises(ConfigError, match="no default for images of shape"):
        module_from_rllib({}, spaces.Box(0, 255, (50, 50, 3), np.uint8), choice)


def test_same_padding_is_that_of_the_formula():
    assert same_padding(12, 4, 2) == (1, 1)
    assert same_padding(84, 8, 4) == (2, 2)
    assert same_padding(6, 3, 2) == (0, 1)  # the odd one after
    assert same_padding(5, 1, 3) == (-1, 0)  # cuts off
