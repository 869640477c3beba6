import gymnasium
import numpy as np
import pytest

from rl_core.testing import check_env
from rl_envs import DictCartPole, LopsidedPendulum


@pytest.mark.parametrize("kind", [DictCartPole, LopsidedPendulum])
def test_they_conform(kind):
    check_env(kind())


def test_dict_cart_pole_is_cart_pole():
    env, plain = DictCartPole(max_steps=30), gymnasium.make("CartPole-v1").unwrapped
    obs, _ = env.reset(seed=3)
    numbers, _ = plain.reset(seed=3)
    for action in [0, 1] * 8:
        flat = np.concatenate([*obs["cart"], obs["pole"]["angle"], obs["pole"]["velocity"]])
        np.testing.assert_array_equal(flat, numbers)
        assert obs["side"] == (numbers[2] > 0)
        obs, _, terminated, _, _ = env.step(action)
        numbers, _, ended, _, _ = plain.step(action)
        assert terminated == ended


def test_lopsided_pendulum_is_pendulum_moved():
    env, plain = LopsidedPendulum(), gymnasium.make("Pendulum-v1").unwrapped
    obs, _ = env.reset(seed=3)
    numbers, _ = plain.reset(seed=3)
    for _ in range(20):
        back = (obs + 2728) / 1272 * np.array([1, 1, 8])
        np.testing.assert_allclose(back, numbers, atol=1e-2)
        obs, reward, *_ = env.step(np.array([0.5], np.float32))
        numbers, expected, *_ = plain.step(np.array([0.5], np.float32))
        assert reward == pytest.approx(expected)


def test_episodes_are_truncated():
    env = LopsidedPendulum(max_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[3] for _ in range(3)] == [False, False, True]
