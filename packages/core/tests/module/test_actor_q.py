import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.actor_q import ActorQ, ActorQSettings
from rl_core.module.settings import ModelSettings
from rl_core.testing import check_module
from rl_core.tree import tree_map

VECTOR = spaces.Box(-1.0, 1.0, (4,), np.float32)
IMAGE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
NESTED = spaces.Dict({"where": VECTOR, "what": spaces.Discrete(3)})
CHOICE = spaces.Discrete(3)
BOX = spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 3.0], np.float32))
GRID = spaces.Box(-1.0, 1.0, (2, 3), np.float32)
SMALL = {
    "fcnet_hiddens": (8,),
    "fusionnet_hiddens": (8,),
    "post_fcnet_hiddens": (8,),
    "conv_filters": ((4, 3, 2),),
    "policy_head_gain": 1.0,
}


def make(observation_space, action_space, **settings):
    torch.manual_seed(0)
    model = ModelSettings(**SMALL, head_fcnet_hiddens=settings.pop("head", ()), **settings.pop("model", {}))
    return ActorQ(observation_space, action_space, ActorQSettings(model=model, **settings))


ACTORS = {
    "stochastic": (BOX, {"num_critics": 3}),
    "stochastic, grid": (GRID, {}),
    "quantiles": (BOX, {"num_quantiles": 5}),
    "discrete": (CHOICE, {}),
    "deterministic": (BOX, {"actor": "deterministic", "head": (6,)}),
    "deterministic, grid": (GRID, {"actor": "deterministic"}),
    "normalised": (BOX, {"head": (6,), "model": {"fcnet_use_layernorm": True, "head_fcnet_use_layernorm": True}}),
}


@pytest.mark.parametrize("observation_space", [VECTOR, IMAGE, NESTED], ids=["vector", "image", "nested"])
@pytest.mark.parametrize("name", ACTORS)
def test_conforms(name, observation_space):
    action_space, settings = ACTORS[name]
    module = make(observation_space, action_space, **settings)
    if "deterministic" in name:  # the density leaves the uniform part out, and there must be some noise
        module.exploration.copy_(torch.tensor([0.05, 0.0]))
    else:
        module.log_alpha.requires_grad_(False)  # it enters losses only, neither policy nor value
    check_module(module, observation_space, action_space)


def test_critics_see_observation_and_action_side_by_side():
    module = make(VECTOR, GRID, num_critics=3, num_quantiles=2)
    obs, action = torch.randn(5, 4), torch.randn(5, 2, 3)
    assert module.critic.encoder is None
    both = torch.cat((obs, action.reshape(5, 6)), -1)
    value = module.critic(obs, action)
    assert value.shape == (3, 5, 2)
    for member, net in enumerate(module.critic.values):
        torch.testing.assert_close(value[member], net(both))


