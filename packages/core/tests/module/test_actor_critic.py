import copy
import json
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional

from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.images import CNN
from rl_core.module.settings import ModelSettings
from rl_core.module.spec import ModuleSpec
from rl_core.testing.check_module import check_module

VECTOR = spaces.Box(-1, 1, (4,))
IMAGE = spaces.Box(0, 255, (10, 10, 3), np.uint8)
ACTIONS = {
    "discrete": spaces.Discrete(3, start=2),
    "multi_discrete": spaces.MultiDiscrete([2, 4]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-2, 2, (2,)),
    "nested": spaces.Dict(
        a=spaces.Box(-1, 1, (2,)), b=spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, ()))), c=spaces.Discrete(3)
    ),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", [VECTOR, IMAGE], ids=["vector", "image"])
def test_every_action_space_conforms(observation, action):
    check_module(ActorCritic, observation, ACTIONS[action])


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(vf_share_layers=True),
        ModelSettings(vf_share_layers=False),
        ModelSettings(free_log_std=False, log_std_init=-0.5),
        ModelSettings(squash_actions=True, free_log_std=False),
        ModelSettings(initializer="torch", fcnet_hiddens=(), conv_filters=((8, 3, 2),), post_fcnet_hiddens=()),
        ModelSettings(initializer="torch", fcnet_hiddens=(), vf_share_layers=False, fcnet_activation="silu"),
        ModelSettings(head_fcnet_hiddens=(8,), head_fcnet_use_layernorm=True, conv_filters=((4, (3, 2), 2, "same"),)),
    ],
)
@pytest.mark.parametrize("observation", [VECTOR, IMAGE], ids=["vector", "image"])
def test_every_setting_conforms(observation, settings):
    module = ActorCritic(observation, ACTIONS["nested"], settings)
    check_module(module, observation, ACTIONS["nested"])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, ()),
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(-1, 1, (2, 3, 2, 2)),
        spaces.Box(-1, 1, (3,), np.float64),
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Discrete(3, start=2),
    ],
)
def test_observations_that_are_no_image_become_a_vector(space):
    check_module(ActorCritic, space, ACTIONS["discrete"])


@pytest.mark.parametrize("free", [True, False])
def test_policy_starts_nearly_uniform_with_the_given_log_std(free):
    module = ActorCritic(VECTOR, ACTIONS["nested"], ModelSettings(free_log_std=free, log_std_init=-1.5))
    dist_inputs, _ = module.forward_policy(torch.rand(5, 4))
    positions = list(module.distribution.log_std_positions)
    torch.testing.assert_close(dist_inputs[:, positions], torch.full((5, 3), -1.5), atol=0.05, rtol=0)
    others = [position for position in range(dist_inputs.shape[-1]) if position not in positions]
    assert dist_inputs[:, others].abs().max() < 0.1


def test_free_log_std_does_not_depend_on_the_observation():
    module = ActorCritic(VECTOR, ACTIONS["box"])
    dist_inputs, _ = module.forward_policy(torch.rand(5, 4))
    assert (dist_inputs[:, 2:] == dist_inputs[0, 2:]).all()
    assert "log_std" in module.state_dict()
    assert "log_std" not in ActorCritic(VECTOR, ACTIONS["discrete"]).state_dict()


@pytest.mark.parametrize("observation", [VECTOR, IMAGE], ids=["vector", "image"])
def test_it_works_wherever_it_is_moved(observation):
    module = ActorCritic(observation, ACTIONS["nested"]).to("meta")
    dist_inputs, value = module.forward_train(torch.from_numpy(observation.sample())[None].to("meta"))
    assert dist_inputs.is_meta
    assert value.is_meta


def test_copies_and_weights_of_one_fit_the_other():
    first, second = ActorCritic(VECTOR, ACTIONS["nested"]), ActorCritic(VECTOR, ACTIONS["nested"])
    obs = torch.rand(3, 4)
    second.load_state_dict(first.state_dict())
    for module in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        for mine, theirs in zip(first.forward_train(obs), module.forward_train(obs), strict=True):
            assert torch.equal(mine, theirs)


def test_it_can_be_exported():
    class Deployed(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, obs):
            return self.module.forward_train(obs)

    module, obs = ActorCritic(VECTOR, ACTIONS["nested"]), torch.rand(3, 4)
    exported = torch.export.export(Deployed(module), (obs,)).module()
    torch.testing.assert_close(exported(obs), module.forward_train(obs))


