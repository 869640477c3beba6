import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from reward_runner import make_runner

from rl_connectors import FrameStack, ShapeReward
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.errors import BadObservationError, ConfigError, EnvError
from rl_core.testing.envs import ObservationIsTimeEnv

GAMMA = 0.9
VECTOR, ACTION = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)


def potential(obs):
    """Some number of (time, episode)."""
    return np.cos(3.0 * obs[..., 0] + obs[..., 1]) + 2.0


def of_newest_frame(obs):
    return potential(obs[:, -1])


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize(
    "pieces", [(ShapeReward(potential, GAMMA),), (FrameStack(2), ShapeReward(of_newest_frame, GAMMA))], ids=len
)
def test_the_return_of_an_episode_changes_by_the_potentials_of_its_ends(mode, pieces):
    runner = make_runner(ObservationIsTimeEnv, mode, pieces)
    rollouts = [runner.sample() for _ in range(2)]
    reward, terminated, truncated = (
        np.concatenate([getattr(rollout, name).numpy() for rollout in rollouts])
        for name in ("reward", "terminated", "truncated")
    )
    num_ended = 0
    for slot in range(3):
        row, episode = 0, 5 + slot
        while True:
            length = 3 + episode % 3  # as the env has it
            rows = slice(row, row + length)
            if row + length > len(reward):
                break
            discounts = GAMMA ** np.arange(length)
            change = discounts @ reward[rows, slot] - discounts @ (1.0 + np.arange(length))
            expected = -potential(np.array([0.0, episode]))
            if truncated[row + length - 1, slot]:
                expected += GAMMA**length * potential(np.array([float(length), episode]))
            else:
                assert terminated[row + length - 1, slot]
            assert change == pytest.approx(expected, abs=1e-5)
            num_ended += 1
            row += length + (mode == AutoresetMode.NEXT_STEP)
            episode += 1
    assert num_ended > 60


def test_by_hand():
    chain = ObsChain([ShapeReward(potential_of_first, 0.5)], VECTOR, ACTION)
    state = chain.initial_state(2)
    rewards = []
    for obs, first in (([3.0, 8.0], [True, True]), ([4.0, 2.0], [False, True]), ([6.0, 1.0], [False, False])):
        state, step = chain(state, observations_only(np.array(obs)[:, None], np.array(first)))
        rewards.append(step.reward.tolist())
    assert rewards == [[0, 0], [0.5 * 4 - 3, 0], [0.5 * 6 - 4, 0.5 * 1 - 2]]


def potential_of_first(obs):
    return obs[:, 0]


def potential_of_wrong_shape(obs):
    return obs


def potential_that_is_nan(obs):
    return np.where(obs[:, 0] > 0, np.nan, 0.0)


def test_a_potential_of_another_shape_is_refused():
    chain = ObsChain([ShapeReward(potential_of_wrong_shape, 0.5)], VECTOR, ACTION)
    with pytest.raises(EnvError, match=r"potential_fn returned shape \(3, 2\), expected \[B\] = \(3,\)"):
        chain(chain.initial_state(3), observations_only(np.zeros((3, 2)), np.ones(3, bool)))


def test_a_potential_that_is_not_finite_names_the_slots():
    chain = ObsChain([ShapeReward(potential_that_is_nan, 0.5)], VECTOR, ACTION)
    obs = np.array([[0.0, 0], [1, 0], [0, 0], [1, 0]])
    with pytest.raises(BadObservationError, match="slot 1: ShapeReward: its potential is nan") as caught:
        chain(chain.initial_state(4), observations_only(obs, np.ones(4, bool)))
    assert caught.value.slots == (1, 3)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="ShapeReward: got potential_fn=3, expected a function"):
        ShapeReward(3, 0.9)
    with pytest.raises(ConfigError, match="ShapeReward: gamma: got 2"):
        ShapeReward(potential, 2)
