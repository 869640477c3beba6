import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.q_network import QNetwork, QNetworkSettings
from rl_core.module.settings import ModelSettings
from rl_core.testing import check_module

VECTOR = spaces.Box(-1.0, 1.0, (4,), np.float32)
IMAGE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
NESTED = spaces.Dict({"where": VECTOR, "what": spaces.Discrete(3)})
ACTIONS = spaces.Discrete(3)
SMALL = {"fcnet_hiddens": (8,), "fusionnet_hiddens": (8,), "post_fcnet_hiddens": (8,), "conv_filters": ((4, 3, 2),)}


def make(observation_space=VECTOR, *, model=None, epsilon=0.3, **settings):
    torch.manual_seed(0)
    model = ModelSettings(**SMALL, **(model or {}))
    module = QNetwork(observation_space, ACTIONS, QNetworkSettings(model=model, **settings))
    module.epsilon.fill_(epsilon)
    module.q.redraw(torch.Generator().manual_seed(1))
    return module


MEMORIES = [
    {"use_lstm": True, "lstm_cell_size": 6},
    {"use_gru": True, "lstm_cell_size": 6},
    {"use_attention": True, "attention_dim": 6, "attention_window": 3},
]


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("num_atoms", [1, 7])
@pytest.mark.parametrize("observation_space", [VECTOR, IMAGE, NESTED], ids=["vector", "image", "nested"])
def test_conforms(observation_space, num_atoms, dueling, noisy):
    module = make(observation_space, num_atoms=num_atoms, dueling=dueling, noisy=noisy)
    check_module(module, observation_space, ACTIONS)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("memory", MEMORIES, ids=["lstm", "gru", "attention"])
def test_conforms_with_memory(memory, noisy):
    check_module(make(model={**memory, "head_fcnet_hiddens": (5,)}, noisy=noisy), VECTOR, ACTIONS)


def test_values_are_advantages_about_a_value():
    module = make(model={"head_fcnet_hiddens": (5,)})
    obs = torch.randn(6, 4)
    outputs = module.q.head(module.q.hidden(module.q.trunk(obs)))  # three advantages, then the value
    advantage, value = outputs[:, :3], outputs[:, 3]
    for n in range(6):
        for a in range(3):
            torch.testing.assert_close(module.q(obs)[n, a], value[n] + advantage[n, a] - advantage[n].mean())
    inputs, state = module.forward_policy(obs, ())
    torch.testing.assert_close(inputs, torch.cat((module.q(obs), torch.full((6, 1), 0.3)), -1))
    assert state == ()
    torch.testing.assert_close(module.forward_value(obs), module.q(obs).amax(-1))


@pytest.mark.parametrize("noisy", [False, True])
def test_hidden_layers_of_the_head_can_be_normalised(noisy):
    module = make(model={"head_fcnet_hiddens": (6, 5), "head_fcnet_use_layernorm": True}, noisy=noisy)
    assert [norm.normalized_shape for norm in module.modules() if isinstance(norm, torch.nn.LayerNorm)] == [(6,), (5,)]
    check_module(module, VECTOR, ACTIONS)


def test_value_of_a_distribution_is_its_mean():
    module = make(num_atoms=5, v_min=-1.0, v_max=3.0, dueling=False)
    obs = torch.randn(6, 4)
    probability = module.q(obs).softmax(-1)
    assert probability.shape == (6, 3, 5)
    expected = sum(probability[..., atom] * z for atom, z in enumerate((-1.0, 0.0, 1.0, 2.0, 3.0)))
    torch.testing.assert_close(module.forward_policy(obs, ())[0][:, :3], expected)


def test_dueling_atoms_share_the_value_of_their_atom():
    module = make(num_atoms=4)
    outputs = module.q.head(module.q.trunk(torch.ones(1, 4))).view(4, 4)  # [A + 1, M]
    for action in range(3):
        expected = outputs[3] + outputs[action] - outputs[:3].mean(0)
        torch.testing.assert_close(module.q(torch.ones(1, 4))[0, action], expected)


def test_noisy_inputs_hold_the_values_with_and_without_noise():
    module = make(noisy=True)
    obs = torch.randn(2, 4)
    inputs = module.forward_policy(obs, ())[0]
    assert inputs.shape == (2, 7)
    torch.testing.assert_close(inputs[:, :3], module.q(obs))
    torch.testing.assert_close(inputs[:, 3:6], module.q.outputs(module.q.trunk(obs), noisy=False))
    assert not torch.allclose(inputs[:, :3], inputs[:, 3:6])


def test_greedy_action_has_the_largest_value():
    module = make(epsilon=0.0)
    obs = torch.randn(50, 4)
    inputs = module.forward_policy(obs, ())[0]
    best = module.q(obs).argmax(-1)
    assert torch.equal(module.distribution.mode(inputs), best)
    noise = module.distribution.noise((50,), torch.Generator())
    assert torch.equal(module.distribution.sample(inputs, noise), best)


@pytest.mark.parametrize(
    "space", [spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.MultiDiscrete([2, 3]), spaces.Tuple([ACTIONS, ACTIONS])]
)
def test_actions_that_cannot_be_listed_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="expected Discrete: it puts out one value per action"):
        QNetwork(VECTOR, space)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="expected v_min < v_max"):
        QNetworkSettings(v_min=1.0, v_max=1.0)
    with pytest.raises(ConfigError, match="num_atoms: got 5 together with use_lstm"):
        QNetworkSettings(num_atoms=5, model=ModelSettings(use_lstm=True))
    with pytest.raises(ConfigError, match="sigma0: got 0"):
        QNetworkSettings(sigma0=0.0)
