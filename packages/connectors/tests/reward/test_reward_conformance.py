"""Every reward piece keeps the rules of its protocol, and its numbers are those of the formula."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_connectors import ClipReward, NormalizeReward, ShapeReward, SignReward
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.testing import check_connector
from rl_core.testing.envs import ObservationIsTimeEnv
from rl_core.tree import tree_map

VECTOR, ACTION = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)


def time_of(obs):
    """A potential: the first number of the observation."""
    return obs[:, 0]


@pytest.mark.parametrize(
    "piece",
    [ClipReward(), SignReward(), NormalizeReward(0.9), ShapeReward(time_of, 0.9)],
    ids=lambda p: type(p).__name__,
)
def test_every_piece_conforms(piece):
    check_connector(piece, VECTOR, ACTION)


def rewards(piece, given):
    chain = ObsChain([piece], VECTOR, ACTION)
    step = observations_only(np.zeros((len(given), 2), np.float32), np.zeros(len(given), bool))
    return chain(chain.initial_state(len(given)), replace(step, reward=np.array(given, np.float32)))[1].reward.tolist()


def test_rewards_are_clipped_and_reduced_to_their_sign():
    assert rewards(ClipReward(-1, 2), [-5.0, 0.5, 3.0]) == [-1.0, 0.5, 2.0]
    assert rewards(SignReward(), [-5.0, 0.0, 3.0]) == [-1.0, 0.0, 1.0]


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    gamma, random = 0.9, np.random.default_rng(0)
    chain = ObsChain([NormalizeReward(gamma)], VECTOR, ACTION)
    state, returns, seen = chain.initial_state(3), np.zeros(3), []
    for time in range(200):
        first = np.zeros(3, bool)
        reward = random.normal(size=3).astype(np.float32) * 5
        step = replace(observations_only(np.zeros((3, 2), np.float32), first), reward=reward)
        state, result = chain(state, step, observe=True)
        returns = returns * gamma + reward
        seen.append(returns)
        if time > 10:
            np.testing.assert_allclose(result.reward, reward / np.std(seen), rtol=1e-3)


def test_shaping_changes_returns_by_the_potential_of_the_start_alone():
    gamma = 0.9
    env = GymVectorEnv(SyncVectorEnv([ObservationIsTimeEnv], autoreset_mode=AutoresetMode.SAME_STEP))
    chain = ObsChain([ShapeReward(time_of, gamma)], env.observation_space, env.action_space)
    state, _ = chain(chain.initial_state(1), env.reset(1))  # episode 1 terminates
    plain, shaped = [], []
    while True:
        raw = env.step(np.zeros(1, np.int64))
        if raw.final_obs is not None:
            look = replace(raw, obs=tree_map(np.array, raw.final_obs), first=np.zeros(1, bool))
            shaped.append(chain(state, look)[1].reward.item())
            plain.append(raw.reward.item())
            break
        state, step = chain(state, raw)
        shaped.append(step.reward.item())
        plain.append(raw.reward.item())
    discounts = gamma ** np.arange(len(plain))
    assert raw.terminated.all()
    assert discounts @ shaped == pytest.approx(discounts @ plain - 0.0)  # the potential of the start is 0
