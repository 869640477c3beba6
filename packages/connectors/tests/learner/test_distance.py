import numpy as np
import pytest
from gymnasium import spaces
from rollout_maker import bonus_of, bound, make_rollout, random_rollout, real, true_next

from rl_connectors.learner.distance import DistanceCuriosity, nearest_distance
from rl_core.errors import ConfigError

LINE = spaces.Box(-np.inf, np.inf, (1,))


def line(*values):
    return make_rollout(np.array([0.0, *values]).reshape(-1, 1, 1))


def test_the_bonus_is_the_distance_to_the_nearest_stored_observation():
    piece, state = bound(DistanceCuriosity(0.5), LINE)
    state, after, report = piece(state, line(1.0, 4.0))
    assert after.reward.tolist() == [[0.0], [0.0]]  # nothing was stored before
    assert report["num_stored"] == 2
    _, after, _ = piece(state, line(2.0, 10.0, 4.0))
    assert after.reward.ravel().tolist() == [0.5, 3.0, 0.0]


def test_the_oldest_observations_are_forgotten():
    piece, state = bound(DistanceCuriosity(capacity=2), LINE)
    for values in ((1.0, 4.0), (6.0,)):
        state, _, _ = piece(state, line(*values))
    _, after, _ = piece(state, line(1.0))
    assert after.reward.item() == 3.0
    state, _, report = piece(state, line(*range(10, 20)))
    assert sorted(state["store"].ravel().tolist()) == [18.0, 19.0]
    assert report["num_stored"] == 2


def test_only_every_so_many_th_observation_is_stored_over_all_rollouts():
    piece, state = bound(DistanceCuriosity(add_every=3), LINE)
    for values in ((0, 1, 2, 3), (4, 5), (6, 7, 8, 9)):
        state, _, report = piece(state, line(*values))
    assert state["store"][:4].ravel().tolist() == [0, 3, 6, 9]
    assert report["num_stored"] == 4


def test_bounded_numbers_count_by_their_range():
    space = spaces.Box(np.float32([-1.2, -0.07]), np.float32([0.6, 0.07]))
    piece, state = bound(DistanceCuriosity(), space)
    state, _, _ = piece(state, make_rollout(np.tile(space.low, (2, 1, 1))))
    _, after, _ = piece(state, make_rollout(np.tile(space.high, (2, 1, 1))))
    assert after.reward.item() == pytest.approx(8**0.5, rel=1e-5)


@pytest.mark.parametrize("space", [spaces.Box(-3, 3, (2, 2)), spaces.Dict({"b": LINE, "a": spaces.Discrete(3)})])
def test_it_agrees_with_a_literal_search(space):
    piece, state = bound(DistanceCuriosity(capacity=50), space)
    stored = []
    for seed in range(3):
        rollout = random_rollout(space, seed=seed)
        state, after, _ = piece(state, rollout)
        bonus = bonus_of(rollout, after)
        vectors = [spaces.flatten(space, true_next(rollout, *step)) for step in real(rollout)]
        if not isinstance(space, spaces.Dict):
            vectors = [vector / 3 for vector in vectors]
        for step, vector in zip(real(rollout), vectors, strict=True):
            nearest = min((np.linalg.norm(vector - other) for other in stored[-50:]), default=0.0)
            assert bonus[step] == pytest.approx(nearest, abs=1e-5)
        stored += vectors


@pytest.mark.parametrize("size", [3, 100])
def test_chunks_do_not_change_the_distances(size, monkeypatch):
    rng = np.random.default_rng(0)
    vectors, known = (rng.standard_normal((count, size)).astype(np.float32) for count in (101, 57))
    whole = nearest_distance(vectors, known)
    monkeypatch.setattr("rl_connectors.learner.distance._CHUNK", 130)
    np.testing.assert_allclose(nearest_distance(vectors, known), whole, rtol=1e-4)
    expected = np.linalg.norm(vectors[:, None] - known[None], axis=-1).min(1)
    np.testing.assert_allclose(whole, expected, rtol=1e-4)


@pytest.mark.parametrize("size", [3, 100])
def test_what_all_vectors_share_costs_no_digits(size):
    rng = np.random.default_rng(1)
    vectors, known = (rng.standard_normal((count, size)).astype(np.float32) for count in (50, 30))
    shared = rng.uniform(-1e4, 1e4, size).astype(np.float32).round()
    moved, known_there = vectors + shared, known + shared
    expected = np.linalg.norm(moved[:, None].astype(np.float64) - known_there[None], axis=-1).min(1)
    np.testing.assert_allclose(nearest_distance(moved, known_there), expected, rtol=1e-3)


def test_vectors_far_apart_cost_no_digits_of_those_close_together():
    known = np.zeros((40, 3), np.float32)
    known[20:] = 1e6
    vectors = np.full((5, 3), 0.01, np.float32)
    np.testing.assert_allclose(nearest_distance(vectors, known), 0.01 * np.sqrt(3), rtol=1e-4)


@pytest.mark.parametrize("size", [3, 100])
def test_one_infinite_vector_does_not_spoil_the_others_distances(size):
    known = np.zeros((10, size), np.float32)
    known[0] = np.inf
    vectors = np.ones((4, size), np.float32)
    np.testing.assert_allclose(nearest_distance(vectors, known), np.sqrt(size), rtol=1e-5)
    assert not nearest_distance(vectors, known[:1]).any()


@pytest.mark.parametrize("settings", [{"coefficient": float("nan")}, {"capacity": 0}, {"add_every": 1.5}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"DistanceCuriosity: {next(iter(settings))}: got .* expected"):
        DistanceCuriosity(**settings)
