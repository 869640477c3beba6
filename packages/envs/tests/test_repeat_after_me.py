import json

import numpy as np
import pytest
from gymnasium import spaces

from rl_core.env.spaces import space_to_json
from rl_core.errors import UnsupportedSpaceError
from rl_envs import RepeatAfterMe
from rl_envs.repeat_after_me import default_space, distance


def test_distance_by_hand():
    one = {"parts": (1, {"mode": np.array([0, 2])}), "position": np.array([0.5, -0.5], np.float32)}
    other = {"parts": (3, {"mode": np.array([1, 2])}), "position": np.array([0.0, 0.5], np.float32)}
    assert distance(default_space(), one, one) == 0.0
    assert distance(default_space(), one, other) == 1 + 1 + 0.5 + 1.0


def test_distance_of_binary_numbers_counts_the_unequal():
    assert distance(spaces.MultiBinary(4), np.array([0, 1, 1, 0], np.int8), np.array([0, 0, 1, 1], np.int8)) == 2.0


def test_repeating_the_last_observation_is_best():
    env = RepeatAfterMe(episode_length=5)
    obs, _ = env.reset(seed=0)
    for step in range(1, 6):
        obs, reward, terminated, truncated, _ = env.step(obs)
        assert (reward, terminated, truncated) == (0.0, False, step == 5)


def test_the_reward_is_about_the_observation_acted_on():
    env = RepeatAfterMe(spaces.Discrete(2), episode_length=50)
    obs, _ = env.reset(seed=0)
    for _ in range(50):
        wrong = 1 - obs
        obs, reward, *_ = env.step(wrong)
        assert reward == -1.0


def test_the_default_random_policy_reaches_the_documented_mean():
    env = RepeatAfterMe(episode_length=4000)
    env.reset(seed=0)
    env.action_space.seed(1)
    rewards = [env.step(env.action_space.sample())[1] for _ in range(4000)]
    assert np.mean(rewards) == pytest.approx(-3.25, abs=4 * np.std(rewards) / 4000**0.5)


def test_changing_an_observation_does_not_change_the_task():
    env = RepeatAfterMe(spaces.Box(-1.0, 1.0, (2,)))
    obs, _ = env.reset(seed=0)
    kept = obs.copy()
    obs[:] = 9.0
    assert env.step(kept)[1] == 0.0


def test_the_space_may_be_a_description():
    described = json.loads(json.dumps(space_to_json(default_space())))
    env = RepeatAfterMe(described)
    assert env.observation_space == default_space() == env.action_space
    assert RepeatAfterMe({"type": "Box", "dtype": "float32", "shape": (2,), "low": (0, 1), "high": 2}).action_space == (
        spaces.Box(np.array([0, 1], np.float32), np.float32(2), (2,))
    ), "tuples as a config that was read from a file has them"


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Dict({"a": spaces.Graph(spaces.Discrete(2), None)}), 3])
def test_other_spaces_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="RepeatAfterMe: space"):
        RepeatAfterMe(space)
