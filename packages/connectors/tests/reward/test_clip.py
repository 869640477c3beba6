from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rl_connectors import ClipReward, SignReward
from rl_core.connect.protocol import EMPTY_STATE, observations_only
from rl_core.errors import ConfigError

REWARDS = arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32))


def apply(piece, reward):
    step = replace(observations_only(np.zeros((5, 1)), np.zeros(5, bool)), reward=reward)
    result = piece(EMPTY_STATE, step)[1]
    assert result.obs is step.obs
    return result.reward


@given(REWARDS)
def test_rewards_are_numpys_clip_and_sign(reward):
    clipped, sign = apply(ClipReward(-0.5, 3), reward), apply(SignReward(), reward)
    assert np.array_equal(clipped, np.clip(reward, -0.5, 3))
    assert np.array_equal(sign, np.sign(reward))
    assert clipped.dtype == sign.dtype == np.float32


@pytest.mark.parametrize("settings", [{"low": 1.0}, {"high": -2}, {"high": np.inf}])
def test_bounds_are_finite_and_in_order(settings):
    with pytest.raises(ConfigError, match="ClipReward: high: got .*, expected a finite number above"):
        ClipReward(**settings)
