import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_connectors import DiscretizeAction, RescaleAction, SelectActions, StickyAction
from rl_core import PPOConfig
from rl_core.connect.chain import ActionChain
from rl_core.errors import ConfigError

SPACE = spaces.Box(np.array([-2.0, 0.0, 1e-3]), np.array([4.0, 10.0, 0.7]), dtype=np.float64)


class Taken(gymnasium.Env):
    """Remembers the action it was given."""

    observation_space = spaces.Discrete(1)
    action_space = SPACE

    def step(self, action):
        self.action = action
        return 0, 0.0, False, False, {}


def rescaled(piece, space, action):
    chain = ActionChain([piece], space)
    return chain(chain.initial_state(len(action), seed=0), action, np.zeros(len(action), bool))[1]


@given(st.lists(st.floats(-3, 5), min_size=3, max_size=3))
def test_it_is_gymnasiums_wrapper(numbers):
    env = Taken()
    wrapper = gymnasium.wrappers.RescaleAction(env, np.full(3, -3.0), np.full(3, 5.0))
    wrapper.step(np.array(numbers))
    result = rescaled(RescaleAction(-3, 5), SPACE, torch.tensor([numbers], dtype=torch.float64))
    np.testing.assert_allclose(result[0].numpy(), env.action, atol=1e-12)
    assert result[0].numpy() in SPACE


def test_the_ends_are_met_exactly_and_what_is_beyond_is_cut_off():
    result = rescaled(RescaleAction(), SPACE, torch.tensor([[-1.0] * 3, [1.0] * 3, [-7.0] * 3, [7.0] * 3]))
    assert result.tolist() == [SPACE.low.tolist(), SPACE.high.tolist()] * 2


@pytest.mark.parametrize("settings", [{"low": 1.0}, {"high": -1.0}, {"low": -np.inf}, {"high": "1"}])
def test_an_empty_or_unbounded_range_is_refused(settings):
    with pytest.raises(ConfigError, match=f"RescaleAction: {'low' if settings.get('low') == -np.inf else 'high'}"):
        RescaleAction(**settings)


def test_bounds_that_are_not_finite_are_refused_with_advice():
    with pytest.raises(ConfigError, match="RescaleAction needs finite bounds, and got Box.*wrapper"):
        ActionChain([RescaleAction()], spaces.Box(0, np.inf, (1,)))


@pytest.mark.parametrize("connector", [RescaleAction(), DiscretizeAction(3)])
def test_actions_are_not_scaled_twice(connector):
    config = PPOConfig().environment("Pendulum-v1", normalize_actions=True)
    config.env_runners(module_to_env_connector=[connector])
    with pytest.raises(ConfigError, match=f"normalize_actions=True.*{type(connector).__name__} give the env's own"):
        config.build()
    config.environment(normalize_actions=False).build().stop()


def test_what_leaves_the_space_as_it_is_goes_with_normalized_actions():
    config = PPOConfig().environment("Pendulum-v1", normalize_actions=True)
    config.env_runners(module_to_env_connector=[StickyAction(0.5)]).build().stop()
    config = PPOConfig().environment("CartPole-v1", normalize_actions=True)
    config.env_runners(module_to_env_connector=[SelectActions((0, 1))]).build().stop()