def test_images_share_their_layers_and_vectors_do_not():
    assert isinstance(ActorCritic(IMAGE, ACTIONS["discrete"]).trunk, CNN)
    assert ActorCritic(VECTOR, ACTIONS["discrete"]).trunk is None


def test_a_shared_trunk_runs_once_in_training():
    module = ActorCritic(IMAGE, ACTIONS["discrete"])
    calls = []
    module.trunk.register_forward_hook(lambda *_: calls.append(1))
    module.forward_train(torch.zeros(2, 10, 10, 3, dtype=torch.uint8))
    assert len(calls) == 1


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Dict(a=VECTOR, b=spaces.Text(3)), spaces.Box(-1, 1, (0,))])
def test_other_observations_are_refused_with_advice(space):
    with pytest.raises(UnsupportedSpaceError, match="FlattenObservation"):
        ActorCritic(space, ACTIONS["discrete"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fcnet_hiddens", (64, 0)),
        ("fcnet_activation", "tan"),
        ("conv_filters", ()),
        ("conv_filters", ((16, 3),)),
        ("vf_share_layers", "yes"),
        ("log_std_bounds", (2.0, -2.0)),
        ("log_std_init", 5.0),
        ("policy_head_gain", 0.0),
        ("conv_channels", ()),
        ("conv_architecture", "resnet"),
        ("fcnet_kernel_initializer", "orthogonal_"),
        ("conv_bias_initializer", "orthogonal"),
        ("max_seq_len", 0),
        ("attention_num_heads", 5),
    ],
)
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        ModelSettings(**{name: value})


def test_settings_take_lists_as_json_gives_them():
    settings = ModelSettings(fcnet_hiddens=[32], conv_filters=[[8, 3, 1]])
    assert settings == ModelSettings(fcnet_hiddens=(32,), conv_filters=((8, 3, 1),))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use_lstm": True, "use_gru": True}, "use_lstm and use_gru.*one memory"),
        ({"use_gru": True, "use_attention": True}, "use_gru and use_attention"),
        ({"fcnet_kernel_initializer_kwargs": {"gain": 2.0}}, "fcnet_kernel_initializer is not set"),
        ({"lstm_kernel_initializer": "normal", "lstm_kernel_initializer_kwargs": {"gain": 2.0}}, "mean, std"),
        ({"head_fcnet_bias_initializer": "constant"}, "'val'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        ModelSettings(**values)


def test_settings_survive_json():
    settings = ModelSettings(
        fcnet_use_layernorm=True,
        fcnet_kernel_initializer="xavier_uniform",
        fcnet_kernel_initializer_kwargs={"gain": 2.0},
        conv_bias_initializer="constant",
        conv_bias_initializer_kwargs={"val": 0.1},
        conv_architecture="impala",
        conv_channels=(4, 8),
        conv_dtype="bfloat16",
        head_fcnet_hiddens=(16,),
        use_attention=True,
        attention_num_heads=4,
        fusionnet_hiddens=(32,),
    )
    spec = ModuleSpec(model_config=settings)
    stored = json.loads(json.dumps(spec.to_json()))
    assert ModuleSpec.from_json(stored, module=None, allow=()) == spec


NESTED = spaces.Dict(image=IMAGE, rest=spaces.Tuple((VECTOR, spaces.Discrete(3, start=1), spaces.MultiBinary(2))))
SMALL = {"lstm_cell_size": 8, "attention_dim": 8, "attention_num_heads": 2, "attention_num_layers": 2}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("memory", ["use_lstm", "use_gru", "use_attention"])
@pytest.mark.parametrize("observation", [VECTOR, IMAGE, NESTED], ids=["vector", "image", "nested"])
def test_every_memory_conforms(observation, memory, shared):
    settings = ModelSettings(vf_share_layers=shared, attention_window=3, **SMALL, **{memory: True})
    module = ActorCritic(observation, ACTIONS["nested"], settings)
    assert module.is_recurrent
    check_module(module, observation, ACTIONS["nested"])


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(fusionnet_hiddens=(8,)),
        ModelSettings(fusionnet_hiddens=(8,), vf_share_layers=False, head_fcnet_hiddens=(4,)),
        ModelSettings(conv_architecture="impala", conv_channels=(4, 8), conv_use_layernorm=True),
        ModelSettings(fcnet_use_layernorm=True, conv_use_layernorm=True, fcnet_bias_initializer="ones"),
    ],
)
@pytest.mark.parametrize("observation", [VECTOR, IMAGE, NESTED], ids=["vector", "image", "nested"])
def test_every_encoder_conforms(observation, settings):
    module = ActorCritic(observation, ACTIONS["box"], settings)
    assert not module.is_recurrent
    check_module(module, observation, ACTIONS["box"])


