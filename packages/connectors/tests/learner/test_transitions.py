import numpy as np
import torch
from gymnasium import spaces
from rollout_maker import make_rollout, random_rollout, real, true_next

from rl_connectors.learner._moments import add_rows, deviation, no_moments
from rl_connectors.learner._transitions import FlatFeatures, next_observations, real_steps, take_steps, with_bonus
from rl_core.env.spaces import flatten_batch

NESTED = spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple([spaces.Box(0, 255, (2,), np.uint8)])})


def test_next_observations_are_the_following_rows_but_at_the_end_of_episodes():
    rollout = make_rollout(np.arange(6).reshape(3, 2), finals=[((0, 1), np.int64(77))], terminated=[(0, 1)])
    assert next_observations(rollout).tolist() == [[2, 77], [4, 5]]
    assert rollout.obs.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_next_observations_of_nested_spaces_agree_with_looking_them_up():
    rollout = random_rollout(NESTED)
    found = next_observations(rollout)
    for t, b in real(rollout):
        expected = true_next(rollout, t, b)
        assert found["b"][t, b] == expected["b"]
        assert (found["a"][0][t, b] == expected["a"][0]).all()


def test_real_steps_leave_out_what_is_not_valid():
    rollout = make_rollout(np.arange(6).reshape(3, 2), invalid=[(0, 1), (1, 0)])
    assert real_steps(rollout).tolist() == [0, 3]
    assert take_steps(rollout.obs, real_steps(rollout)).tolist() == [0, 3]
    assert real_steps(make_rollout(np.arange(6).reshape(3, 2))).tolist() == [0, 1, 2, 3]


def test_a_bonus_goes_to_its_step_and_leaves_the_rollout_as_it_was():
    rollout = make_rollout(np.zeros((3, 2)), reward=np.ones((2, 2), np.float32))
    after = with_bonus(rollout, np.array([1, 2]), np.array([0.5, 2.0]))
    assert after.reward.tolist() == [[1.0, 1.5], [3.0, 1.0]]
    assert after.reward.dtype == torch.float32
    assert (rollout.reward == 1).all()


def test_features_are_the_flat_observations_with_bounded_numbers_scaled_to_one():
    low, high = np.float32([-1.2, -0.07, -np.inf, -3e38]), np.float32([0.6, 0.07, np.inf, 3e38])
    space = spaces.Tuple([spaces.Discrete(2), spaces.Box(low, high), spaces.MultiBinary(1)])
    batch = (np.array([1, 0]), np.stack([low, high]), np.array([[1], [0]], np.int8))
    batch[1][:, 2] = 5.0
    expected = [[0, 1, -1, -1, 5, -3e38, 1], [1, 0, 1, 1, 5, 3e38, 0]]
    np.testing.assert_allclose(FlatFeatures.of(space)(batch), expected, rtol=1e-5)


def test_features_keep_the_order_of_the_space():
    features = FlatFeatures.of(NESTED)
    batch = {"a": (np.array([[0, 255]], np.uint8),), "b": np.array([2])}
    unscaled = flatten_batch(NESTED, batch)
    assert (features(batch) > 0).tolist() == (unscaled > 0).tolist()
    assert sorted(features(batch)[0].tolist()) == [-1, 0, 0, 1, 1]


def test_moments_are_those_of_all_rows_together():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((100, 3)) * [1, 50, 0] + [1e3, 0, 7]).astype(np.float32)
    moments = no_moments(3)
    assert deviation(moments).tolist() == [1, 1, 1]
    for part in np.split(rows, [1, 1, 40, 99]):
        moments = add_rows(moments, part)
    np.testing.assert_allclose(moments["mean"], rows.mean(0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(deviation(moments)[:2], rows.std(0, dtype=np.float64)[:2], rtol=1e-6)
    assert deviation(moments)[2] == 1.0
