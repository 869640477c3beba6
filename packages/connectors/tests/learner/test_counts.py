import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from rollout_maker import bonus_of, bound, make_rollout, random_rollout, real, true_next

from rl_connectors.learner.counts import CountBasedCuriosity, count_visits
from rl_core.errors import ConfigError
from rl_core.tree import tree_leaves


def test_the_bonus_falls_with_the_square_root_of_the_visits():
    piece, state = bound(CountBasedCuriosity(coefficient=2.0), spaces.Discrete(5))
    rollout = make_rollout(np.array([[0, 0], [1, 1], [1, 4]]))
    state, after, report = piece(state, rollout)
    np.testing.assert_allclose(bonus_of(rollout, after), [[2, 2 / 2**0.5], [2 / 3**0.5, 2]], rtol=1e-6)
    assert state["counts"].tolist() == [0, 3, 0, 0, 1]
    assert report["num_states"] == 2
    _, after, _ = piece(state, rollout)
    np.testing.assert_allclose(bonus_of(rollout, after)[:, 0], [2 / 4**0.5, 2 / 6**0.5], rtol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(7, start=-2),
        spaces.MultiDiscrete([3, 2], start=[1, 5]),
        spaces.MultiBinary(3),
        spaces.Tuple([spaces.Discrete(3), spaces.Dict({"z": spaces.Discrete(2), "a": spaces.MultiBinary(1)})]),
    ],
)
def test_discrete_observations_are_counted_exactly_over_several_rollouts(space):
    piece, state = bound(CountBasedCuriosity(), space)
    visits = {}
    for seed in range(3):
        rollout = random_rollout(space, seed=seed)
        state, after, _ = piece(state, rollout)
        bonus = bonus_of(rollout, after)
        for step in real(rollout):
            key = tuple(str(leaf) for leaf in tree_leaves(true_next(rollout, *step)))
            visits[key] = visits.get(key, 0) + 1
            assert bonus[step] == pytest.approx(visits[key] ** -0.5, abs=1e-6)
    assert state["counts"].sum() == sum(visits.values())


@given(st.lists(st.lists(st.integers(0, 5), max_size=20), max_size=4))
def test_visits_are_counted_as_one_by_one(batches):
    counts, expected = np.zeros(6, np.int64), [0] * 6
    for batch in batches:
        numbers = count_visits(counts, np.array(batch, np.int64))
        for place, number in zip(batch, numbers.tolist(), strict=True):
            expected[place] += 1
            assert number == expected[place]
    assert counts.tolist() == expected


def test_near_observations_share_a_hash_and_far_ones_do_not():
    space = spaces.Box(np.float32([-1.2, -0.07]), np.float32([0.6, 0.07]))
    piece, state = bound(CountBasedCuriosity(hash_bits=12), space)
    near = np.zeros((4, 1, 2), np.float32) + np.float32([0.3, 0.01])
    near[:, 0, 0] += np.arange(4) * 1e-6
    rollout = make_rollout(near)
    _, after, report = piece(state, rollout)
    np.testing.assert_allclose(bonus_of(rollout, after).ravel(), [1, 2**-0.5, 3**-0.5], rtol=1e-5)
    assert report["num_states"] == 1
    _, _, report = piece(state, make_rollout(random_rollout(space).obs.numpy()))
    assert report["num_states"] > 20


def test_hashing_tells_vectors_of_one_direction_apart():
    piece, state = bound(CountBasedCuriosity(hash_bits=64), spaces.Box(-1, 1, (2,)))
    along = np.linspace(0.02, 1.0, 50, dtype=np.float32).reshape(-1, 1, 1) * np.float32([0.6, 0.8])
    _, _, report = piece(state, make_rollout(along))
    assert report["num_states"] >= 10


def test_too_many_combinations_are_hashed():
    piece, state = bound(CountBasedCuriosity(num_buckets=256), spaces.MultiDiscrete([1000, 1000, 1000]))
    assert state["counts"].shape == (256,)
    assert piece.sizes == ()


@pytest.mark.parametrize(
    "settings", [{"coefficient": -1.0}, {"hash_bits": 0}, {"hash_bits": 65}, {"hash_bits": True}, {"num_buckets": 0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"CountBasedCuriosity: {next(iter(settings))}: got .* expected"):
        CountBasedCuriosity(**settings)


def test_hashes_spread_over_the_buckets():
    piece, state = bound(CountBasedCuriosity(hash_bits=20, num_buckets=64), spaces.Box(-1, 1, (20,)))
    state, _, _ = piece(state, random_rollout(spaces.Box(-1, 1, (20,)), num_steps=1000, with_invalid=False))
    assert 15 < state["counts"].min()
    assert state["counts"].max() < 100