def test_memories_on_vectors_are_apart_unless_told_otherwise():
    shared = ActorCritic(VECTOR, ACTIONS["discrete"], ModelSettings(use_gru=True, vf_share_layers=True))
    assert shared.body.value is None
    separate = ActorCritic(VECTOR, ACTIONS["discrete"], ModelSettings(use_gru=True))
    (policy,), (value,) = separate.initial_state(3)
    assert policy.shape == value.shape == (3, 256)


def test_only_nested_observations_with_an_image_reach_the_networks_nested():
    tiny = spaces.Box(0, 255, (4, 8, 1), np.uint8)
    assert not ActorCritic.wants_flat(NESTED)
    assert not ActorCritic.wants_flat(spaces.Tuple((NESTED, VECTOR)))
    assert not ActorCritic.wants_flat(IMAGE)
    assert not ActorCritic.wants_flat(VECTOR)
    for space in (spaces.Dict(a=VECTOR), spaces.Dict(a=tiny), spaces.Discrete(2), spaces.Box(-1, 1, ())):
        assert ActorCritic.wants_flat(space)


@pytest.mark.parametrize("memory", ["use_lstm", "use_gru", "use_attention"])
def test_a_step_with_memory_can_be_exported(memory):
    class Deployed(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, obs, state):
            return self.module.forward_policy(obs, state)

    module = ActorCritic(VECTOR, ACTIONS["box"], ModelSettings(**SMALL, **{memory: True}))
    obs = torch.rand(3, 4)
    _, state = module.forward_policy(obs, module.initial_state(3))
    exported = torch.export.export(Deployed(module), (obs, state)).module()
    torch.testing.assert_close(exported(obs, state), module.forward_policy(obs, state))


def test_heads_and_their_initial_weights_follow_the_settings():
    settings = ModelSettings(
        vf_share_layers=True,
        head_fcnet_hiddens=(5,),
        head_fcnet_kernel_initializer="constant",
        head_fcnet_kernel_initializer_kwargs={"val": 0.5},
        fcnet_bias_initializer="ones",
    )
    module = ActorCritic(VECTOR, ACTIONS["discrete"], settings)
    assert module.policy.sizes == (64, 5, 3)
    assert all((weight == 0.5).all() for name, weight in module.value.named_parameters() if "weight" in name)
    assert (module.trunk.bias_0 == 1).all()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("encoder_norm", [True, False])
def test_layer_normalisation_of_the_heads_is_their_own_setting(encoder_norm, shared):
    settings = ModelSettings(
        vf_share_layers=shared,
        fcnet_use_layernorm=encoder_norm,
        fcnet_hiddens=(6,),
        head_fcnet_hiddens=(5,),
        head_fcnet_activation="tanh",
        head_fcnet_use_layernorm=True,
        policy_head_gain=1.0,
    )
    module = ActorCritic(VECTOR, ACTIONS["discrete"], settings)
    obs = torch.rand(7, *VECTOR.shape)
    features = module.trunk(obs) if shared else module.policy[0](obs)
    hidden, last = module.policy if shared else module.policy[1]
    (dense,), (norm,) = hidden.dense, hidden.norms
    expected = functional.layer_norm(features @ dense.weight_0.T + dense.bias_0, (5,), norm.weight, norm.bias).tanh()
    torch.testing.assert_close(module.forward_policy(obs)[0], expected @ last.weight_0.T + last.bias_0)
    norms = sum(isinstance(part, nn.LayerNorm) for part in module.modules())
    assert norms == 2 + encoder_norm * (1 if shared else 2)


def test_the_fusion_network_has_initial_weights_of_its_own():
    settings = ModelSettings(
        fusionnet_hiddens=(5, 4),
        fusionnet_kernel_initializer="constant",
        fusionnet_kernel_initializer_kwargs={"val": 0.5},
        fusionnet_bias_initializer="ones",
    )
    encoder = ActorCritic(NESTED, ACTIONS["discrete"], settings).trunk
    for name, parameter in encoder.named_parameters():
        is_fusion, wanted = name.startswith("fusion."), 0.5 if "weight" in name else 1.0
        assert bool((parameter == wanted).all()) == is_fusion, name