@pytest.mark.parametrize("observation_space", [VECTOR, IMAGE, NESTED], ids=["vector", "image", "nested"])
def test_critics_have_weights_of_their_own_that_all_get_a_gradient(observation_space):
    module = make(observation_space, BOX, num_critics=3)
    observation_space.seed(0)
    obs = tree_map(lambda *rows: torch.from_numpy(np.stack(rows)), *(observation_space.sample() for _ in range(4)))
    value = module.critic(obs, torch.rand(4, 2))
    assert len({round(float(one), 5) for one in value[:, 0, 0].detach()}) == 3
    parameters = dict(module.critic.named_parameters())
    gradients = torch.autograd.grad(value.sum(), list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        assert gradient.any(), name


def test_discrete_critics_value_every_action():
    module = make(VECTOR, CHOICE)
    obs = torch.randn(5, 4)
    value = module.critic(obs)
    assert value.shape == (2, 5, 3)
    torch.testing.assert_close(module.forward_value(obs), ((value[0] + value[1]) / 2).max(-1).values)


def test_value_is_the_mean_of_the_critics_for_the_best_action():
    module = make(VECTOR, BOX, num_critics=3, num_quantiles=5)
    obs = torch.randn(6, 4)
    action = module.distribution.mode(module.policy(obs))
    means = module.critic(obs, action).mean(-1)
    torch.testing.assert_close(module.forward_value(obs), sum(means) / 3)
    tall = torch.stack((obs, obs + 1, obs))
    torch.testing.assert_close(module.forward_value(tall)[0], module.forward_value(obs))
    assert module.forward_value(tall).shape == (3, 6)


def test_deterministic_actions_lie_within_the_bounds():
    module = make(VECTOR, BOX, actor="deterministic")
    obs = 100 * torch.randn(200, 4)
    action = module.policy(obs)
    low, high = torch.from_numpy(BOX.low), torch.from_numpy(BOX.high)
    assert (action >= low).all()
    assert (action <= high).all()
    outputs = module.policy.head(module.policy.encoder(obs))
    torch.testing.assert_close(action, low + (high - low) * (outputs.tanh() + 1) / 2)
    inputs, state = module.forward_policy(obs, ())
    torch.testing.assert_close(inputs, torch.cat((action, torch.tensor([[0.0, 1.0]]).expand(200, 2)), -1))
    assert state == ()


def test_parts_that_only_the_learner_needs_can_go():
    for action_space, settings in ACTORS.values():
        module = make(VECTOR, action_space, **settings)
        obs = torch.randn(3, 4)
        before = module.forward_policy(obs, ())[0]
        for part in module.learner_only:
            if hasattr(module, part):
                delattr(module, part)
        assert torch.equal(module.forward_policy(obs, ())[0], before)
        assert {name.split(".")[0] for name in module.state_dict()} <= {"policy", "exploration"}


def test_temperature_starts_where_the_settings_say():
    assert float(make(VECTOR, BOX, initial_alpha=0.2).log_alpha.detach()) == pytest.approx(math.log(0.2))
    assert not hasattr(make(VECTOR, BOX, actor="deterministic"), "log_alpha")


UNBOUNDED = spaces.Box(-np.inf, 1.0, (2,), np.float32)
EITHER = "expected a Box of floats with finite bounds, or Discrete"


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (UNBOUNDED, {}, EITHER),
        (spaces.Box(0, 9, (2,), np.int64), {}, EITHER),
        (spaces.Box(-1.0, 1.0, (0,), np.float32), {}, EITHER),
        (spaces.MultiDiscrete([2, 2]), {}, EITHER),
        (CHOICE, {"actor": "deterministic"}, r"expected a Box of floats with finite bounds\.$"),
        (CHOICE, {"num_quantiles": 5}, r"expected a Box of floats with finite bounds\.$"),
        (UNBOUNDED, {"actor": "deterministic"}, r"expected a Box of floats with finite bounds\.$"),
    ],
)
def test_action_spaces_it_cannot_handle_are_refused(space, settings, message):
    with pytest.raises(UnsupportedSpaceError, match=message):
        make(VECTOR, space, **settings)


def test_memory_is_refused():
    with pytest.raises(ConfigError, match="this algorithm's module has no memory"):
        ActorQSettings(model=ModelSettings(use_gru=True))


@pytest.mark.parametrize("fcnet_norm", [True, False])
@pytest.mark.parametrize("head_norm", [True, False])
def test_critics_follow_the_settings_of_both_parts(fcnet_norm, head_norm):
    model = {"fcnet_use_layernorm": fcnet_norm, "fcnet_activation": "relu"}
    model |= {"head_fcnet_use_layernorm": head_norm, "head_fcnet_activation": "tanh"}
    critic = make(VECTOR, BOX, head=(6,), model=model).critic
    obs, action = torch.randn(5, 4), torch.randn(5, 2)
    for value, found in zip(critic.values, critic(obs, action), strict=True):
        weights = [weight for name, weight in value.named_parameters() if "norms" not in name]
        x = torch.cat((obs, action), 1)
        for weight, bias, has_norm, activate in (
            (*weights[:2], fcnet_norm, torch.relu),
            (*weights[2:4], head_norm, torch.tanh),
        ):
            x = x @ weight.T + bias
            x = activate(torch.nn.functional.layer_norm(x, x.shape[1:]) if has_norm else x)
        torch.testing.assert_close(found, x @ weights[4].T + weights[5])
