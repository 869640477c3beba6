from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from reward_runner import make_runner

from rl_connectors import FrameStack, NormalizeReward
from rl_core.connect.protocol import observations_only
from rl_core.errors import ConfigError
from rl_core.testing.envs import ObservationIsTimeEnv

VECTOR, ACTION = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)


def step_of(reward, **flags):
    reward = np.asarray(reward, np.float32)
    step = observations_only(np.zeros((len(reward), 2), np.float32), np.zeros(len(reward), bool))
    return replace(step, reward=reward, **{name: np.asarray(flag) for name, flag in flags.items()})


def spread(shared):
    return np.sqrt(float(shared["m2"]) / float(shared["count"]))


def slow_returns(episodes, gamma):
    """The discounted return after each step of each episode."""
    results = []
    for rewards in episodes:
        total = 0.0
        for reward in rewards:
            total = gamma * total + reward
            results.append(total)
    return results


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_every_real_step_counts_once_whatever_the_autoreset_mode(mode):
    gamma = 0.8
    runner = make_runner(ObservationIsTimeEnv, mode, [NormalizeReward(gamma)])
    rollout = runner.sample()
    real = np.ones((60, 3), bool) if rollout.valid is None else rollout.valid.numpy()
    done = (rollout.terminated | rollout.truncated).numpy()
    episodes = []
    for slot in range(3):
        time, rewards = 0, []
        for row in np.flatnonzero(real[:, slot]):
            time += 1
            rewards.append(float(time))
            if done[row, slot]:
                episodes.append(rewards)
                time, rewards = 0, []
        episodes.append(rewards)
    returns = slow_returns(episodes, gamma)
    (shared,) = (part for part in runner.get_weights().connector_state if part != ())
    assert shared["count"] == len(returns) == real.sum()
    assert shared["mean"] == pytest.approx(np.mean(returns), rel=1e-6)
    assert spread(shared) == pytest.approx(np.std(returns), rel=1e-6)


def test_by_hand():
    piece = NormalizeReward(0.5, epsilon=1e-12)
    state = piece.initial_state(VECTOR, ACTION, 2)
    state, step = piece(state, step_of([3.0, -4.0]))
    assert step.reward.tolist() == [3.0, -4.0], "no data yet"
    first = step_of([2.0, 4.0])
    state = piece.initial_state(VECTOR, ACTION, 2)
    state, step = piece(replace(state, shared=piece.observe(state, first)), first)
    assert step.reward.tolist() == [2.0, 4.0], "returns 2 and 4 have the deviation 1"
    second = step_of([0.0, 4.0])
    shared = piece.observe(state, second)
    assert spread(shared) == pytest.approx(np.std([2, 4, 1, 6]))
    assert shared["mean"] == 13 / 4


def test_artificial_steps_and_resets_do_not_count_and_episodes_begin_at_0():
    piece = NormalizeReward(0.5)
    state = piece.initial_state(VECTOR, ACTION, 3)
    end = step_of([1.0, 2.0, 3.0], first=[True, False, False], terminated=[True, True, False])
    shared = piece.observe(state, end)
    state, _ = piece(replace(state, shared=shared), end)
    assert state.slots.tolist() == [0.0, 2.0, 3.0]
    artificial = step_of([0.0, 0.0, 3.0], first=[False, True, False], artificial=[False, True, False])
    shared = piece.observe(state, artificial)
    assert shared["count"] == 5
    assert shared["mean"] == pytest.approx((1 + 2 + 3 + 0 + 4.5) / 5)
    reset = step_of([0.0] * 3, first=[True] * 3)
    assert piece.observe(state, reset) == state.shared


def test_large_results_are_clipped():
    piece = NormalizeReward(0.0, clip=2.0)
    state = piece.initial_state(VECTOR, ACTION, 4)
    shared = piece.observe(state, step_of([-1.0, 1.0, -1.0, 1.0]))
    _, step = piece(replace(state, shared=shared), step_of([100.0, -100.0, 0.5, 0.0]))
    np.testing.assert_allclose(step.reward, [2.0, -2.0, 0.5, 0.0], rtol=1e-6)
    assert step.reward.dtype == np.float32


@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 50),
    st.sampled_from([(0, 1), (1000, 1), (-3, 1e-3), (1e5, 10)]),
)
def test_merged_statistics_are_those_of_one_pass(seed, num_runners, num_before, scale):
    random, piece = np.random.default_rng(seed), NormalizeReward(0.0)  # returns are rewards

    def seen(shared, num):
        state = replace(piece.initial_state(VECTOR, ACTION, 4), shared=shared)
        for _ in range(num):
            reward = (scale[0] + scale[1] * random.normal(size=4)).astype(np.float32)
            rewards.append(reward)
            state = replace(state, shared=piece.observe(state, step_of(reward)))
        return state.shared

    rewards = []
    base = seen(piece.initial_state(VECTOR, ACTION, 4).shared, num_before)
    for _ in range(3):
        base = piece.merge([seen(base, int(random.integers(0, 20))) for _ in range(num_runners)], base)
    everything = np.array(rewards, np.float64)
    assert base["count"] == everything.size
    if everything.size:
        assert base["mean"] == pytest.approx(everything.mean(), rel=1e-9, abs=1e-9)
        assert spread(base) == pytest.approx(everything.std(), rel=1e-6)


def test_behind_a_frame_stack_rollouts_still_carry_single_frames():
    runner = make_runner(ObservationIsTimeEnv, AutoresetMode.SAME_STEP, [FrameStack(4), NormalizeReward()])
    assert runner.sample().history is not None
    assert runner.policy.obs_chain.rebuilt_from(always=False) == 0


@pytest.mark.parametrize("settings", [{"gamma": 1.1}, {"clip": 0}, {"epsilon": -1.0}, {"gamma": None}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=f"NormalizeReward: {next(iter(settings))}: got"):
        NormalizeReward(**settings)
