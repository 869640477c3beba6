import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs import CorrelatedActionsEnv


def reward_of(number, first, second):
    env = CorrelatedActionsEnv()
    env.reset(seed=0)
    env.number = number
    _, reward, terminated, truncated, _ = env.step((first, np.array([second], np.float32)))
    assert (terminated, truncated) == (True, False)
    return reward


@pytest.mark.parametrize(
    ("number", "first", "second", "reward"),
    [
        (0.0, 1, -1.0, 0.0),
        (-1.0, 2, -1.0, 0.0),
        (0.5, 0, -0.5, -0.5),  # |1 - 0.5| + |0|
        (0.5, 1, 0.25, -2.25),  # |1 - 1.5| + |1.75|
        (1.0, 2, 2.0, -7.0),  # the worst: |1 - 3| + |5|
    ],
)
def test_reward_by_hand(number, first, second, reward):
    assert reward_of(number, first, second) == reward


@given(st.floats(-1, 1, width=32), st.integers(0, 2), st.floats(-2, 2, width=32))
def test_no_action_beats_the_stated_policy(number, first, second):
    best = round(1 - number)
    assert reward_of(number, first, second) <= reward_of(number, best, -(number + best)) + 1e-6


def test_the_observation_is_what_is_judged():
    env = CorrelatedActionsEnv()
    obs, _ = env.reset(seed=1)
    after, reward, *_ = env.step((0, -obs))
    assert reward == pytest.approx(-abs(1 - obs[0]))
    np.testing.assert_array_equal(obs, after)


def test_documented_means_by_quadrature():
    number = np.linspace(-1, 1, 4001)[None, :]
    first, second = np.arange(3)[:, None], np.linspace(-2, 2, 801)[:, None, None]
    one = np.abs(1 - number - first)  # [3, o]
    assert one.min(axis=0).mean() == pytest.approx(1 / 4, abs=1e-3)
    assert one.mean() == pytest.approx(5 / 6, abs=1e-3)
    two = np.abs(number + first + second)  # [a2, 3, o]
    assert one.mean() + two.mean() == pytest.approx(167 / 72, abs=2e-3)
    # a1 uniform, a2 a function of o alone: the best of all a2 for each o
    assert one.mean() + two.mean(axis=1).min(axis=0).mean() == pytest.approx(3 / 2, abs=2e-3)
