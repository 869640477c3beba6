import numpy as np
import pytest

from rl_envs import SimpleCorridor


@pytest.mark.parametrize("length", [1, 3, 10])
def test_walking_right_reaches_the_documented_return(length):
    env = SimpleCorridor(length)
    obs, _ = env.reset(seed=0)
    total, terminated = 0.0, False
    for place in range(length):
        assert not terminated
        assert obs == place
        obs, reward, terminated, truncated, _ = env.step(1)
        total += reward
    assert terminated
    assert not truncated
    assert total == pytest.approx(1 - 0.1 * (length - 1))


def test_left_of_the_start_is_a_wall():
    env = SimpleCorridor(3)
    env.reset(seed=0)
    assert [env.step(action)[0].item() for action in (0, 1, 1, 0, 0, 0)] == [0, 1, 2, 1, 0, 0]


def test_going_left_for_ever_is_truncated():
    env = SimpleCorridor(3, max_steps=4)
    env.reset(seed=0)
    assert [env.step(0)[1:4] for _ in range(4)] == [(-0.1, False, False)] * 3 + [(-0.1, False, True)]


@pytest.mark.parametrize("length", [1, 4, 10])
def test_a_random_walk_takes_the_documented_steps(length):
    # Solves steps[i] = 1 + (steps[i - 1] + steps[i + 1]) / 2, where left of 0 is 0 and the goal takes none.
    walk = np.eye(length) - 0.5 * (np.eye(length, k=1) + np.eye(length, k=-1))
    walk[0, 0] -= 0.5
    assert np.linalg.solve(walk, np.ones(length))[0] == pytest.approx(length * (length + 1))


def test_pictures_show_agent_and_goal():
    line = SimpleCorridor(3, render_mode="ansi")
    line.reset(seed=0)
    assert line.render() == "A..G"
    line.step(1)
    assert line.render() == ".A.G"
    picture = SimpleCorridor(3, render_mode="rgb_array")
    picture.reset(seed=0)
    frame = picture.render()
    assert (frame.shape, frame.dtype) == ((16, 64, 3), np.uint8)
    assert [tuple(frame[8, column]) for column in (8, 24, 56)] == [(200, 0, 0), (255, 255, 255), (0, 160, 0)]
    assert SimpleCorridor(3).render() is None
